"""Watches over a leader that Patroni takes for well, and that serves nobody. Pure.

A postmaster that is stopped or stuck serves the sessions it has and takes no new ones (Patroni
issue 1371). The first watch opens one every second; where several in a row get no answer at all
from a postmaster that had called itself ready, it ends it.

A leader whose disk is full, read-only or dead answers what Patroni asks, for that needs no writing
(Patroni issues 1732 and 2997). The second watch writes to it every second; where nothing comes back
and a replica can take over without loss, it ends the leader. A full disk on both is left alone.

A leader whose Patroni is gone or hangs goes on serving the sessions that it has. Where no replica
is synchronous it also acknowledges what they write, when another leads already. There a third watch
ends it before its lease is over, as the kernel's watchdog does where there is one (Patroni
docs/watchdog.rst).

Ended, PostgreSQL has crashed: Patroni fails over, and makes a replica of it when it can.

A walsender that hangs keeps the slot of its replica, which cannot come back, and is listed as one
that streams, so that Patroni never gives the replica up: every commit waits without end. A fourth
watch sees that it does not run, which a sound one does twice in `wal_sender_timeout` at least
(PostgreSQL walsender.c, WalSndComputeSleeptime), and ends it; PostgreSQL restarts all of its own.

A Patroni waits without end for a session of its own that hangs: where it is its loop's, the lease
ends and nobody else leads, for the leader answers the replicas that it is one; where it is its REST
API's, HAProxy finds no leader. The last watch asks both, as Kubernetes does (Patroni
docs/rest_api.rst, `/liveness`), and ends Patroni, which systemd starts again. Where commits could
be lost by that it ends PostgreSQL, too (`roles.patroni.stale_leader`).

While Patroni is paused none of them does anything: nobody would start PostgreSQL again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from builder import debian
from builder.resources.base import Resource
from builder.resources.directory import Directory
from builder.resources.unit import Unit
from builder.role import Context
from roles._failover import timings
from roles.patroni.settings import REPLICATION, TLS, USER, data_directory, members
from roles.patroni.stale_leader import STALE_LEADER

HOME = "/usr/local/lib/pgha-build"
_Watch = tuple[str, str, Mapping[str, object]]  # its name, what it does, what its script asks for


def watches(ctx: Context, needs: tuple[str, ...]) -> Iterable[Resource]:
    yield Directory(hosts=(ctx.host.name,), name=HOME)
    for name, doc, values in (*_of_all(ctx), *(_of_replicated(ctx) if _replicated(ctx) else ())):
        yield from _watch(ctx, needs, name=name, doc=doc, **values)


def _replicated(ctx: Context) -> bool:
    return len(members(ctx.spec)) > 1


def _of_all(ctx: Context) -> Iterable[_Watch]:
    section = ctx.section("postgresql")
    asks = {"port": section["port"], "binaries": debian.postgresql_binaries(section["version"])}
    yield "postgresql-watch", "Ends a PostgreSQL that hangs, so that Patroni can act", asks
    doc = "Ends a Patroni that hangs, so that systemd starts it again"
    yield "patroni-watch", doc, {"stale_leader": STALE_LEADER}


def _of_replicated(ctx: Context) -> Iterable[_Watch]:
    synchronous = ctx.section("failover")["synchronous"]
    doc = "Ends a leader that cannot write to its disk, so that a replica takes over"
    yield "disk-watch", doc, {"follows": _follows(synchronous=synchronous)}
    doc = "Ends a process of PostgreSQL that streams to a replica and hangs"
    yield "walsender-watch", doc, {"user": REPLICATION}
    if not synchronous:
        yield "lease-watch", "Ends a leader that has lost its Patroni, before another may lead", {}


def _follows(*, synchronous: bool) -> str:
    """A shell pattern for what Patroni says without spaces: there is one that has every commit."""
    wanted = ("sync_state:sync", "sync_state:quorum") if synchronous else ("state:streaming",)
    return "|".join(f'*\'"{key}":"{value}"\'*' for key, value in (w.split(":") for w in wanted))


def _watch(
    ctx: Context, needs: tuple[str, ...], *, name: str, doc: str, **values: object
) -> Iterable[Resource]:
    script = ctx.file(
        f"{HOME}/{name}",
        f"patroni/{name}",
        options={"mode": "0755", "check": ("sh", "-n", "{}")},
        data=data_directory(ctx.spec),
        timings=timings(ctx.spec),
        ca=f"{TLS}/ca.crt",
        url=f"https://{ctx.host.address}:{ctx.section('patroni')['rest_port']}",
        **values,
    )
    unit = ctx.file(
        f"/etc/systemd/system/pgha-{name}.service",
        "patroni/watch.service",
        options={"needs": needs},
        name=f"pgha-{name}",
        doc=doc,
        script=script.name,
        user=USER,
    )
    yield from (script, unit)
    yield Unit(
        hosts=(ctx.host.name,),
        name=f"pgha-{name}.service",
        needs=(*needs, script.address),
        restart_on=(unit.address, script.address),
    )
