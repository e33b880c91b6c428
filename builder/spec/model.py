"""The validated content of cluster.yml. Pure values; everything downstream trusts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """How to reach a host over SSH; a host's own settings win over the cluster's.

    `port` is a TCP port; `identity_file` a private key; `jump` a `[user@]host[:port]` to go
    through; `host_key` the pinned public key as in known_hosts (`ssh-ed25519 AAAA…`).
    """

    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    jump: str | None = None
    host_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Host:
    """One machine of the cluster. `address` is its IP address in the cluster's network."""

    name: str
    address: str
    roles: tuple[str, ...]
    ssh: Ssh = Ssh()


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Where hosts come from: `lab`, `vagrant` or `existing`, and that provider's own settings."""

    provider: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A mistake found after the schema: `path` leads to it in the document (keys and indexes)."""

    path: tuple[str | int, ...]
    message: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """What the user asked for.

    `sections` holds the normalised top-level sections that roles declare (`postgresql`, `haproxy`,
    …), with every default filled in. `path` is the absolute path of cluster.yml. `ssh` is how hosts
    are reached that say nothing of their own.
    """

    name: str
    machines: Machines
    hosts: Mapping[str, Host]
    sections: Mapping[str, Mapping[str, Any]]
    path: Path
    ssh: Ssh = Ssh()

    def with_role(self, role: str) -> tuple[Host, ...]:
        """The hosts that carry `role`, in the order of the file."""
        return tuple(host for host in self.hosts.values() if role in host.roles)
