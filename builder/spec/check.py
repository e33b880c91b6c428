"""Rules across hosts that no schema can say. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from builder.spec.model import ClusterSpec, Host, Problem


def check_hosts(spec: ClusterSpec) -> Iterator[Problem]:
    """Every address belongs to one host; every role stands once per host.

    Names need no check: they are keys, and lower case by their pattern.
    """
    first: dict[str, str] = {}
    for host in spec.hosts.values():
        other = first.setdefault(host.address, host.name)
        if other != host.name:
            message = f"{host.address} is already the address of {other}"
            yield Problem(path=("hosts", host.name, "address"), message=message)
        yield from _repeated_roles(host)


def _repeated_roles(host: Host) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, role in enumerate(host.roles):
        if role in seen:
            yield Problem(
                path=("hosts", host.name, "roles", index),
                message=f"{host.name} has the role {role} already",
                advice="remove one of the two",
            )
        seen.add(role)
