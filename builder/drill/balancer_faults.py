"""The faults of the balancers, as data; see `builder.drill.faults`. Pure."""

from __future__ import annotations

from builder.drill import links, steps
from builder.drill.fault import (
    BALANCER_DEAF,
    BALANCER_HUNG,
    BALANCER_LOST,
    NO_PAUSE,
    Fault,
    needs_balancer_alone,
    needs_balancers,
)
from builder.drill.scene import Scene
from builder.drill.steps import PowerOff


def _standby(scene: Scene) -> str:
    return next(h.name for h in scene.spec.with_role("keepalived") if h.name != scene.holder)


def _needs_standby_alone(scene: Scene) -> str:
    if reason := needs_balancers(scene):
        return reason
    shared = {"etcd", "patroni"} & {*scene.spec.hosts[_standby(scene)].roles}
    return f"other roles share {_standby(scene)}" if shared else ""


BALANCER_FAULTS = (
    Fault(
        name="balancer-power-off",
        doc="The balancer that holds the address loses its power.",
        steps=lambda s: [PowerOff(host=s.holder)],
        writes=BALANCER_LOST,
        reads=BALANCER_LOST,
        moves_address=True,
        obstacle=needs_balancer_alone,
    ),
    Fault(
        name="balancer-standby-off",
        doc="A balancer that does not hold the address loses its power.",
        steps=lambda s: [PowerOff(host=_standby(s))],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=BALANCER_LOST,
        obstacle=_needs_standby_alone,
    ),
    Fault(
        name="balancer-isolated",
        doc="The balancer that holds the address is cut off from everything.",
        steps=lambda s: [links.isolated(s, s.holder)],
        writes=BALANCER_LOST,
        reads=BALANCER_LOST,
        outlasts=BALANCER_DEAF,
        moves_address=True,
        obstacle=needs_balancer_alone,
        isolates=True,
    ),
    Fault(
        name="balancer-deaf",
        doc="The balancer that holds the address hears nobody, and is heard by all.",
        steps=lambda s: [links.deaf(s.holder)],
        writes=BALANCER_DEAF,
        reads=BALANCER_DEAF,
        moves_address=True,
        obstacle=needs_balancer_alone,
    ),
    Fault(
        name="haproxy-kill",
        doc="HAProxy is killed on the holder of the address.",
        steps=lambda s: [steps.kill_unit(s.holder, "haproxy.service")],
        writes=BALANCER_HUNG,
        reads=BALANCER_HUNG,
        obstacle=needs_balancers,
    ),
    Fault(
        name="haproxy-stop",
        doc="HAProxy hangs on the holder of the address (SIGSTOP).",
        steps=lambda s: [steps.stop_unit(s.holder, "haproxy.service")],
        writes=BALANCER_HUNG,
        reads=BALANCER_HUNG,
        moves_address=True,
        obstacle=needs_balancers,
    ),
    Fault(
        name="keepalived-kill",
        doc="Keepalived is killed on the holder of the address.",
        steps=lambda s: [steps.kill_unit(s.holder, "keepalived.service")],
        writes=BALANCER_LOST,
        reads=BALANCER_LOST,
        obstacle=needs_balancers,
    ),
    Fault(
        name="keepalived-stop",
        doc="Keepalived hangs on the holder (SIGSTOP), and leaves the address where it is.",
        steps=lambda s: [steps.stop_unit(s.holder, "keepalived.service")],
        writes=BALANCER_LOST,
        reads=BALANCER_LOST,
        obstacle=needs_balancers,
    ),
    Fault(
        name="vrrp-cut",
        doc="The balancers do not hear each other, so both hold the address until it is healed.",
        steps=lambda s: [links.cut_vrrp(s.holder)],
        writes=BALANCER_LOST,
        reads=BALANCER_LOST,
        obstacle=needs_balancers,
        two_holders=True,
    ),
)
