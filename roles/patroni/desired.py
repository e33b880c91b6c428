"""What a database host must have. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from builder import debian
from builder.resources.base import Impact, Resource
from builder.resources.directory import Directory
from builder.resources.file import File
from builder.resources.package import Package
from builder.resources.python_environment import PythonEnvironment
from builder.resources.unit import Unit
from builder.role import Context
from builder.security.authority import CertificateRequest
from roles._failover import timings
from roles.etcd.desired import gate
from roles.etcd.settings import CLIENT_CA, endpoints
from roles.patroni.ask import (
    complete,
    gives_lead_away,
    has_reloaded,
    makes_way,
    restart_turn,
)
from roles.patroni.check import CHECK
from roles.patroni.data import DataDirectory
from roles.patroni.dynamic import dynamic_config
from roles.patroni.gates import on_the_leader
from roles.patroni.settings import (
    CA,
    CLIENTS,
    CONFIG,
    ENVIRONMENT,
    NAME,
    REPLICATION,
    REST_USER,
    REWIND,
    SUPERUSER,
    TLS,
    USER,
    data_directory,
    members,
)
from roles.patroni.stale_leader import stale_leader
from roles.patroni.watchdog import DEVICE, watchdog
from roles.patroni.watches import watches

UNIT = "patroni.service"
_NO_CLUSTER = "/etc/postgresql-common/createcluster.d/pgha-build.conf"
_RESTART_NOTHING = ("/package:curl", "/package:ca-certificates", "/file:/usr/local/bin/patronictl")
SECRETS = {
    "superuser": SUPERUSER,
    "replication": REPLICATION,
    "rewind": REWIND,
    "rest": REST_USER,
}


def resources(ctx: Context) -> Iterable[Resource]:
    packages = _packages(ctx)
    program, installed = _program(ctx, packages)
    needs = tuple(item.address for item in (*packages, *installed))
    directories = list(_directories(ctx, needs))
    tls = list(_tls(ctx, needs))
    dog = list(watchdog(ctx, needs))
    check = _check(ctx, needs)
    config = _config(ctx, (*needs, check.address, *(item.address for item in dog)), check)
    first = stale_leader(ctx, needs)
    unit = _unit_file(ctx, (*needs, first.address), program, first.name)
    yield from (*_no_cluster(ctx), *packages, *installed, *directories)
    yield from (*tls, *dog, check, config, first, unit, _profile(ctx, needs), *watches(ctx, needs))
    yield _unit(
        ctx,
        needs=(gate(ctx.spec), *needs, *(item.address for item in (*directories, *dog))),
        restart_on=(unit.address, *(a for a in needs if not a.endswith(_RESTART_NOTHING))),
        reload_on=(config.address, *(item.address for item in tls)),
    )


def _unit(
    ctx: Context,
    *,
    needs: tuple[str, ...],
    restart_on: tuple[str, ...],
    reload_on: tuple[str, ...],
) -> Unit:
    alone = len(members(ctx.spec)) == 1
    return Unit(
        hosts=(ctx.host.name,),
        name=UNIT,
        needs=needs,
        mended_first=on_the_leader(ctx.spec),
        restart_on=restart_on,
        reload_on=reload_on,
        restart_impact=Impact.OUTAGE if alone else Impact.SWITCHOVER,
        before_restart=makes_way(ctx.spec, ctx.host),
        before_stop=gives_lead_away(ctx.spec, ctx.host),
        after_restart=complete(ctx.spec),
        after_reload=has_reloaded(ctx.spec, ctx.host),
        last=restart_turn(ctx.spec, ctx.host),
        group="patroni",
        timeout_seconds=180,
    )


def _unit_file(ctx: Context, needs: tuple[str, ...], program: str, first: str) -> File:
    return ctx.file(
        f"/etc/systemd/system/{UNIT}",
        "patroni/patroni.service",
        options={"needs": needs},
        program=program,
        stale_leader=first,
        config=f"{CONFIG}/config.yml",
        user=USER,
        stop_seconds=timings(ctx.spec).primary_stop_timeout + 30,
    )


def _profile(ctx: Context, needs: tuple[str, ...]) -> File:
    return File(
        hosts=(ctx.host.name,),
        name="/etc/profile.d/pgha-build.sh",
        needs=needs,
        content=b"# Managed by pgha-build: patronictl finds the cluster without further words.\n"
        + f"export PATRONICTL_CONFIG_FILE={CONFIG}/config.yml\n".encode(),
    )


def _no_cluster(ctx: Context) -> Iterable[Resource]:
    here = (ctx.host.name,)
    yield Directory(hosts=here, name="/etc/postgresql-common")
    yield Directory(hosts=here, name="/etc/postgresql-common/createcluster.d")
    yield File(
        hosts=here,
        name=_NO_CLUSTER,
        content=b"# Managed by pgha-build: Patroni makes the cluster, not the package.\n"
        b"create_main_cluster = false\n",
    )


def _packages(ctx: Context) -> list[Package]:
    """What comes as packages; Patroni itself may come from elsewhere."""
    server = debian.postgresql(ctx.section("postgresql")["version"])
    own = ctx.section(NAME)["pypi_version"]
    patroni = debian.VIRTUAL_ENVIRONMENTS if own else debian.PATRONI
    return ctx.packages(server, *patroni, "curl", needs=[ctx.address("file", _NO_CLUSTER)])


def _program(ctx: Context, packages: Iterable[Package]) -> tuple[str, list[Resource]]:
    """Patroni's path, and what brings it there beside packages.

    psycopg and etcd's client are its own as well: nothing of the host's Python is used.
    """
    version = ctx.section(NAME)["pypi_version"]
    if not version:
        return "/usr/bin/patroni", []
    environment = PythonEnvironment(
        hosts=(ctx.host.name,),
        name=ENVIRONMENT,
        requirements=(f"patroni[etcd3,psycopg3]=={version}",),
        index=ctx.section("packages")["python_index"] or "",
        needs=tuple(package.address for package in packages),
    )
    ctl = File(
        hosts=(ctx.host.name,),
        name="/usr/local/bin/patronictl",
        content=b"#!/bin/sh\n# Managed by pgha-build: changes here are drift.\n"
        + f'exec {ENVIRONMENT}/bin/patronictl "$@"\n'.encode(),
        mode="0755",
        needs=(environment.address,),
    )
    return f"{ENVIRONMENT}/bin/patroni", [environment, ctl]


def _directories(ctx: Context, needs: tuple[str, ...]) -> Iterable[Resource]:
    here = (ctx.host.name,)
    data = PurePosixPath(data_directory(ctx.spec))
    yield Directory(hosts=here, name=CONFIG, group=USER, mode="0750", needs=needs)
    yield Directory(hosts=here, name=TLS, group=USER, mode="0750", needs=needs)
    yield Directory(hosts=here, name=str(data.parent), owner=USER, group=USER, needs=needs)
    yield DataDirectory(
        hosts=here, name=str(data), owner=USER, group=USER, mode="0700", needs=needs
    )
    yield Directory(
        hosts=here, name="/var/lib/patroni", owner=USER, group=USER, mode="0700", needs=needs
    )


def _tls(ctx: Context, needs: tuple[str, ...]) -> Iterable[Resource]:
    """One server certificate for PostgreSQL and the REST API; one without a name for etcd.

    etcd's gateway, which Patroni uses, refuses client certificates with a Common Name once
    authentication is on (etcd server/embed/serve.go).
    """
    owner = {"owner": USER, "group": USER, "needs": needs}
    yield ctx.authority_file(f"{TLS}/ca.crt", CA, needs=needs)
    yield ctx.authority_file(f"{TLS}/etcd-ca.crt", CLIENT_CA, needs=needs)
    addresses = (ctx.host.address, "127.0.0.1", *_client_addresses(ctx))
    names = (ctx.host.name, "localhost")
    yield ctx.certificate(
        f"{TLS}/server.crt",
        key_path=f"{TLS}/server.key",
        authority=CA,
        purpose="patroni-server",
        request=CertificateRequest(
            common_name=ctx.host.name,
            dns_names=names,
            addresses=addresses,
            server=True,
            client=True,
        ),
        **owner,
    )
    yield ctx.certificate(
        f"{TLS}/etcd.crt",
        key_path=f"{TLS}/etcd.key",
        authority=CLIENT_CA,
        purpose="patroni-etcd",
        request=CertificateRequest(
            common_name=None,
            dns_names=(ctx.host.name,),
            addresses=(ctx.host.address,),
            server=False,
            client=True,
        ),
        **owner,
    )


def _client_addresses(ctx: Context) -> tuple[str, ...]:
    """Where clients believe the server to be: the virtual IP or, without one, each balancer."""
    address = ctx.spec.sections.get("keepalived", {}).get("virtual_ip")
    if address:
        return (address.split("/")[0],)
    return tuple(host.address for host in ctx.spec.with_role("haproxy"))


def _check(ctx: Context, needs: tuple[str, ...]) -> File:
    """Patroni drops a parameter that PostgreSQL does not know, or whose value it does not take, and
    says so in its log alone; it ends its lead where a required watchdog is missing. All is told
    before it can happen."""
    version, own = ctx.section("postgresql")["version"], ctx.section(NAME)["pypi_version"]
    return ctx.file(
        CHECK,
        "patroni/check-config",
        options={"mode": "0755", "needs": needs},
        python=f"{ENVIRONMENT}/bin/python" if own else "/usr/bin/python3",
        postgres=f"{debian.postgresql_binaries(version)}/postgres",
        device=DEVICE,
        version=version,
    )


def _config(ctx: Context, needs: tuple[str, ...], check: File) -> Resource:
    version = ctx.section("postgresql")["version"]
    return ctx.file(
        f"{CONFIG}/config.yml",
        "patroni/config.yml",
        options={"needs": needs, "mode": "0640", "group": USER, "check": (check.name, "{}")},
        dynamic=dynamic_config(ctx.spec),
        etcd=endpoints(ctx.spec),
        postgresql=ctx.section("postgresql"),
        patroni=ctx.section("patroni"),
        data=data_directory(ctx.spec),
        binaries=debian.postgresql_binaries(version),
        tls=TLS,
        users=SECRETS,
        peers=[host.address for host in members(ctx.spec)],
        clients=list(_clients(ctx)),
        margin=timings(ctx.spec).ttl // 4,
        **{f"{name}_password": ctx.secrets.password(name) for name in SECRETS},
    )


def _clients(ctx: Context) -> Iterable[tuple[str, str, str]]:
    """(databases, user, network) of every line of pg_hba.conf that lets a client in."""
    section = ctx.section("postgresql")
    databases = ",".join(item["name"] for item in section["databases"]) or "postgres"
    for user in section["users"]:
        for balancer in ctx.spec.with_role("haproxy"):
            yield databases, user["name"], f"{balancer.address}/32"
    for balancer in ctx.spec.with_role("haproxy"):
        yield "all", f"+{CLIENTS}", f"{balancer.address}/32"
    for entry in section["access"]:
        yield entry["database"], entry["user"], entry["network"]
