"""The timings of etcd, Patroni, HAProxy and Keepalived together, and the outage they allow. Pure.

They are one setting because they only make sense together: a fast check in front of a slow lease
gains nothing, and a lease shorter than its renewal loses the leader for no reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from builder.role import Promise
from builder.spec.model import ClusterSpec, Problem
from builder.spec.section import Section
from builder.spec.types import Rule, boolean, one_of, optional, seconds

_PROMOTION_SECONDS = 2.0  # taking the key, leaving recovery, accepting connections
_CONNECT_SECONDS = 1.0  # HAProxy's `timeout connect`
_PATRONI_SECONDS = 5.0  # until systemd has started it again, and it knows who leads
_CLIENT_SECONDS = 2.0  # the least connect_timeout that libpq takes
# What a crashed PostgreSQL has to come back in, where another one could lack writes.
_START_SECONDS = 20
_FLOORS = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}  # patroni/config.py adjusts silently


@dataclass(frozen=True, kw_only=True)
class Timings:
    """All times in seconds, but etcd's heartbeat and election, which are milliseconds.

    Rules: loop_wait + 2 * retry_timeout <= ttl (Patroni docs/dynamic_configuration.rst);
    election >= 5 * heartbeat, about 10 round trips (etcd docs, tuning).
    """

    ttl: int
    loop_wait: int
    retry_timeout: int
    primary_start_timeout: int = 0
    primary_stop_timeout: int = 30
    wal_sender_timeout: int = 5
    heartbeat_ms: int = 100
    election_ms: int = 1000
    check_interval: float = 1.0
    check_fast: float = 0.5
    check_down: float = 0.5
    check_timeout: float = 2.0
    check_fall: int = 3
    check_rise: int = 1
    advertisement: float = 1.0
    script_interval: int = 1
    script_timeout: float = 0.7
    script_fall: int = 2
    hung_interval: int = 1
    hung_timeout: int = 3
    hung_fall: int = 3
    walsender_fall: int = 4
    patroni_interval: int = 2
    disk_silent: int = 10

    @property
    def balancer_notices(self) -> float:
        """Until HAProxy sends connections to a new leader (its configuration.txt, 5.2 `inter`)."""
        answered = self.check_timeout / 2
        return self.check_down + (self.check_rise - 1) * self.check_fast + answered

    @property
    def host_lost(self) -> float:
        return self.ttl + self.loop_wait + _PROMOTION_SECONDS + self.balancer_notices

    @property
    def host_reset(self) -> float:
        """One that boots in time finds that its lease still holds: from then on as crashed."""
        return self.host_lost + self._started_again

    @property
    def host_deaf(self) -> float:
        """etcd hears a leader that hears nobody, and renews its lease until that gives up."""
        return self.host_lost + self.loop_wait + self.retry_timeout

    @property
    def postgresql_crashed(self) -> float:
        """Until it is seen; where it may start again, until one more loop sees that it did not
        (Patroni docs/dynamic_configuration.rst, `primary_start_timeout`).
        """
        given_up = self.loop_wait + self._started_again
        return given_up + _PROMOTION_SECONDS + self.balancer_notices

    @property
    def _started_again(self) -> int:
        return self.primary_start_timeout and self.primary_start_timeout + self.loop_wait

    @property
    def postgresql_hung(self) -> float:
        """Until the watch ends it; from then on it has crashed."""
        return self.hung_fall * (self.hung_interval + self.hung_timeout) + self.postgresql_crashed

    @property
    def patroni_silent(self) -> int:
        """So long a leader may be without Patroni: the lease was renewed a loop before that.

        The watch asks every second, for two at most.
        """
        return self.ttl - self.loop_wait - 3

    @property
    def patroni_fall(self) -> int:
        """Over more than one loop: /liveness goes by the clock, which may have been set."""
        return 1 + ceil((self.loop_wait + 3) / self.patroni_interval)

    @property
    def patroni_hung(self) -> float:
        """/liveness tells of its loop once that is as late as the lease is long; a REST API that
        hangs takes time itself. Then it leads again, and HAProxy sees that.
        """
        late = max(self.ttl + self.loop_wait, self.patroni_fall * (self.hung_timeout - 1))
        ended = late + self.patroni_fall * (self.patroni_interval + 1)
        return ended + _PATRONI_SECONDS + self.loop_wait + self.balancer_notices

    @property
    def disk_lost(self) -> float:
        """Until the watch gives the disk up and asks who could lead; then as after a crash."""
        return self.disk_silent + _PROMOTION_SECONDS + self.postgresql_crashed

    @property
    def replica_lost(self) -> float:
        """Until the leader stops waiting for it: its walsender ends, then a loop sees that."""
        return self.wal_sender_timeout + 2 * self.loop_wait + _PROMOTION_SECONDS

    @property
    def walsender_wakes(self) -> float:
        """A sound one wakes at least so often, to ask whether its replica is still there."""
        return self.wal_sender_timeout / 2

    @property
    def walsender_hung(self) -> float:
        """Until the watch has seen it; one loop more, for PostgreSQL restarts before it is lost."""
        noticed = (self.walsender_fall + 1) * self.walsender_wakes
        return noticed + self.loop_wait + self.postgresql_crashed

    @property
    def switchover(self) -> float:
        return _PROMOTION_SECONDS + self.balancer_notices + 1.5

    @property
    def balancer_lost(self) -> float:
        """Three missed advertisements and the skew, under one more (RFC 5798), and TCP tries again.

        What a client had sent into the gap it sends once more after a second (RFC 6298).
        """
        return round(4 * self.advertisement + 1.2, 1)

    @property
    def keepalived_silent(self) -> int:
        """It should have run its check twice by then; one that did not hangs."""
        return ceil(2 * (self.script_interval + self.script_timeout) + 1)

    @property
    def balancer_hung(self) -> float:
        """The check fails `fall` times, then the address is handed over (RFC 5798: at once, but for
        the skew), and a client gives up the connection that the hung one had taken.

        A check must end before the next is due: Keepalived leaves that one out otherwise.
        """
        failed = self.script_fall * self.script_interval + self.script_timeout
        return ceil(failed + self.advertisement + _CLIENT_SECONDS)

    @property
    def balancer_deaf(self) -> float:
        """Until no check of HAProxy has been answered; from then on it is as one that hangs."""
        unheard = max(self.check_interval + _CONNECT_SECONDS, self.check_timeout)
        unheard += (self.check_fall - 1) * (self.check_fast + _CONNECT_SECONDS)
        return ceil(unheard + self.balancer_hung)


PRESETS: Mapping[str, Timings] = {
    "lan": Timings(ttl=20, loop_wait=5, retry_timeout=5, advertisement=0.7),
    "standard": Timings(
        ttl=30, loop_wait=5, retry_timeout=10, wal_sender_timeout=10, disk_silent=20
    ),
    "wan": Timings(
        ttl=60,
        loop_wait=10,
        retry_timeout=20,
        wal_sender_timeout=30,
        heartbeat_ms=300,
        election_ms=3000,
        check_interval=2.0,
        check_fast=1.0,
        check_down=1.0,
        disk_silent=20,
    ),
    "slow": Timings(
        ttl=60,
        loop_wait=10,
        retry_timeout=20,
        primary_stop_timeout=60,
        wal_sender_timeout=30,
        heartbeat_ms=500,
        election_ms=5000,
        check_interval=3.0,
        check_fast=2.0,
        check_down=2.0,
        check_timeout=8.0,
        advertisement=3.0,
        script_interval=3,
        script_timeout=2,
        hung_timeout=10,
        disk_silent=30,
    ),
}


def timings(spec: ClusterSpec) -> Timings:
    """The preset, with what the spec overrides.

    A crash fails over at once only where that loses nothing: an asynchronous replica may lack the
    last writes, and PostgreSQL that starts again lacks none.
    """
    section = spec.sections["failover"]
    named = {name: section[f"{name}_seconds"] for name in ("ttl", "loop_wait", "retry_timeout")}
    start = 0 if section["synchronous"] else _START_SECONDS
    return replace(
        PRESETS[section["preset"]],
        primary_start_timeout=start,
        **{k: v for k, v in named.items() if v is not None},
    )


def promises(spec: ClusterSpec) -> Iterable[Promise]:
    """The bounds that these timings give."""
    times = timings(spec)
    yield Promise(fault="database host lost", seconds=times.host_lost)
    yield Promise(fault="database host reset", seconds=times.host_reset)
    yield Promise(fault="database host deaf", seconds=times.host_deaf)
    yield Promise(fault="PostgreSQL crashed", seconds=times.postgresql_crashed)
    yield Promise(fault="PostgreSQL hung", seconds=times.postgresql_hung)
    yield Promise(fault="Patroni hung", seconds=times.patroni_hung)
    yield Promise(fault="switchover", seconds=times.switchover)
    if len(spec.with_role("patroni")) > 1:
        yield Promise(fault="replica lost", seconds=times.replica_lost)
        yield Promise(fault="walsender hung", seconds=times.walsender_hung)
        yield Promise(fault="data disk full or hung", seconds=times.disk_lost)


def _check(spec: ClusterSpec) -> Iterable[Problem]:
    times = timings(spec)
    least = times.loop_wait + 2 * times.retry_timeout
    if least > times.ttl:
        yield Problem(
            path=("failover",),
            message=(
                f"loop_wait ({times.loop_wait}) + 2 * retry_timeout ({times.retry_timeout}) is "
                f"{least}, more than ttl ({times.ttl})"
            ),
            advice="Patroni would change these silently; lower them, or raise ttl_seconds",
        )

    section = spec.sections["failover"]
    if section["quorum"] and not section["synchronous"]:
        yield Problem(
            path=("failover", "quorum"),
            message="quorum says who acknowledges a commit, and synchronous is false: nobody does",
            advice="take one of them out",
        )


def _override(name: str, doc: str) -> Rule:
    return optional(seconds(None, doc, _FLOORS[name], 600))


SECTION = Section(
    doc="How fast a failure is noticed, and what may be lost. One preset sets etcd, Patroni, "
    "HAProxy and Keepalived together; the plan states the outage that follows from it.",
    schema={
        "preset": one_of(
            tuple(PRESETS),
            "lan",
            "`lan` for one site with good disks, `standard` for shared or busy machines, `wan` for "
            "several sites, `slow` for emulated machines.",
        ),
        "synchronous": boolean(
            True,
            "A commit is acknowledged only when a second host has it, so a failover loses nothing. "
            "When no other host is left, writes go on alone. Without it, PostgreSQL that crashed "
            f"gets {_START_SECONDS} s to start again, for that loses nothing; then a replica takes "
            "over, and what it lacks is lost.",
        ),
        "quorum": boolean(
            False,
            "With three or more database hosts, let any one of them acknowledge a commit, so that "
            "none is waited for. Needs Patroni 4 (Debian 13), for older ones do not know it.",
        ),
        "ttl_seconds": _override("ttl", "Life of the leader's lease; overrides the preset."),
        "loop_wait_seconds": _override("loop_wait", "Pause of Patroni's loop; overrides."),
        "retry_timeout_seconds": _override(
            "retry_timeout", "How long Patroni retries etcd and PostgreSQL; overrides."
        ),
    },
    check=_check,
)
