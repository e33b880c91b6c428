"""Where each role keeps what must not get lost, best on a file system of its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from builder.spec.model import Host

_PATHS = {"etcd": "/var/lib/etcd", "patroni": "/var/lib/postgresql"}


def data(host: Host) -> Sequence[str]:
    return [_PATHS[role] for role in host.roles if role in _PATHS]
