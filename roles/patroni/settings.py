"""What cluster.yml says about PostgreSQL and Patroni, and what other roles need to know. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from builder.resources.sql import Server
from builder.role import Opening
from builder.spec.model import ClusterSpec, Host, Problem
from builder.spec.section import Section
from builder.spec.types import (
    cidr,
    identifier,
    integer,
    list_of,
    mapping_of,
    one_of,
    optional,
    path,
    port,
    required,
    scalar,
    table,
    text,
)

NAME = "patroni"
CA = "cluster"
CONFIG = "/etc/patroni"
TLS = "/etc/patroni/tls"
USER = "postgres"
SUPERUSER = "postgres"
REPLICATION = "replicator"
REWIND = "rewind"
REST_USER = "patroni"
CLIENTS = "pgha_clients"  # its members may come in through the balancers
OURS = frozenset({SUPERUSER, REPLICATION, REWIND, CLIENTS})
COPY_SECONDS = 6 * 3600  # that a replica's data may take to be copied
_LEAST_DEPTH = 3


def members(spec: ClusterSpec) -> tuple[Host, ...]:
    return spec.with_role(NAME)


def data_directory(spec: ClusterSpec) -> str:
    section = spec.sections["postgresql"]
    return str(section["data_directory"] or f"/var/lib/postgresql/{section['version']}/{spec.name}")


def server(spec: ClusterSpec) -> Server:
    return Server(port=spec.sections["postgresql"]["port"], data=data_directory(spec))


def openings(spec: ClusterSpec, host: Host) -> Iterable[Opening]:
    peers = tuple(h.address for h in members(spec))
    balancers = tuple(h.address for h in spec.with_role("haproxy"))
    direct = tuple(item["network"] for item in spec.sections["postgresql"]["access"])
    yield Opening(
        port=spec.sections["postgresql"]["port"],
        peers=tuple(dict.fromkeys(peers + balancers + direct)),
        what="PostgreSQL",
        address=host.address,
    )
    yield Opening(
        port=spec.sections["patroni"]["rest_port"],
        peers=tuple(dict.fromkeys(peers + balancers)),
        what="Patroni's REST API",
        address=host.address,
    )


def _check_postgresql(spec: ClusterSpec) -> Iterable[Problem]:
    if members(spec) and not spec.with_role("etcd"):
        yield Problem(
            path=("hosts",),
            message="hosts carry the role patroni, and none carries etcd",
            advice="Patroni keeps who is leader in etcd: give one, three or five hosts that role",
        )
    section = spec.sections["postgresql"]
    yield from _twice(section, "users")
    yield from _twice(section, "databases")
    users = {user["name"] for user in section["users"]} | {SUPERUSER}
    for index, user in enumerate(section["users"]):
        if user["name"] in OURS:
            yield Problem(
                path=("postgresql", "users", index, "name"),
                message=f"the user {user['name']} is the cluster's own",
                advice="choose another name",
            )
    for index, database in enumerate(section["databases"]):
        if database["owner"] not in users:
            yield Problem(
                path=("postgresql", "databases", index, "owner"),
                message=f"the owner {database['owner']} is not among postgresql.users",
            )
    if (where := section["data_directory"]) and where.count("/") < _LEAST_DEPTH:
        yield Problem(
            path=("postgresql", "data_directory"),
            message=f"the folder above {where} would be given to the user postgres",
            advice="put it two folders deeper, such as /data/postgresql/17",
        )
    yield from _not_to_be_set(section["parameters"])


def _not_to_be_set(parameters: Iterable[str]) -> Iterable[Problem]:
    for name in parameters:
        path = ("postgresql", "parameters", name)
        if name in _MANAGED:
            message = f"{name} is set by pgha-build: {_MANAGED[name]}"
            yield Problem(path=path, message=message)
        elif name in _LOSES_DATA:
            yield Problem(
                path=path,
                message=f"{name} is left as PostgreSQL has it: {_LOSES_DATA[name]}",
                advice="take it out",
            )
        elif name in _RECOVERY:
            yield Problem(
                path=path,
                message=f"{name} is about recovery, which Patroni steers: it would drop it",
                advice="take it out",
            )


def _twice(section: Any, key: str) -> Iterable[Problem]:
    seen: set[str] = set()
    for index, item in enumerate(section[key]):
        if item["name"] in seen:
            yield Problem(
                path=("postgresql", key, index, "name"),
                message=f"{item['name']} is listed twice",
            )
        seen.add(item["name"])


_MANAGED = {
    "port": "use postgresql.port",
    "listen_addresses": "the host's own address and loopback",
    "ssl": "always on",
    "ssl_cert_file": "the cluster's own certificates",
    "ssl_key_file": "the cluster's own certificates",
    "ssl_ca_file": "the cluster's own certificates",
    "password_encryption": "always scram-sha-256",
    "synchronous_commit": "use failover.synchronous",
    "synchronous_standby_names": "Patroni sets it; use failover.synchronous",
    "primary_conninfo": "Patroni sets it",
    "hot_standby": "Patroni needs it on",
    "cluster_name": "Patroni sets it",
    "wal_log_hints": "pg_rewind needs it on",
    "data_directory": "use postgresql.data_directory",
    "config_file": "Patroni writes it into the data directory",
    "hba_file": "Patroni writes it into the data directory; use postgresql.access",
    "ident_file": "Patroni writes it into the data directory",
    "external_pid_file": "the one in the data directory is read",
    "unix_socket_directories": "/var/run/postgresql, where Patroni and pgha-build ask",
}
_LOSES_DATA = {
    "fsync": "off, a host that crashes comes back with damaged data",
    "full_page_writes": "off, a host that crashes comes back with damaged data",
    "data_sync_retry": "on, a write that the disk refused may count as done",
    "zero_damaged_pages": "on, rows that cannot be read are destroyed",
    "ignore_checksum_failure": "on, damaged data is served, and copied to replicas",
}
# Patroni leaves them out of what it writes (its available_parameters, recovery_parameters).
_RECOVERY = frozenset(
    {
        "archive_cleanup_command",
        "primary_slot_name",
        "promote_trigger_file",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "recovery_target",
        "recovery_target_action",
        "recovery_target_inclusive",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_timeline",
        "recovery_target_xid",
        "restore_command",
    }
)
NOT_TO_BE_SET = frozenset(_MANAGED) | frozenset(_LOSES_DATA)


_USER = table(
    {
        "name": required(identifier("Name of the role.")),
        "options": list_of(
            one_of(("createdb", "createrole", "superuser", "replication"), None, "An attribute."),
            "What it may do besides logging in.",
        ),
        "member_of": list_of(
            text("A role.", pattern=r"[a-z_][a-z0-9_]{0,62}"),
            "Roles that it is granted. One that leaves the list is revoked; others' grants stay.",
        ),
        "connection_limit": integer(
            "Most connections at a time; -1 is no limit.", default=-1, least=-1, most=100000
        ),
    },
    "A login role.",
)

_DATABASE = table(
    {
        "name": required(identifier("Name of the database.")),
        "owner": identifier("The role that owns it.", default=SUPERUSER),
        "extensions": list_of(
            text("An extension.", pattern=r"[a-z][a-z0-9_-]{0,62}"), "Extensions to create in it."
        ),
    },
    "A database.",
)

_ACCESS = table(
    {
        "user": required(identifier("Who.")),
        "database": required(identifier("Which database.")),
        "network": required(cidr("From where.")),
    },
    "A way in.",
)

POSTGRESQL = Section(
    doc="PostgreSQL itself, and what lives inside of it.",
    schema={
        "version": integer(
            "Major version. Debian 13 has 17, Debian 12 has 15.", default=17, least=14, most=18
        ),
        "port": port(5432, "TCP port on each database host; clients use the virtual IP instead."),
        "data_directory": optional(
            path(
                "Where the data is; else in /var/lib/postgresql/VERSION/NAME. The folder above it "
                "will belong to the user postgres. It cannot be changed later."
            )
        ),
        "parameters": mapping_of(
            text("A parameter.", pattern=r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?"),
            scalar("Its value."),
            "PostgreSQL's parameters, the same on every host, in Patroni's dynamic configuration. "
            "apply refuses a name that the server does not know; an extension's, with a dot in it, "
            "is not looked up.",
        ),
        "users": list_of(
            _USER,
            "Login roles. Each gets a generated password, kept in the secrets file, and may come "
            "in through the balancers only.",
        ),
        "databases": list_of(
            _DATABASE,
            "Databases. One that leaves the list stays on the server: a line deleted from a file "
            "must not delete data.",
        ),
        "access": list_of(
            _ACCESS,
            "Clients that may reach the database hosts directly, past the balancers (over TLS, "
            "with a password).",
        ),
    },
    check=_check_postgresql,
)

PATRONI = Section(
    doc="Patroni. Its timings follow from `failover.preset`.",
    schema={
        "rest_port": port(8008, "TCP port of the REST API that HAProxy asks."),
        "watchdog": one_of(
            ("automatic", "required", "off"),
            "automatic",
            "Whether the kernel's watchdog resets a leader that hangs: where there is a device, "
            "always (no leader without it), or never.",
        ),
        "pypi_version": optional(
            text(
                "Take Patroni from PyPI in this version, into a virtual environment of its own; "
                "otherwise it is the hosts' package. PyPI's mirror is `packages.python_index`.",
                pattern=r"[0-9]+\.[0-9]+\.[0-9]+",
                expects="a version such as `4.1.5`",
                longest=30,
            )
        ),
    },
)
