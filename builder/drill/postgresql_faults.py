"""The faults of PostgreSQL and of Patroni, as data; see `builder.drill.faults`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from builder.drill import steps
from builder.drill.fault import (
    CRASHED,
    HOST_LOST,
    NO_PAUSE,
    PATRONI_HUNG,
    POSTGRESQL_HUNG,
    REPLICA_LOST,
    SWITCHOVER,
    WALSENDER_HUNG,
    Fault,
    needs_replica,
)
from builder.drill.scene import Scene
from builder.drill.steps import Script
from builder.resources.sql import Server


def _psql(scene: Scene) -> str:
    return Server(port=scene.spec.sections["postgresql"]["port"]).psql()


_POSTMASTER = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"
_RECEIVER = "SELECT pid FROM pg_stat_wal_receiver"
# Before 3.3, Patroni had one for all.
_SESSION = (
    "SELECT pid FROM pg_stat_activity WHERE application_name IN ('Patroni {}', 'Patroni')"
    " ORDER BY application_name DESC LIMIT 1"
)
# One that commits wait for, where there is one.
_WALSENDER = (
    "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'"
    " ORDER BY sync_state = 'async' LIMIT 1"
)
_LAG_MEGABYTES = 48  # three times what HAProxy's check of a replica allows
_BACKEND = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND application_name = 'pgha-drill' AND pid <> pg_backend_pid()"
    " ORDER BY backend_start LIMIT 1"  # the youngest is gone before it can be killed
)


def _leader(scene: Scene) -> str:
    return scene.leader


def _replica(scene: Scene) -> str:
    return scene.replicas[0]


def _signal(
    select: str, name: str, undo: str = "", on: Callable[[Scene], str] = _leader
) -> Callable[[Scene], Sequence[Script]]:
    return lambda s: [steps.signal_postgresql(on(s), _psql(s), select, name, undo)]


_CONTINUED = 'kill -CONT "$pid" 2>/dev/null || true'
_walsender_stop = _signal(_WALSENDER, "STOP", _CONTINUED)


def _switchover(scene: Scene) -> Sequence[Script]:
    """patronictl also ends well where Patroni refused, and calls it a failure that it is slow.

    Patroni refuses where the candidate does not answer it within two seconds, once.
    """
    command = "patronictl -c /etc/patroni/config.yml switchover"
    refused = """case $said in *"status unknown"*) ;; *"Switchover failed"*) false ;; esac"""
    do = f"for try in 1 2 3; do said=$({command} --leader {scene.leader} --force 2>&1) && {refused}"
    do += ' && exit 0; sleep 1; done\necho "$said" >&2; exit 1'
    return [Script(host=scene.leader, do=do, seconds=90)]


POSTGRESQL_FAULTS = (
    Fault(
        name="switchover",
        failovers=1,
        doc="The leader is moved on purpose.",
        steps=_switchover,
        writes=SWITCHOVER,
        obstacle=needs_replica,
    ),
    Fault(
        name="switchover-long-transaction",
        failovers=1,
        doc="The leader is moved on purpose while a transaction has been open on it and works.",
        steps=lambda s: [
            steps.long_transaction(s.leader, _psql(s)),
            *_switchover(s),
        ],
        writes=SWITCHOVER,
        obstacle=needs_replica,
    ),
    Fault(
        name="switchover-walsender-stop",
        failovers=1,
        doc="The leader is moved on purpose while its process that streams to a replica hangs.",
        steps=lambda s: [*_walsender_stop(s), *_switchover(s)],
        writes=WALSENDER_HUNG,
        obstacle=needs_replica,
    ),
    Fault(
        name="postgres-kill",
        failovers=1,
        may_stay=True,
        doc="The leader's postmaster is killed.",
        steps=_signal(_POSTMASTER, "KILL"),
        writes=CRASHED,
        obstacle=needs_replica,
    ),
    Fault(
        name="backend-kill",
        doc="One session's process on the leader is killed; PostgreSQL restarts all of them.",
        steps=_signal(_BACKEND, "KILL"),
        writes=CRASHED,
    ),
    Fault(
        name="postmaster-stop",
        failovers=1,
        may_stay=True,
        doc="The leader's postmaster hangs (SIGSTOP): open sessions work, new ones do not.",
        steps=_signal(_POSTMASTER, "STOP", _CONTINUED),
        writes=POSTGRESQL_HUNG,
        obstacle=needs_replica,
    ),
    Fault(
        name="replica-postgres-kill",
        doc="A replica's postmaster is killed.",
        steps=_signal(_POSTMASTER, "KILL", on=_replica),
        writes=REPLICA_LOST,
        obstacle=needs_replica,
    ),
    Fault(
        name="replica-lags",
        doc="A replica receives nothing more (its walreceiver hangs) while much is written.",
        steps=lambda s: [
            *_signal(_RECEIVER, "STOP", _CONTINUED, _replica)(s),
            steps.much_wal(s.leader, _psql(s), _LAG_MEGABYTES),
        ],
        writes=REPLICA_LOST,
        stops_reads=True,
        obstacle=needs_replica,
    ),
    Fault(
        name="walsender-stop",
        may_move=True,  # where PostgreSQL restarts for long
        doc="The leader's process that streams to a replica hangs (SIGSTOP): commits wait for it.",
        steps=_walsender_stop,
        writes=WALSENDER_HUNG,
        obstacle=needs_replica,
    ),
    Fault(
        name="patroni-kill",
        doc="Patroni is killed on the leader; PostgreSQL goes on.",
        steps=lambda s: [steps.kill_main(s.leader, "patroni.service")],
        writes=NO_PAUSE,  # open sessions go on; new ones wait until HAProxy sees Patroni again
        connects=CRASHED,
    ),
    Fault(
        name="patroni-stop",
        may_move=True,  # or it is ended, and starts again, before its lease is over
        doc="Patroni hangs on the leader (SIGSTOP).",
        steps=lambda s: [steps.stop_main(s.leader, "patroni.service")],
        writes=HOST_LOST,
        obstacle=needs_replica,
    ),
    Fault(
        name="patroni-loop-stop",
        may_move=True,  # by a watchdog that is not fed, or where replicas find nobody there
        doc="The session in which Patroni asks the leader's PostgreSQL hangs (SIGSTOP).",
        steps=_signal(_SESSION.format("heartbeat"), "STOP", _CONTINUED),
        writes=PATRONI_HUNG,
        obstacle=needs_replica,
    ),
    Fault(
        name="patroni-api-stop",
        may_move=True,  # before 3.3 it is the loop's as well
        doc="The session in which Patroni's REST API asks the leader's PostgreSQL hangs (SIGSTOP).",
        steps=_signal(_SESSION.format("restapi"), "STOP", _CONTINUED),
        writes=PATRONI_HUNG,
        obstacle=needs_replica,
    ),
    Fault(
        name="patroni-gone",
        failovers=1,
        doc="Patroni is killed on the leader for good; PostgreSQL goes on without it.",
        # The watchdog may end it: it resets the host, where there is one.
        steps=lambda s: [replace(steps.kill_for_good(s.leader, "patroni.service"), still="")],
        writes=HOST_LOST,
        obstacle=needs_replica,
    ),
)
