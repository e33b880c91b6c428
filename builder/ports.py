"""Two roles that want one port on one address of one host. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.engine.desired import listening
from builder.role import Role
from builder.spec.model import ClusterSpec, Problem


def collisions(spec: ClusterSpec, roles: Mapping[str, Role]) -> Iterator[Problem]:
    for host in spec.hosts.values():
        taken: dict[tuple[str, int], str] = {}
        for opening in listening(spec, roles, host):
            if opening.protocol != "tcp":
                continue
            other = taken.setdefault((opening.address, opening.port), opening.what)
            if other != opening.what:
                yield Problem(
                    path=("hosts", host.name),
                    message=f"{opening.what} and {other} both want "
                    f"{opening.address}:{opening.port}",
                    advice="give one of them another port, or another host",
                )
