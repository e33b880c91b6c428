"""What is waited for between the steps of a cluster's PostgreSQL, in this order. Pure.

Each waits for as little as what comes behind it needs: a wait for something that a step behind it
would mend never ends.
"""

from __future__ import annotations

from collections.abc import Iterable

from builder.resources.base import address
from builder.resources.database import Database
from builder.resources.database_role import DatabaseRole
from builder.resources.gate import Gate
from builder.spec.model import ClusterSpec
from roles.patroni import ask
from roles.patroni.settings import COPY_SECONDS, REPLICATION, REWIND, SUPERUSER, members


def configured(spec: ClusterSpec) -> Gate:
    """No PostgreSQL need run: it may be the configuration that keeps it from starting."""
    return Gate(
        hosts=_hosts(spec),
        name="configuration",
        what="Patroni answers with its configuration",
        condition=ask.configured(spec),
        needs=_units(spec),
        units=("patroni",),
        timeout_seconds=300,
    )


def led(spec: ClusterSpec) -> Gate:
    """What is changed on the leader waits for no replica: it may be what a replica waits for."""
    config = address(_hosts(spec), "patroni_config", spec.name)
    return Gate(
        hosts=_hosts(spec),
        name="leader",
        what="a leader is elected and promoted",
        condition=ask.led(spec),
        needs=(*_units(spec), config),
        mended_first=logins(spec),
        units=("patroni",),
        timeout_seconds=300,
    )


def whole(spec: ClusterSpec, needs: tuple[str, ...]) -> Gate:
    """Passed when there is one leader, and as many streaming replicas as there are other hosts.

    Needs the roles that replicas log in by.
    """
    return Gate(
        hosts=_hosts(spec),
        name="patroni",
        what="every replica streams from the leader",
        condition=ask.complete(spec),
        needs=needs,
        units=("patroni",),
        timeout_seconds=300,
        longest_seconds=COPY_SECONDS,
    )


def spare(spec: ClusterSpec, needs: tuple[str, ...]) -> Iterable[Gate]:
    """An apply ends when the leader can be spared, not before."""
    if spec.sections["failover"]["synchronous"] and len(members(spec)) > 1:
        yield Gate(
            hosts=_hosts(spec),
            name="synchronous",
            what="a replica is synchronous",
            condition=ask.can_spare_the_leader(spec),
            needs=needs,
            units=("patroni",),
            timeout_seconds=120,
        )


def logins(spec: ClusterSpec) -> tuple[str, ...]:
    """The addresses of the roles that members log in to each other by."""
    names = (SUPERUSER, REPLICATION, REWIND)
    return tuple(address(_hosts(spec), DatabaseRole.kind, name) for name in names)


def on_the_leader(spec: ClusterSpec) -> tuple[str, ...]:
    """The addresses of all roles and databases: what is done while nobody restarts the leader."""
    section, hosts = spec.sections["postgresql"], _hosts(spec)
    users = (address(hosts, DatabaseRole.kind, user["name"]) for user in section["users"])
    databases = (address(hosts, Database.kind, item["name"]) for item in section["databases"])
    return (*logins(spec), *users, *databases)


def _hosts(spec: ClusterSpec) -> tuple[str, ...]:
    return tuple(host.name for host in members(spec))


def _units(spec: ClusterSpec) -> tuple[str, ...]:
    return tuple(f"{host}/unit:patroni.service" for host in _hosts(spec))
