"""The seam between the engine and SSH: values and protocols, no IO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from builder.errors import TransportError


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How to reach one host.

    `host_keys` are public keys in known_hosts form (`ssh-ed25519 AAAA…`) that the host may show;
    where empty, `known_hosts` files decide (default: the user's and the system's). A key that is
    neither is refused. `user` other than root needs `sudo`.
    """

    host: str
    address: str
    port: int = 22
    user: str = "root"
    identity_files: tuple[Path, ...] = ()
    host_keys: tuple[str, ...] = ()
    known_hosts: tuple[Path, ...] = ()
    jump: Endpoint | None = None  # the host to go through, which may have one, too
    agent: bool = True
    ssh_config: Path | None = None  # where OpenSSH looks hosts up; None: its usual places
    sudo_password: Callable[[], str] | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a script said. `seconds` is wall-clock time."""

    status: int
    stdout: str
    stderr: str
    seconds: float


class Held(Protocol):
    """A script that runs as long as the connection and we do (the lock)."""

    first_line: str

    @property
    def lost(self) -> bool:
        """It runs no more, or has not heard from us for so long that it must have ended."""

    @property
    def reachable(self) -> bool:
        """The connection to its host still stands."""

    def release(self) -> None:
        """End the script and wait for it."""


class Connection(Protocol):
    """One host, reached. Thread-safe: several scripts may run at once."""

    host: str

    def run(
        self,
        script: str,
        *,
        timeout_seconds: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a POSIX shell script as root; it travels over stdin, never in argv.

        `on_line` sees each line of stdout as it comes. Raises ConnectionLost, CommandTimeout.
        """

    def hold(self, script: str, *, timeout_seconds: float) -> Held:
        """Start `script`, wait for its first line of stdout, and keep it running.

        Its stdin stays open and receives a newline every ten seconds, so that it can notice a
        controller that is gone: it must end when stdin ends or stays silent for a minute.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Connections(dict[str, "Connection | TransportError"], ABC):
    """Hosts by name, each connected or the reason why not; more can be added."""

    @abstractmethod
    def reach(self, endpoints: Mapping[str, Endpoint], timeout_seconds: float = 15) -> None:
        """Connect to these, too, in parallel."""

    def renew(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Connect again to those of these whose connection does not stand."""
        lost = {host: e for host, e in endpoints.items() if not self._stands(host)}
        for host in lost.keys() & self.keys():
            self.drop(host)
        self.reach(lost)

    def _stands(self, host: str) -> bool:
        """As far as is known: a host that vanished without a word is noticed when it is asked."""
        return host in self.reached()

    def drop(self, host: str) -> None:
        """Let go of a host that is no concern of ours."""
        connection = self.pop(host)
        if not isinstance(connection, TransportError):
            connection.close()

    def reached(self) -> Mapping[str, Connection]:
        """Those that are connected by now."""
        return {host: c for host, c in self.items() if not isinstance(c, TransportError)}
