"""Disks that are full, slow or dead, as data. Pure."""

from __future__ import annotations

from builder.drill import steps
from builder.drill.fault import (
    DISK_LOST,
    HOST_LOST,
    NO_PAUSE,
    REPLICA_LOST,
    Fault,
    needs_own_disk,
    needs_own_etcd_disk,
)

_SLOW_SECONDS = 5.0  # a commit is several writes, and each may wait for another's

DISK_FAULTS = (
    Fault(
        name="leader-disk-full",
        failovers=1,
        doc="The leader's data disk is filled to the last byte.",
        steps=lambda s: [steps.fill(s.leader, s.data[s.leader])],
        writes=DISK_LOST,
        obstacle=needs_own_disk,
    ),
    Fault(
        name="replica-disk-full",
        doc="A replica's data disk is filled to the last byte.",
        steps=lambda s: [steps.fill(s.replicas[0], s.data[s.replicas[0]])],
        writes=REPLICA_LOST,
        obstacle=needs_own_disk,
    ),
    Fault(
        name="leader-disk-hangs",
        failovers=1,
        doc="The leader's data disk does not answer: what is written there waits.",
        steps=lambda s: [steps.hang(s.leader, s.data[s.leader])],
        writes=DISK_LOST,
        obstacle=needs_own_disk,
    ),
    Fault(
        name="leader-disk-slow",
        doc="The leader's data disk takes up to half a second for a write.",
        steps=lambda s: [steps.slow(s.leader, s.data[s.leader])],
        writes=_SLOW_SECONDS,
        outlasts=DISK_LOST,
        obstacle=needs_own_disk,
    ),
    Fault(
        name="etcd-disk-full",
        doc="The data disk of a member of etcd that does not lead it is filled to the last byte.",
        steps=lambda s: [steps.fill(s.etcd_follower, s.etcd_data[s.etcd_follower])],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd_disk,
    ),
    Fault(
        name="etcd-disk-slow",
        doc="The data disk of etcd's leader takes up to half a second for a write.",
        steps=lambda s: [steps.slow(s.etcd_leader, s.etcd_data[s.etcd_leader])],
        writes=NO_PAUSE,
        reads=NO_PAUSE,
        outlasts=HOST_LOST,
        obstacle=needs_own_etcd_disk,
    ),
)
