"""One drill from end to end: healthy, traffic, fault, healing, healthy, read back, judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from builder.drill import clients, samples
from builder.drill.fault import BALANCER_DEAF, Fault
from builder.drill.ground import Ground
from builder.drill.history import Attempt, History, Kind, Moment, Outcome, Sample
from builder.drill.inject import UNDO_SECONDS, NotHealedError
from builder.drill.scene import Scene
from builder.drill.schema import stored, table
from builder.drill.steps import Step, lacks
from builder.drill.verdict import Case, Result, judged
from builder.errors import PghaError
from builder.health import ailments

WARM_SECONDS = 20
BEFORE_SECONDS = 3
AFTER_SECONDS = 2
HEALTHY_SECONDS = 180
_NAP_SECONDS = 1.0
_SLOWER = 3  # times that slow machines are given fewer clients


@dataclass(kw_only=True)
class Recorder:
    """What samplers and clients tell; appending to a list is safe from any thread."""

    attempts: list[Attempt] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    marks: dict[Moment, float] = field(default_factory=dict)
    begin: float = 0.0
    end: float = 0.0
    held: tuple[float, float] | None = None
    faded: tuple[str, ...] | None = None

    def mark(self, moment: Moment) -> None:
        self.marks[moment] = time.monotonic()

    def history(self, stored: frozenset[int] | None, slowness: float) -> History:
        return History(
            begin=self.begin,
            end=self.end,
            held=self.held,
            faded=self.faded,
            attempts=tuple(self.attempts),
            samples=tuple(self.samples),
            marks=dict(self.marks),
            stored=stored,
            slowness=slowness,
        )


class NotPossibleError(PghaError):
    """Nothing was done: this fault is no drill here, or not any more."""


def obstacle(fault: Fault, who: Scene, provider: object) -> str:
    """Why this fault is no drill here; empty where it is."""
    reason = fault.obstacle(who)
    return reason or next((r for step in fault.steps(who) if (r := lacks(step, provider))), "")


def drill(ground: Ground, fault: Fault) -> Result:
    """Raises PghaError where the cluster is not healthy before, or the fault cannot be injected."""
    _whole(ground, HEALTHY_SECONDS)  # our own looks may have been too much for a moment
    who = _stage(ground, fault)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with table(ground, who):
        history, wrong = _recorded(ground, fault, reads=bool(who.replicas))
    differences = _differences(ground)
    case = Case(
        fault=fault,
        promises=ground.promises(),
        has_address=bool(who.holder),
        two_holders=fault.two_holders or (fault.isolates and _keep_address(ground, history.struck)),
        addresses={host.name: host.address for host in ground.spec.hosts.values()},
        synchronous=ground.spec.sections["failover"]["synchronous"],
        ailments=wrong,
        differences=differences,
        slowness=history.slowness,
    )
    found, checks = judged(case, history)
    return Result(
        fault=fault,
        targets=history.struck,
        history=history,
        figures=found,
        checks=checks,
        ailments=tuple(wrong),
        differences=differences,
        write_bound=case.seconds(fault.writes),
        at=at,
    )


def _stage(ground: Ground, fault: Fault) -> Scene:
    """Who is who: a drill before may have moved the lead to where this fault is none."""
    who = ground.healthy_scene()
    if reason := obstacle(fault, who, ground.provider):
        raise NotPossibleError(reason)
    return who


def _keep_address(ground: Ground, hosts: Sequence[str]) -> bool:
    """A balancer that hears nobody does where that is not noticed, or while it leads."""
    roles = [ground.spec.hosts[host].roles for host in hosts]
    noticed = BALANCER_DEAF in ground.promises()
    return any("keepalived" in mine and ("patroni" in mine or not noticed) for mine in roles)


def _differences(ground: Ground) -> tuple[str, ...]:
    """What was measured is told also where the plan cannot be made."""
    try:
        return tuple(ground.differences())
    except PghaError as error:
        return (f"cannot be made: {error.what}",)


def _recorded(ground: Ground, fault: Fault, *, reads: bool) -> tuple[History, Sequence[str]]:
    """With no more traffic than the cluster bears, which shows when it is there."""
    traffic = _traffic(ground, reads=reads)
    for _ in range(_SLOWER):
        try:
            return _under(traffic, ground, fault, reads=reads)
        except _OverloadedError as error:
            traffic = traffic.slowed(2.5)
            fewer = f"{traffic.writers + traffic.fresh_writers} write now"
            ground.tell("", f"it is too slow for that many clients: {error.what}; {fewer}")
            _recover(ground, HEALTHY_SECONDS * traffic.slowness)
    return _under(traffic, ground, fault, reads=reads)


def _under(
    traffic: clients.Traffic, ground: Ground, fault: Fault, *, reads: bool
) -> tuple[History, Sequence[str]]:
    recorder = Recorder()
    patience = HEALTHY_SECONDS * traffic.slowness
    lasts = fault.lasts(ground.promises())
    limit = WARM_SECONDS + BEFORE_SECONDS + lasts + UNDO_SECONDS + 2 * patience
    wanted = samples.scripts(ground.spec, ground.roles, traffic.slowness)
    with (
        samples.sampling(
            ground.provider.endpoints(), wanted, recorder.samples.append, traffic.slowness
        ),
        clients.running(
            traffic,
            ground.uris,
            tell=recorder.attempts.append,
            allowed=_allowed(ground.provider),
            deadline=time.monotonic() + limit,
        ),
    ):
        _warm(
            recorder,
            {Kind.WRITE, Kind.READ} if reads else {Kind.WRITE},
            seconds=max(WARM_SECONDS * traffic.slowness, 5 * traffic.connect_seconds),
        )
        steps = fault.steps(_bearing(ground, fault))  # by now another may lead
        slept = _slept()
        recorder.begin = time.monotonic()
        time.sleep(BEFORE_SECONDS)  # what it looks like when nothing is wrong
        ground.may_harm()
        wrong = _suffer(ground, fault, steps, recorder, lasts) or _heal(ground, recorder, patience)
        time.sleep(AFTER_SECONDS)  # and again
        recorder.end = time.monotonic()
    if (gone := _slept() - slept) > _NAP_SECONDS:
        raise PghaError(f"this computer slept for {gone:.0f} s, and so nobody watched")
    found = recorder.history(stored(ground), traffic.slowness)
    struck = tuple(dict.fromkeys(step.host for step in steps if step.strikes))
    silenced = tuple(dict.fromkeys(step.host for step in steps if step.silences))
    return replace(found, watched=tuple(wanted), struck=struck, silenced=silenced), wrong


def _bearing(ground: Ground, fault: Fault) -> Scene:
    """Who is who under the traffic, which was healthy without it."""
    try:
        return _stage(ground, fault)
    except NotPossibleError:
        raise
    except PghaError as error:
        raise _OverloadedError(error.what, why=error.why, do=error.do) from error


def _recover(ground: Ground, patience: float) -> None:
    if wrong := _whole(ground, patience):
        raise PghaError(f"{ground.spec.name} does not get well again: {'; '.join(wrong)}")


def _slept() -> float:
    """Seconds that this computer has been suspended since it booted: no other clock tells."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def _allowed(provider: Any) -> Callable[[], bool]:
    """May a client still connect? Not to the addresses of a lab that has gone."""
    path = getattr(getattr(provider, "layout", None), "namespace_path", None)
    return path.exists if path else lambda: True


