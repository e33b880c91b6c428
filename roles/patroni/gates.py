"""What is waited for between the steps of a cluster's PostgreSQL, in this order. Pure.

Each waits for as little as what comes behind it needs: a wait for something that a step behind it
would mend never ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from builder.resources.base import address
from builder.resources.database import Database
from builder.resources.database_role import DatabaseRole
from builder.resources.gate import Gate
from builder.spec.model import ClusterSpec
from roles.patroni import ask
from roles.patroni.settings import COPY_SECONDS, REPLICATION, REWIND, SUPERUSER, members


def configured(spec: ClusterSpec) -> Gate:
    """No PostgreSQL need run: it may be the configuration that keeps it from starting."""
    gate = _gate(spec, "configuration", "Patroni answers with its configuration", _units(spec))
    return replace(gate, condition=ask.configured(spec))


def led(spec: ClusterSpec) -> Gate:
    """What is changed on the leader waits for no replica: it may be what a replica waits for."""
    config = address(_hosts(spec), "patroni_config", spec.name)
    gate = _gate(spec, "leader", "a leader is elected and promoted", (*_units(spec), config))
    return replace(gate, condition=ask.led(spec), mended_first=logins(spec))


def whole(spec: ClusterSpec, needs: tuple[str, ...]) -> Gate:
    """Passed when there is one leader, and as many streaming replicas as there are other hosts.

    Needs the roles that replicas log in by.
    """
    gate = _gate(spec, "patroni", "every replica streams from the leader", needs)
    return replace(gate, condition=ask.complete(spec), longest_seconds=COPY_SECONDS)


def spare(spec: ClusterSpec, needs: tuple[str, ...]) -> Iterable[Gate]:
    """An apply ends when the leader can be spared, not before."""
    if spec.sections["failover"]["synchronous"] and len(members(spec)) > 1:
        gate = _gate(spec, "synchronous", "a replica is synchronous", needs)
        yield replace(gate, condition=ask.can_spare_the_leader(spec), timeout_seconds=120)


def _gate(spec: ClusterSpec, name: str, what: str, needs: tuple[str, ...]) -> Gate:
    """Its condition is for the caller to say."""
    return Gate(
        hosts=_hosts(spec),
        name=name,
        what=what,
        condition="false",
        needs=needs,
        units=("patroni",),
        timeout_seconds=300,
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
