"""The faults, as data: what is done to whom, what must hold, and where the bound comes from. Pure.

Bounds are promises of the cluster's roles, by name, which follow from `failover.preset`; or seconds
where no timing is involved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from builder.drill import links, steps
from builder.drill.balancer_faults import BALANCER_FAULTS
from builder.drill.disk_faults import DISK_FAULTS
from builder.drill.etcd_faults import ETCD_FAULTS
from builder.drill.fault import (
    CRASHED,
    HOST_DEAF,
    HOST_LOST,
    HOST_RESET,
    NO_PAUSE,
    POSTGRESQL_HUNG,
    REPLICA_LOST,
    SWITCHOVER,
    Fault,
    needs_leader_alone,
    needs_own_etcd,
    needs_replica,
)
from builder.drill.latency import slow_way
from builder.drill.scene import Scene
from builder.drill.steps import Freeze, PowerOff, Script
from builder.resources.sql import Server


def _others(scene: Scene, hosts: Sequence[str]) -> tuple[str, ...]:
    return tuple(scene.address(h) for h in hosts if h != scene.leader)


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────
def _psql(scene: Scene) -> str:
    return Server(port=scene.spec.sections["postgresql"]["port"]).psql()


_POSTMASTER = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)"
_RECEIVER = "SELECT pid FROM pg_stat_wal_receiver"
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


def _etcd_port(scene: Scene) -> int:
    port: int = scene.spec.sections["etcd"]["client_port"]
    return port


def _switchover(scene: Scene) -> Sequence[Script]:
    """patronictl also ends well where Patroni refused, and calls it a failure that it is slow.

    Patroni refuses where the candidate does not answer it within two seconds, once.
    """
    command = "patronictl -c /etc/patroni/config.yml switchover"
    refused = """case $said in *"status unknown"*) ;; *"Switchover failed"*) false ;; esac"""
    do = f"for try in 1 2 3; do said=$({command} --leader {scene.leader} --force 2>&1) && {refused}"
    do += ' && exit 0; sleep 1; done\necho "$said" >&2; exit 1'
    return [Script(host=scene.leader, do=do, seconds=90)]


_ALL = (
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
        steps=_signal(_POSTMASTER, "STOP", 'kill -CONT "$pid" 2>/dev/null || true'),
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
            *_signal(_RECEIVER, "STOP", 'kill -CONT "$pid" 2>/dev/null || true', _replica)(s),
            steps.much_wal(s.leader, _psql(s), _LAG_MEGABYTES),
        ],
        writes=REPLICA_LOST,
        stops_reads=True,
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
        failovers=1,
        doc="Patroni hangs on the leader (SIGSTOP) until its lease is over.",
        steps=lambda s: [steps.stop_main(s.leader, "patroni.service")],
        writes=HOST_LOST,
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
    # ── hosts ───────────────────────────────────────────────────────────────────────────────────
    Fault(
        name="host-power-off",
        failovers=1,
        doc="The leader's power is cut.",
        steps=lambda s: [PowerOff(host=s.leader)],
        writes=HOST_LOST,
        obstacle=needs_replica,
    ),
    Fault(
        name="host-reset",
        failovers=1,
        may_stay=True,
        doc="The leader resets, as its watchdog or a panic has it do, and boots.",
        steps=lambda s: [steps.reset(s.leader)],
        writes=HOST_RESET,
        obstacle=needs_replica,
    ),
    Fault(
        name="replica-power-off",
        doc="A replica's power is cut.",
        steps=lambda s: [PowerOff(host=s.replicas[0])],
        writes=REPLICA_LOST,
        obstacle=needs_replica,
    ),
    Fault(
        name="freeze-leader",
        failovers=1,
        doc="The leader's host hangs until another leads, and then goes on as if nothing had been.",
        steps=lambda s: [Freeze(host=s.leader)],
        writes=HOST_LOST,
        obstacle=needs_replica,
    ),
    *DISK_FAULTS,
    # ── links ───────────────────────────────────────────────────────────────────────────────────
    Fault(
        name="leader-isolated",
        failovers=1,
        doc="The leader is cut off from everything.",
        steps=lambda s: [links.isolated(s, s.leader)],
        writes=HOST_LOST,
        obstacle=needs_replica,
        isolates=True,
    ),
    Fault(
        name="leader-deaf",
        failovers=1,
        doc="The leader hears nobody, and is heard by all.",
        steps=lambda s: [links.deaf(s.leader)],
        writes=HOST_DEAF,
        obstacle=needs_leader_alone,
    ),
    Fault(
        name="replica-isolated",
        doc="A replica is cut off from everything.",
        steps=lambda s: [links.isolated(s, s.replicas[0])],
        writes=REPLICA_LOST,
        obstacle=needs_replica,
        isolates=True,
    ),
    Fault(
        name="leader-cut-from-etcd",
        doc="The leader is cut off from etcd only.",
        steps=lambda s: [links.cut_from(s.leader, _others(s, s.etcd))],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd,
    ),
    Fault(
        name="leader-cut-from-replica",
        doc="The leader is cut off from its replicas only.",
        steps=lambda s: [links.cut_from(s.leader, _others(s, s.replicas))],
        writes=REPLICA_LOST,
        obstacle=needs_replica,
    ),
    Fault(
        name="loss-20-percent",
        doc="A fifth of the packets between the leader and etcd is lost, both ways.",
        steps=lambda s: [links.lossy(s.leader, _others(s, s.etcd), 20)],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd,
    ),
    Fault(
        name="latency-200-ms",
        doc="Whatever the leader sends to etcd gets there 200 ms later.",
        steps=lambda s: [slow_way(s.leader, _others(s, s.etcd), _etcd_port(s), 200)],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd,
    ),
    *ETCD_FAULTS,
    *BALANCER_FAULTS,
)

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}
