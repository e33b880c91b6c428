"""What a drill is: a fault, whom it needs, what must hold. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from builder.drill.scene import Scene
from builder.drill.steps import Step

HOST_LOST = "database host lost"
HOST_RESET = "database host reset"
HOST_DEAF = "database host deaf"
CRASHED = "PostgreSQL crashed"
REPLICA_LOST = "replica lost"
SWITCHOVER = "switchover"
BALANCER_LOST = "balancer lost"
BALANCER_HUNG = "balancer hung"
POSTGRESQL_HUNG = "PostgreSQL hung"
DISK_LOST = "data disk full or hung"
NO_PAUSE = 2.0  # seconds: no timing is involved, but a busy machine pauses by itself

Bound = str | float


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One drill. `writes` and `reads` bound the outage; None: not promised, only measured.

    `hold_seconds` is how long the fault stays before it is healed. `obstacle` says why this is no
    drill here. `two_holders`: the address may have two until healed. `failovers`: so many, neither
    more nor fewer. `may_stay`: or none in an asynchronous cluster, where a leader is started again.
    `stops_writes`: nobody may lead, so that nothing is written until it is healed. `stops_reads`:
    the struck replica lags, so that it gets no new sessions.
    """

    name: str
    doc: str
    steps: Callable[[Scene], Sequence[Step]]
    writes: Bound | None
    reads: Bound | None = None
    hold_seconds: float = 15
    obstacle: Callable[[Scene], str] = lambda _: ""
    two_holders: bool = False
    failovers: int = 0
    may_stay: bool = False
    stops_writes: bool = False
    stops_reads: bool = False


def needs_replica(scene: Scene) -> str:
    return "" if scene.replicas else "there is no replica"


def needs_balancers(scene: Scene) -> str:
    return "" if scene.holder and len(scene.balancers) > 1 else "there is no second balancer"


def needs_etcd(scene: Scene) -> str:
    return "" if len(scene.etcd) > 2 else "etcd has fewer than three members"


def needs_own_etcd(scene: Scene) -> str:
    shared = [h for h in scene.etcd if len(scene.spec.hosts[h].roles) > 1]
    return needs_etcd(scene) or (f"etcd shares {', '.join(shared)}" if shared else "")


def needs_own_disk(scene: Scene) -> str:
    """A full disk must not be that of the host's own system."""
    shared = [h for h in (scene.leader, *scene.replicas) if not scene.data.get(h)]
    return needs_replica(scene) or _shares(shared)


def needs_own_etcd_disk(scene: Scene) -> str:
    shared = [host for host in scene.etcd if not scene.etcd_data.get(host)]
    return needs_etcd(scene) or _shares(shared)


def _shares(hosts: Sequence[str]) -> str:
    return f"data shares the system's file system on {', '.join(hosts)}" if hosts else ""
