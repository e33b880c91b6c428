"""A PostgreSQL that leads where another may lead already, and commits would be lost. Pure.

An old Patroni, as that of Debian 12 (3.0), writes postgresql.conf without
`synchronous_standby_names` as it starts (patroni/postgresql/__init__.py, "joining"; that of Debian
13, 4.0, asks PostgreSQL for the value). Where another leads by then, commits that waited for a
replica are acknowledged, on a timeline that is given up. In an asynchronous cluster none waits
anyway: while a Patroni that hangs is ended and started again, nothing tells replicas that this one
still leads (patroni/ha.py, "is still alive").

Such a PostgreSQL is ended first: as after a crash, nobody is told that its last commits are there.
"""

from __future__ import annotations

from builder.resources.file import File
from builder.role import Context
from roles._failover import timings
from roles.patroni.settings import ENVIRONMENT, TLS, data_directory, members

STALE_LEADER = "/usr/local/lib/pgha-build/stale-leader"
_SOURCES = "patroni/postgresql/config.py"


def stale_leader(ctx: Context, needs: tuple[str, ...]) -> File:
    """The program that systemd runs before Patroni, and a watch when Patroni hangs."""
    own = ctx.section("patroni")["pypi_version"]
    port = ctx.section("patroni")["rest_port"]
    libraries = (
        f"{ENVIRONMENT}/lib/python3*/site-packages" if own else "/usr/lib/python3/dist-packages"
    )
    return ctx.file(
        STALE_LEADER,
        "patroni/stale-leader",
        options={"mode": "0755", "needs": needs, "check": ("sh", "-n", "{}")},
        data=data_directory(ctx.spec),
        ca=f"{TLS}/ca.crt",
        sources=f"{libraries}/{_SOURCES}",
        timings=timings(ctx.spec),
        synchronous=ctx.section("failover")["synchronous"],
        others=[
            f"https://{host.address}:{port}/primary"
            for host in members(ctx.spec)
            if host.name != ctx.host.name
        ],
    )