def _traffic(ground: Ground, *, reads: bool) -> clients.Traffic:
    """No more than the cluster can bear: an emulated one takes seconds for a connection."""
    from psycopg import Error

    try:
        took = clients.connect_seconds(ground.uris["primary"])
    except Error as error:
        raise _unanswered({str(error).split("\n")[0]}) from error
    begin = time.monotonic()
    ground.injector.run(next(iter(ground.spec.hosts)), "true", seconds=60)
    traffic = ground.traffic if reads else replace(ground.traffic, readers=0, fresh_readers=0)
    return traffic.bearable(took, time.monotonic() - begin)


class _OverloadedError(PghaError):
    """What is well by itself is not under the traffic: the machines are slow."""


def _unanswered(said: Set[str], kind: type[PghaError] = PghaError) -> PghaError:
    return kind(
        f"clients of the drill get no answer: {'; '.join(sorted(said))}",
        do="See whether this machine may connect to the cluster: haproxy.clients.",
    )


def _warm(recorder: Recorder, wanted: Set[Kind], *, seconds: float) -> None:
    """Wait until every kind of client has had an answer, and who is primary is known."""
    end = time.monotonic() + seconds
    while True:
        done = {a.kind for a in recorder.attempts if a.outcome is Outcome.ACK}
        watched = any("primary" in sample.words for sample in recorder.samples)
        if wanted <= done and watched:
            return
        if time.monotonic() > end:
            said = {a.said for a in recorder.attempts if a.said} or {"nobody says who is primary"}
            slow = any(a.outcome is Outcome.ACK and a.end - a.begin > 1 for a in recorder.attempts)
            raise _unanswered(said, _OverloadedError if slow else PghaError)
        time.sleep(0.1)  # until the next look


def _suffer(
    ground: Ground, fault: Fault, steps: Sequence[Step], recorder: Recorder, lasts: float
) -> Sequence[str]:
    """Raises PghaError where the fault could not be injected; says what could not be healed."""
    targets = ", ".join(step.host for step in steps if step.strikes)
    ground.tell(targets, fault.doc)
    recorder.mark(Moment.INJECTED)
    try:
        with ground.injector.injected(steps):
            ground.tell("", f"watches for {lasts:g} s")
            begin = time.monotonic()
            time.sleep(lasts)  # the fault lasts
            recorder.held = (begin, time.monotonic())
            recorder.faded = ground.injector.faded(steps)
    except NotHealedError as error:
        return (error.what,)
    recorder.mark(Moment.HEALED)
    return ()


def _heal(ground: Ground, recorder: Recorder, patience: float) -> Sequence[str]:
    if not (wrong := _whole(ground, patience)):
        recorder.mark(Moment.HEALTHY)
    return wrong


def _whole(ground: Ground, patience: float) -> Sequence[str]:
    """Wait until all is whole; what is still wrong after the limit.

    Looking takes half of the time at most: what is waited for needs the machines, too.
    """
    asked = time.monotonic()
    end, told = asked + patience, False
    while wrong := _ailments(ground):
        if not told:
            ground.tell("", f"waits until the cluster is whole: {'; '.join(wrong)}")
        told, now = True, time.monotonic()
        if now > end:
            return wrong
        time.sleep(max(1.0, now - asked))  # until the next look
        asked = time.monotonic()
    return ()


def _ailments(ground: Ground) -> Sequence[str]:
    try:
        return ailments(ground.spec, ground.status())
    except PghaError as error:
        return (error.what,)
