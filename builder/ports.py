"""Two roles that want one port on one address of one host, or a role that wants SSH's. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.engine.desired import listening
from builder.role import Role
from builder.spec.model import ClusterSpec, Problem


def collisions(spec: ClusterSpec, roles: Mapping[str, Role]) -> Iterator[Problem]:
    for host in spec.hosts.values():
        taken: dict[tuple[str, int], str] = {}
        ssh = host.ssh.port or 22
        for opening in listening(spec, roles, host):
            if opening.protocol != "tcp":
                continue
            if opening.port == ssh:
                yield Problem(
                    path=("hosts", host.name),
                    message=f"{opening.what} wants port {ssh}, at which SSH is",
                    advice="give it another: the packet filter would close it to you",
                )
            other = taken.setdefault((opening.address, opening.port), opening.what)
            if other != opening.what:
                yield Problem(
                    path=("hosts", host.name),
                    message=f"{opening.what} and {other} both want "
                    f"{opening.address}:{opening.port}",
                    advice="give one of them another port, or another host",
                )
