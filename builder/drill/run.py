"""One drill from end to end: healthy, traffic, fault, healing, healthy, read back, judged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime

from builder.drill import clients, samples
from builder.drill.bearable import allowed, bearable, unanswered
from builder.drill.fault import BALANCER_DEAF, Fault
from builder.drill.ground import Ground
from builder.drill.history import History, Kind, Moment
from builder.drill.inject import UNDO_SECONDS, NotHealedError
from builder.drill.judge import double, lateness, lost, split_writes
from builder.drill.recorder import Recorder
from builder.drill.scene import Scene
from builder.drill.schema import stored, table
from builder.drill.steps import LAST_RESORT_SECONDS, Step, lacks
from builder.drill.verdict import Case, Result, judged
from builder.errors import PghaError
from builder.health import ailments

WARM_SECONDS = 20
BEFORE_SECONDS = 3
AFTER_SECONDS = 2
HEALTHY_SECONDS = 180
_NAP_SECONDS = 1.0
_MARGIN_SECONDS = 120  # in which a fault of several steps is injected
_SLOWER = 3  # times that slow machines are given fewer clients


class NotPossibleError(PghaError):
    """Nothing was done: this fault is no drill here, or not any more."""


def obstacle(fault: Fault, who: Scene, provider: object, promises: Mapping[str, float]) -> str:
    """Why this fault is no drill here; empty where it is."""
    lasts = fault.lasts(promises)
    if lasts > LAST_RESORT_SECONDS - _MARGIN_SECONDS:
        return f"it has to last {lasts:g} s, and ends by itself after {LAST_RESORT_SECONDS} s"
    reason = fault.obstacle(who)
    return reason or next((r for step in fault.steps(who) if (r := lacks(step, provider))), "")


def drill(ground: Ground, fault: Fault) -> Result:
    """Raises PghaError where the cluster is not healthy before, or the fault cannot be injected."""
    who = _stage(ground, fault, HEALTHY_SECONDS)
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
        lateness=lateness(history),
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
        connect_bound=case.connect_seconds(),
        at=at,
    )


def _stage(ground: Ground, fault: Fault, patience: float) -> Scene:
    """Who is who: a drill before may have moved the lead to where this fault is none.

    Our own looks may have been too much for a moment: one that does not find all well is repeated.
    """
    end = time.monotonic() + patience
    while True:
        _whole(ground, end - time.monotonic())
        try:
            who = ground.healthy_scene()
            break
        except PghaError:
            if time.monotonic() > end:
                raise
    if reason := obstacle(fault, who, ground.provider, ground.promises()):
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
    traffic = bearable(ground, reads=reads)
    for _ in range(_SLOWER):
        recorder = Recorder()
        try:
            return _under(traffic, ground, fault, recorder, reads=reads)
        except _OverloadedError as error:
            _refuse_harmed(ground, recorder)
            traffic = traffic.slowed(2.5)
            fewer = f"{traffic.writers + traffic.fresh_writers} write now"
            ground.tell("", f"it is too slow for that many clients: {error.what}; {fewer}")
            recover(ground, HEALTHY_SECONDS * traffic.slowness)
    return _under(traffic, ground, fault, Recorder(), reads=reads)


def _read_back(ground: Ground, recorder: Recorder, slowness: float) -> History:
    """Only what was acknowledged before can be missed."""
    heard = recorder.history(None, slowness)
    return replace(heard, stored=stored(ground))


def _refuse_harmed(ground: Ground, recorder: Recorder) -> None:
    """What must never be must not be before the fault, either."""
    found = _read_back(ground, recorder, 1.0)
    if gone := lost(found):
        harm = f"{len(gone)} acknowledged writes are lost"
    elif double(found, "primary") or split_writes(found.acknowledged(Kind.WRITE)):
        harm = "there were two primaries"
    else:
        return
    raise PghaError(
        f"{harm}, under the traffic alone",
        why="No fault had been injected yet.",
        do="See the logs of PostgreSQL and Patroni on the database hosts.",
    )


def _under(
    traffic: clients.Traffic, ground: Ground, fault: Fault, recorder: Recorder, *, reads: bool
) -> tuple[History, Sequence[str]]:
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
            allowed=allowed(ground.provider),
            deadline=time.monotonic() + limit,
        ),
    ):
        _warm(
            recorder,
            {Kind.WRITE, Kind.READ} if reads else {Kind.WRITE},
            seconds=max(WARM_SECONDS * traffic.slowness, 5 * traffic.connect_seconds),
        )
        _borne(ground, recorder, HEALTHY_SECONDS / 3 * traffic.slowness)
        steps = fault.steps(_stage(ground, fault, patience / 3))  # by now another may lead
        slept = _slept()
        recorder.begin = time.monotonic()
        time.sleep(BEFORE_SECONDS)  # what it looks like when nothing is wrong
        ground.may_harm()
        wrong = _suffer(ground, fault, steps, recorder, lasts) or _heal(ground, recorder, patience)
        time.sleep(AFTER_SECONDS)  # and again
        recorder.end = time.monotonic()
    if (gone := _slept() - slept) > _NAP_SECONDS:
        raise PghaError(f"this computer slept for {gone:.0f} s, and so nobody watched")
    found = _read_back(ground, recorder, traffic.slowness)
    struck = tuple(dict.fromkeys(step.host for step in steps if step.strikes))
    silenced = tuple(dict.fromkeys(step.host for step in steps if step.silences))
    return replace(found, watched=tuple(wanted), struck=struck, silenced=silenced), wrong


def _borne(ground: Ground, recorder: Recorder, patience: float) -> None:
    """It was healthy without the traffic, and is with it, but for a moment at its begin."""
    if wrong := _whole(ground, patience):
        kind = _OverloadedError if recorder.slow() else PghaError
        raise kind(
            f"{ground.spec.name} is not healthy under the traffic: {'; '.join(wrong)}",
            do="See `pgha-build status`; the logs of the hosts say more.",
        )


def recover(ground: Ground, patience: float = HEALTHY_SECONDS) -> None:
    """Wait until all is whole. Raises PghaError where it does not become so."""
    if wrong := _whole(ground, patience):
        raise PghaError(f"{ground.spec.name} does not get well again: {'; '.join(wrong)}")


def _slept() -> float:
    """Seconds that this computer has been suspended since it booted: no other clock tells."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class _OverloadedError(PghaError):
    """What is well by itself is not under the traffic: the machines are slow."""


def _warm(recorder: Recorder, wanted: Set[Kind], *, seconds: float) -> None:
    """Wait until every kind of client has had an answer, and who is primary is known."""
    end = time.monotonic() + seconds
    while True:
        answered = wanted <= {attempt.kind for attempt in recorder.acknowledged()}
        if answered and any("primary" in sample.words for sample in recorder.samples):
            return
        if time.monotonic() > end:
            kind = _OverloadedError if recorder.slow() else PghaError
            if not answered:
                said = {a.said for a in recorder.attempts if a.said}
                raise unanswered(said or {f"for {seconds:g} s"}, kind)
            raise kind(
                f"in {seconds:g} s no host said over SSH that Patroni has it written to",
                do="pgha-build status says what Patroni answers.",
            )
        time.sleep(0.1)  # until the next look


def _suffer(
    ground: Ground, fault: Fault, steps: Sequence[Step], recorder: Recorder, lasts: float
) -> Sequence[str]:
    """Raises PghaError where the fault could not be injected; says what could not be healed."""
    targets = ", ".join(dict.fromkeys(step.host for step in steps if step.strikes))
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
        return (f"{error.what}. {error.do}",)
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
