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
from roles.patroni.parameters import problems

NAME = "patroni"
CA = "cluster"
CONFIG = "/etc/patroni"
TLS = "/etc/patroni/tls"
USER = "postgres"
SUPERUSER = "postgres"
REPLICATION = "replicator"
ENVIRONMENT = "/opt/pgha-build/patroni"  # of a Patroni that comes from PyPI
REWIND = "rewind"
REST_USER = "patroni"
CLIENTS = "pgha_clients"  # its members may come in through the balancers
OURS = frozenset({SUPERUSER, REPLICATION, REWIND, CLIENTS})
COPY_SECONDS = 6 * 3600  # that a replica's data may take to be copied
_SYSTEM = frozenset(
    "bin boot dev etc home lib lib32 lib64 proc root run sbin sys tmp".split()  # noqa: SIM905
)
_SYSTEMS_VAR = frozenset("backups cache lock log mail run spool tmp".split())  # noqa: SIM905
# What pg_hba.conf or SQL takes for something else than a name.
_WORDS = {
    "users": {"all", "public", "none"},
    "databases": {"all", "sameuser", "samerole", "samegroup", "replication"},
}


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
    for key, words in _WORDS.items():
        for index, item in enumerate(section[key]):
            if item["name"] in words:
                yield Problem(
                    path=("postgresql", key, index, "name"),
                    message=f"{item['name']} is a word of pg_hba.conf or SQL, and no name",
                    advice="choose another name",
                )
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
    if (where := section["data_directory"]) and _system_folder(where.rpartition("/")[0]):
        yield Problem(
            path=("postgresql", "data_directory"),
            message=f"the folder above {where} would be given to the user postgres",
            advice="put it deeper, such as /data/postgresql/17 or /var/lib/postgresql/17/main",
        )
    yield from problems(section["parameters"])


def _system_folder(folder: str) -> bool:
    """May others need it? /var/lib/NAME and what is below it are one service's own."""
    top, below, name = (*folder.split("/")[1:], "", "", "")[:3]
    if top == "usr":
        return below != "local" or not name
    if top == "var":
        return below in _SYSTEMS_VAR or (below in {"lib", "local", "opt"} and not name)
    return top in _SYSTEM or not below


def _twice(section: Any, key: str) -> Iterable[Problem]:
    seen: set[str] = set()
    for index, item in enumerate(section[key]):
        if item["name"] in seen:
            yield Problem(
                path=("postgresql", key, index, "name"),
                message=f"{item['name']} is listed twice",
            )
        seen.add(item["name"])


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
            text("An extension.", pattern=r"[a-z][a-z0-9_-]{0,62}"),
            "Extensions to create in it. What PostgreSQL's own package lacks is for you to install "
            "first, on every database host.",
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
                "will belong to the user postgres, and is none of the system's. It cannot be "
                "changed later."
            )
        ),
        "parameters": mapping_of(
            text("A parameter.", pattern=r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?"),
            scalar("Its value."),
            "PostgreSQL's parameters, the same on every host, in Patroni's dynamic configuration. "
            "apply refuses a name that the server does not know, and a value that it does not "
            "take; an extension's, with a dot in it, is not looked up.",
        ),
        "users": list_of(
            _USER,
            "Login roles. Each gets a generated password, kept in the secrets file, and may come "
            "in through the balancers only. One that leaves the list is dropped; while it owns "
            "anything, PostgreSQL refuses that, and apply ends with exit status 1.",
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
