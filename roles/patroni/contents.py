"""What the cluster as a whole must have: dynamic configuration, roles, databases. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from builder.errors import PlanError
from builder.resources.base import Resource, address
from builder.resources.database import Database, Extension
from builder.resources.database_role import DatabaseRole
from builder.resources.patroni_config import PatroniConfig, RestApi
from builder.resources.sql import identifier, literal
from builder.resources.steps import Step
from builder.role import Secrets
from builder.security.scram import verifier
from builder.security.secret import Secret
from builder.spec.model import ClusterSpec
from roles.patroni import gates
from roles.patroni.ask import complete, gives_lead_away, turn
from roles.patroni.dynamic import dynamic_config, parameters
from roles.patroni.parameters import NOT_TO_BE_SET
from roles.patroni.running import RunningPostgresql
from roles.patroni.settings import (
    CLIENTS,
    OURS,
    REPLICATION,
    REST_USER,
    REWIND,
    SUPERUSER,
    TLS,
    data_directory,
    members,
    server,
)

# As initdb makes it.
_SUPERUSERS = ("login", "superuser", "createdb", "createrole", "replication", "bypassrls")
# What pg_rewind reads the leader's files by (its docs, Notes); no superuser is needed then.
_REWIND_READS_BY = (
    "pg_ls_dir(text,boolean,boolean)",
    "pg_stat_file(text,boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text,bigint,bigint,boolean)",
)


def contents(spec: ClusterSpec, secrets: Secrets) -> Iterable[Resource]:
    configured, led = gates.configured(spec), gates.led(spec)
    config = PatroniConfig(
        hosts=_hosts(spec),
        name=spec.name,
        config=dynamic_config(spec),
        api=api(spec, secrets),
        needs=(configured.address,),
    )
    ready = (led.address,)
    own = list(_own(spec, secrets, ready))
    whole = gates.whole(spec, (*ready, *(role.address for role in own)))
    running = list(_running(spec, config, (config.address, whole.address)))
    yield from (configured, config, led, *own, whole, *running)
    yield from gates.spare(spec, tuple(item.address for item in running))
    users = list(_users(spec, secrets, ready))
    yield from users
    yield from _databases(spec, {role.name: role.address for role in (*own, *users)}, ready)


def _running(
    spec: ClusterSpec, config: PatroniConfig, needs: tuple[str, ...]
) -> Iterable[RunningPostgresql]:
    for host in members(spec):
        yield RunningPostgresql(
            hosts=(host.name,),
            name=host.name,
            api=config.api,
            server=server(spec),
            managed=NOT_TO_BE_SET | parameters(spec).keys(),
            leaves=gives_lead_away(spec, host),
            complete=complete(spec),
            last=turn(spec, host),
            alone=len(members(spec)) == 1,
            needs=needs,
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


def _own(spec: ClusterSpec, secrets: Secrets, ready: tuple[str, ...]) -> Iterable[DatabaseRole]:
    """The roles that Patroni makes at the cluster's birth: kept as they must be from then on.

    A cluster that was adopted has these only from here.
    """
    flags: Mapping[str, tuple[str, tuple[str, ...]]] = {
        "superuser": (SUPERUSER, _SUPERUSERS),
        "replication": (REPLICATION, ("login", "replication")),
        "rewind": (REWIND, ("login",)),
    }
    for secret, (name, options) in flags.items():
        reads = _REWIND_READS_BY if name == REWIND else ()
        yield _role(
            spec, secrets, ready, name=name, secret=secret, flags=options, may_execute=reads
        )
    yield DatabaseRole(hosts=_hosts(spec), name=CLIENTS, server=server(spec), flags=(), needs=ready)


def _users(spec: ClusterSpec, secrets: Secrets, ready: tuple[str, ...]) -> Iterable[DatabaseRole]:
    """A role comes after those that it is granted."""
    named = [user["name"] for user in spec.sections["postgresql"]["users"]]
    users = {name: address(_hosts(spec), DatabaseRole.kind, name) for name in named}
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
            needs=(*ready, *(users[group] for group in user["member_of"] if group in users)),
            connection_limit=user["connection_limit"],
        )


def own_passwords(
    spec: ClusterSpec, secrets: Secrets, others: Iterable[str] = ()
) -> Sequence[Step]:
    """Tell the database every password of ours, on the leader.

    `others` are users that cluster.yml does not name: they are told theirs if they are there.
    """
    roles = [*_own(spec, secrets, ()), *_users(spec, secrets, ())]
    more = sorted(set(others) - {role.name for role in roles})
    return [
        *(step for role in roles for step in role.password_steps()),
        *(_told_if_there(spec, secrets, name) for name in more),
    ]


def own_grants(spec: ClusterSpec, secrets: Secrets) -> Step:
    """Let pg_rewind read, on the leader."""
    grants = [line for role in _own(spec, secrets, ()) for line in role.execution_grants()]
    return server(spec).change("\n".join(grants))


def _told_if_there(spec: ClusterSpec, secrets: Secrets, name: str) -> Step:
    password = _verifier(secrets, f"user-{name}").reveal()
    statement = f"ALTER ROLE {identifier(name)} PASSWORD {literal(password)}"
    return server(spec).change(
        f"DO $$BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(name)}) "
        f"THEN {statement}; END IF; END$$;"
    )


# ── beside what cluster.yml names ───────────────────────────────────────────────────────────────
def further_role(
    spec: ClusterSpec,
    secrets: Secrets,
    name: str,
    *,
    login: bool = True,
    options: Sequence[str] = (),
    member_of: Sequence[str] = (),
    connection_limit: int = -1,
) -> DatabaseRole:
    """One that may log in gets a password, and comes in through the balancers."""
    _refuse_known(name, {user["name"] for user in spec.sections["postgresql"]["users"]} | OURS)
    return DatabaseRole(
        hosts=_hosts(spec),
        name=name,
        server=server(spec),
        verifier=_verifier(secrets, f"user-{name}") if login else None,
        flags=(*(("login",) if login else ()), *options),
        member_of=(*member_of, *((CLIENTS,) if login else ())),
        connection_limit=connection_limit,
    )


def further_database(
    spec: ClusterSpec, name: str, *, owner: str = SUPERUSER, extensions: Sequence[str] = ()
) -> Sequence[Resource]:
    _refuse_known(name, {item["name"] for item in spec.sections["postgresql"]["databases"]})
    hosts, where = _hosts(spec), server(spec)
    return (
        Database(hosts=hosts, name=name, owner=owner, server=where),
        *(Extension(hosts=hosts, name=f"{name}/{item}", server=where) for item in extensions),
    )


def _refuse_known(name: str, known: Collection[str]) -> None:
    if name in known:
        raise PlanError(
            f"{name} belongs to cluster.yml, or to the cluster itself",
            why="Two would decide what it is.",
            do="Take it out of cluster.yml first, or choose another name.",
        )


def _hosts(spec: ClusterSpec) -> tuple[str, ...]:
    return tuple(host.name for host in members(spec))


def _verifier(secrets: Secrets, secret: str) -> Secret:
    return verifier(secrets.password(secret), salt=secrets.salt(secret))


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
        hosts=_hosts(spec),
        name=name,
        server=server(spec),
        verifier=_verifier(secrets, secret),
        **{"needs": ready, **options},
    )


def _databases(
    spec: ClusterSpec, roles: Mapping[str, str], ready: tuple[str, ...]
) -> Iterable[Resource]:
    for wanted in spec.sections["postgresql"]["databases"]:
        database = Database(
            hosts=_hosts(spec),
            name=wanted["name"],
            owner=wanted["owner"],
            server=server(spec),
            needs=(*ready, roles[wanted["owner"]]),
        )
        yield database
        for extension in wanted["extensions"]:
            yield Extension(
                hosts=_hosts(spec),
                name=f"{wanted['name']}/{extension}",
                server=server(spec),
                needs=(*ready, database.address),
            )
