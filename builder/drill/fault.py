"""What a drill is: a fault, whom it needs, what must hold. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

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
BALANCER_DEAF = "balancer deaf"
POSTGRESQL_HUNG = "PostgreSQL hung"
PATRONI_HUNG = "Patroni hung"
WALSENDER_HUNG = "walsender hung"
DISK_LOST = "data disk full or hung"
NO_PAUSE = 2.0  # seconds: no timing is involved, but a busy machine pauses by itself

_LEAST_SECONDS = 15  # that a fault stays
_LONGER_SECONDS = 10  # … and so long once what is promised of it is due

Bound = str | float


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One drill. `writes` and `reads` bound the outage; None: not promised, only measured.
    `connects` bounds that of new connections, where it is not as `writes`.

    The fault stays for longer than what `writes` promises, and than what `outlasts` does: a promise
    in whose time it must change nothing. `obstacle` says why this is no drill here.
    `moves_address`: whoever holds it is struck, and another must take it.
    `two_holders`: the address has two until healed. `isolates`: whoever is struck hears nobody, so
    that one that is a balancer may hold the address, too. `failovers`: so many, neither
    more nor fewer. `may_stay`: or none in an asynchronous cluster, where a leader is started again.
    `may_move`: or one more.
    `stops_writes`: nobody may lead, so that nothing is written until it is healed. `stops_reads`:
    the struck replica lags, so that it gets no new sessions.
    """

    name: str
    doc: str
    steps: Callable[[Scene], Sequence[Step]]
    writes: Bound | None
    reads: Bound | None = None
    connects: Bound | None = None
    obstacle: Callable[[Scene], str] = lambda _: ""
    outlasts: str = ""
    moves_address: bool = False
    two_holders: bool = False
    isolates: bool = False
    failovers: int = 0
    may_stay: bool = False
    may_move: bool = False
    stops_writes: bool = False
    stops_reads: bool = False

    def lasts(self, promises: Mapping[str, float]) -> float:
        """Seconds from the harm to the healing: else what heals by itself would be healed by us."""
        bounds = (self.writes, self.connects, self.outlasts)
        named = [bound for bound in bounds if isinstance(bound, str)]
        due = max((promises[name] for name in named if name in promises), default=0.0)
        return max(_LEAST_SECONDS, ceil(due) + _LONGER_SECONDS)


def needs_replica(scene: Scene) -> str:
    return "" if scene.replicas else "there is no replica"


def needs_balancers(scene: Scene) -> str:
    could_hold = scene.spec.with_role("keepalived")
    return "" if scene.holder and len(could_hold) > 1 else "there is no second balancer"


def needs_balancer_alone(scene: Scene) -> str:
    """Where its host is a database host, too, the drills of those say what its loss costs."""
    shared = scene.holder and "patroni" in scene.spec.hosts[scene.holder].roles
    return needs_balancers(scene) or (f"PostgreSQL shares {scene.holder}" if shared else "")


def needs_leader_alone(scene: Scene) -> str:
    shared = "keepalived" in scene.spec.hosts[scene.leader].roles
    return needs_replica(scene) or (f"{scene.leader} is a balancer, too" if shared else "")


def needs_etcd(scene: Scene) -> str:
    return "" if len(scene.etcd) > 2 else "etcd has fewer than three members"


def needs_own_etcd(scene: Scene) -> str:
    shared = [h for h in scene.etcd if len(scene.spec.hosts[h].roles) > 1]
    return needs_etcd(scene) or (f"etcd shares {', '.join(shared)}" if shared else "")


def needs_own_disk(scene: Scene) -> str:
    """A full disk must not be that of the host's own system."""
    return needs_replica(scene) or _shares(scene, (scene.leader, *scene.replicas), scene.data)


def needs_own_etcd_disk(scene: Scene) -> str:
    return needs_etcd(scene) or _shares(scene, scene.etcd, scene.etcd_data)


def _shares(scene: Scene, hosts: Sequence[str], mounted: Mapping[str, str]) -> str:
    if systems := [host for host in hosts if not mounted.get(host)]:
        return f"data shares the system's file system on {', '.join(systems)}"
    both = [host for host in hosts if scene.data.get(host) == scene.etcd_data.get(host)]
    return f"PostgreSQL and etcd share a file system on {', '.join(both)}" if both else ""
