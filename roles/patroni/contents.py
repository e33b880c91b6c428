"""What the cluster as a whole must have: dynamic configuration, roles, databases. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder.resources.base import Resource
from builder.resources.database import Database, Extension
from builder.resources.database_role import DatabaseRole
from builder.resources.gate import Gate
from builder.resources.patroni_config import PatroniConfig, RestApi
from builder.resources.steps import Step
from builder.role import Secrets
from builder.security.scram import verifier
from builder.spec.model import ClusterSpec
from roles.patroni.ask import can_spare_the_leader, complete, gives_lead_away, turn
from roles.patroni.dynamic import dynamic_config
from roles.patroni.running import RunningPostgresql
from roles.patroni.settings import (
    REPLICATION,
    REST_USER,
    REWIND,
    SUPERUSER,
    TLS,
    data_directory,
    members,
    server,
)


def contents(spec: ClusterSpec, secrets: Secrets) -> Iterable[Resource]:
    hosts = tuple(host.name for host in members(spec))
    members_up = _gate(spec, hosts)
    yield members_up
    ready = (members_up.address,)
    config = PatroniConfig(
        hosts=hosts,
        name=spec.name,
        config=dynamic_config(spec),
        api=api(spec, secrets),
        needs=ready,
    )
    yield config
    running = list(_running(spec, config))
    yield from running
    yield from _spare(spec, (config.address, *(item.address for item in running)))
    users = [*_own(spec, secrets, ready), *_users(spec, secrets, ready)]
    yield from users
    yield from _databases(spec, hosts, {user.name: user.address for user in users}, ready)


def _running(spec: ClusterSpec, config: PatroniConfig) -> Iterable[RunningPostgresql]:
    for host in members(spec):
        yield RunningPostgresql(
            hosts=(host.name,),
            name=host.name,
            api=config.api,
            leaves=gives_lead_away(spec, host),
            complete=complete(spec),
            last=turn(spec, host),
            alone=len(members(spec)) == 1,
            needs=(config.address,),
        )


def api(spec: ClusterSpec, secrets: Secrets) -> RestApi:
    port = spec.sections["patroni"]["rest_port"]
    return RestApi(
        urls={host.name: f"https://{host.address}:{port}" for host in members(spec)},
        ca=f"{TLS}/ca.crt",
        certificate=f"{TLS}/server.crt",
        key=f"{TLS}/server.key",
        data=data_directory(spec),
        user=REST_USER,
        password=secrets.password("rest"),
    )


def _gate(spec: ClusterSpec, hosts: tuple[str, ...]) -> Gate:
    """Passed when there is one leader, and as many streaming replicas as there are other hosts."""
    return Gate(
        hosts=hosts,
        name="patroni",
        what="a leader is elected and every replica streams",
        condition=complete(spec),
        needs=tuple(f"{host}/unit:patroni.service" for host in hosts),
        units=("patroni",),
        timeout_seconds=300,
    )


def _spare(spec: ClusterSpec, needs: tuple[str, ...]) -> Iterable[Gate]:
    """An apply ends when the leader can be spared, not before."""
    if spec.sections["failover"]["synchronous"] and len(members(spec)) > 1:
        yield Gate(
            hosts=tuple(host.name for host in members(spec)),
            name="synchronous",
            what="a replica is synchronous",
            condition=can_spare_the_leader(spec),
            needs=needs,
            units=("patroni",),
            timeout_seconds=120,
        )


def _own(spec: ClusterSpec, secrets: Secrets, ready: tuple[str, ...]) -> Iterable[DatabaseRole]:
    """The roles that Patroni makes at the cluster's birth: kept as they must be from then on."""
    flags: Mapping[str, tuple[str, tuple[str, ...]]] = {
        "superuser": (SUPERUSER, ("login", "superuser", "createdb", "createrole", "replication")),
        "replication": (REPLICATION, ("login", "replication")),
        "rewind": (REWIND, ("login",)),
    }
    for secret, (name, options) in flags.items():
        yield _role(spec, secrets, ready, name=name, secret=secret, flags=options)


def _users(spec: ClusterSpec, secrets: Secrets, ready: tuple[str, ...]) -> Iterable[DatabaseRole]:
    for user in spec.sections["postgresql"]["users"]:
        name = user["name"]
        yield _role(
            spec,
            secrets,
            ready,
            name=name,
            secret=f"user-{name}",
            flags=("login", *user["options"]),
            member_of=tuple(user["member_of"]),
            connection_limit=user["connection_limit"],
        )


def own_passwords(spec: ClusterSpec, secrets: Secrets) -> Sequence[Step]:
    """Tell the database every password of ours, on the leader."""
    roles = [*_own(spec, secrets, ()), *_users(spec, secrets, ())]
    return [step for role in roles for step in role.password_steps()]


def _role(
    spec: ClusterSpec,
    secrets: Secrets,
    ready: tuple[str, ...],
    *,
    name: str,
    secret: str,
    **options: Any,
) -> DatabaseRole:
    return DatabaseRole(
        hosts=tuple(host.name for host in members(spec)),
        name=name,
        server=server(spec),
        verifier=verifier(secrets.password(secret), salt=secrets.salt(secret)),
        needs=ready,
        **options,
    )


def _databases(
    spec: ClusterSpec, hosts: tuple[str, ...], users: Mapping[str, str], ready: tuple[str, ...]
) -> Iterable[Resource]:
    for wanted in spec.sections["postgresql"]["databases"]:
        database = Database(
            hosts=hosts,
            name=wanted["name"],
            owner=wanted["owner"],
            server=server(spec),
            needs=(*ready, users[wanted["owner"]]),
        )
        yield database
        for extension in wanted["extensions"]:
            yield Extension(
                hosts=hosts,
                name=f"{wanted['name']}/{extension}",
                server=server(spec),
                needs=(database.address,),
            )
