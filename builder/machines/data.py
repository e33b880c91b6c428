"""Where each role keeps what must not get lost, best on a file system of its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from builder.spec.model import Host

_PATHS = {"etcd": "/var/lib/etcd", "patroni": "/var/lib/postgresql"}


def data(host: Host, directory: str | None = None) -> Sequence[str]:
    """`directory` is PostgreSQL's, where cluster.yml says another than Debian's."""
    paths = {**_PATHS, "patroni": directory} if directory else _PATHS
    return [paths[role] for role in host.roles if role in paths]
