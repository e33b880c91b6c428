"""The faults, as data: what is done to whom, what must hold, and where the bound comes from. Pure.

Bounds are promises of the cluster's roles, by name, which follow from `failover.preset`; or seconds
where no timing is involved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.drill import links, steps
from builder.drill.balancer_faults import BALANCER_FAULTS
from builder.drill.disk_faults import DISK_FAULTS
from builder.drill.etcd_faults import ETCD_FAULTS
from builder.drill.fault import (
    HOST_DEAF,
    HOST_LOST,
    HOST_RESET,
    NO_PAUSE,
    REPLICA_LOST,
    Fault,
    needs_leader_alone,
    needs_own_etcd,
    needs_replica,
)
from builder.drill.latency import slow_way
from builder.drill.postgresql_faults import POSTGRESQL_FAULTS
from builder.drill.scene import Scene
from builder.drill.steps import Freeze, PowerOff


def _others(scene: Scene, hosts: Sequence[str]) -> tuple[str, ...]:
    return tuple(scene.address(h) for h in hosts if h != scene.leader)


def _etcd_port(scene: Scene) -> int:
    port: int = scene.spec.sections["etcd"]["client_port"]
    return port


_ALL = (
    *POSTGRESQL_FAULTS,
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
