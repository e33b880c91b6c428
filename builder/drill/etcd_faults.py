"""Members of etcd that die or hang, as data. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from builder.drill import links, steps
from builder.drill.fault import (
    HOST_LOST,
    NO_PAUSE,
    Fault,
    needs_etcd,
    needs_own_etcd,
    needs_replica,
)
from builder.drill.scene import Scene
from builder.drill.steps import PowerOff, Script

_TLS = "/etc/patroni/tls"


def _majority(scene: Scene) -> Sequence[str]:
    return scene.etcd[: len(scene.etcd) // 2 + 1]


def _alarmed(scene: Scene) -> Sequence[Script]:
    """Every member refuses writes; leases are kept alive.

    Only etcd's own API can ask for it: from the leader's host, which has curl and may.
    """
    url = f"https://{scene.address(scene.etcd_leader)}:{scene.spec.sections['etcd']['client_port']}"
    who = f"--cacert {_TLS}/etcd-ca.crt --cert {_TLS}/etcd.crt --key {_TLS}/etcd.key"
    curl = f"curl -sS --fail --max-time 10 {who} {url}/v3/maintenance/alarm -d"
    which = '"memberID": "0", "alarm": "NOSPACE"'
    there = f'{curl} \'{{"action": "GET"}}\' | grep -q NOSPACE'
    return [
        Script(
            host=scene.leader,
            do=f'{curl} \'{{"action": "ACTIVATE", {which}}}\' >/dev/null\n{there}',
            undo=f'{curl} \'{{"action": "DEACTIVATE", {which}}}\' >/dev/null',
            still=there,
            outlives_boot=True,
        )
    ]


ETCD_FAULTS = (
    Fault(
        name="etcd-member-off",
        doc="A member of etcd that does not lead it loses its power.",
        steps=lambda s: [PowerOff(host=s.etcd_follower)],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd,
    ),
    Fault(
        name="etcd-member-gone",
        doc="The process of an etcd member that does not lead is killed, and does not come back.",
        steps=lambda s: [steps.kill_for_good(s.etcd_follower, "etcd.service")],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_etcd,
    ),
    Fault(
        name="etcd-leader-off",
        doc="The leader of etcd loses its power.",
        steps=lambda s: [PowerOff(host=s.etcd_leader)],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd,
    ),
    Fault(
        name="etcd-leader-stop",
        doc="The leader of etcd hangs (SIGSTOP).",
        steps=lambda s: [steps.stop_main(s.etcd_leader, "etcd.service", lasting=True)],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_etcd,
    ),
    Fault(
        name="etcd-majority-off",
        doc="Most of etcd loses its power.",
        steps=lambda s: [PowerOff(host=host) for host in _majority(s)],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd,
    ),
    Fault(
        name="etcd-majority-gone",
        doc="Most of etcd's processes are killed, and do not come back.",
        steps=lambda s: [steps.kill_for_good(host, "etcd.service") for host in _majority(s)],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_etcd,
    ),
    Fault(
        name="etcd-nospace",
        doc="etcd refuses every write, as where its space is used up (its alarm NOSPACE).",
        steps=_alarmed,
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_etcd,
    ),
    Fault(
        name="etcd-majority-gone-and-replica-isolated",
        failovers=1,
        doc="Most of etcd is killed for good, and a replica cut off: nobody may lead.",
        steps=lambda s: [
            *(steps.kill_for_good(host, "etcd.service") for host in _majority(s)),
            links.isolated(s, s.replicas[0]),
        ],
        writes=None,
        isolates=True,
        stops_writes=True,
        outlasts=HOST_LOST,
        obstacle=lambda s: needs_own_etcd(s) or needs_replica(s),
    ),
    Fault(
        name="etcd-majority-and-replica-off",
        failovers=1,
        doc="Most of etcd and a replica lose their power: nobody may lead.",
        steps=lambda s: [*(PowerOff(host=h) for h in _majority(s)), PowerOff(host=s.replicas[0])],
        writes=None,
        stops_writes=True,
        outlasts=HOST_LOST,
        obstacle=lambda s: needs_own_etcd(s) or needs_replica(s),
    ),
)
