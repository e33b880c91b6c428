"""A watch over PostgreSQL that hangs: Patroni, which keeps its own session, does not see one. Pure.

A postmaster that is stopped or stuck serves the sessions it has and takes no new ones (Patroni
issue 1371). The watch opens one every second; where several in a row get no answer at all from a
postmaster that had called itself ready, it ends it, and Patroni fails over as after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable

from builder.resources.base import Resource
from builder.resources.directory import Directory
from builder.resources.unit import Unit
from builder.role import Context
from roles._failover import timings
from roles.patroni.settings import USER, data_directory

UNIT = "pgha-postgresql-watch.service"
SCRIPT = "/usr/local/lib/pgha-build/postgresql-watch"


def watch(ctx: Context, needs: tuple[str, ...]) -> Iterable[Resource]:
    here = (ctx.host.name,)
    yield Directory(hosts=here, name="/usr/local/lib/pgha-build")
    script = ctx.file(
        SCRIPT,
        "patroni/postgresql-watch",
        options={"mode": "0755", "check": ("sh", "-n", "{}")},
        data=data_directory(ctx.spec),
        port=ctx.section("postgresql")["port"],
        timings=timings(ctx.spec),
    )
    unit = ctx.file(
        f"/etc/systemd/system/{UNIT}",
        "patroni/pgha-postgresql-watch.service",
        options={"needs": needs},
        script=SCRIPT,
        user=USER,
    )
    yield from (script, unit)
    yield Unit(
        hosts=here,
        name=UNIT,
        needs=(*needs, script.address),
        restart_on=(unit.address, script.address),
    )
