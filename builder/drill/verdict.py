"""Measured against promised: each thing that must hold, with its bound. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.drill.clients import Traffic
from builder.drill.fault import (
    BALANCER_HUNG,
    HOST_DEAF,
    HOST_LOST,
    NO_PAUSE,
    REPLICA_LOST,
    SWITCHOVER,
    Bound,
    Fault,
)
from builder.drill.history import History, Moment
from builder.drill.judge import (
    HOLDER_SECONDS,
    Figures,
    double,
    figures,
    late_reads,
    late_writes,
    lateness,
    until_written,
)

_SLOW = 2  # times slower than usual: there a statement may take as long as a client waits for it
_ASKING_SECONDS = 2  # of each member, whether it still follows (patroni/api.py, failsafe)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold; `bound` None: measured, not promised."""

    name: str
    measured: str
    bound: str
    passed: bool
    promised: bool = True


@dataclass(frozen=True, kw_only=True)
class Result:
    """One drill, judged. `ailments` and `differences`: what was still wrong at the end."""

    fault: Fault
    targets: tuple[str, ...]
    history: History
    figures: Figures
    checks: tuple[Check, ...]
    ailments: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    write_bound: float | None = None
    connect_bound: float | None = None
    at: str = ""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def document(self) -> Mapping[str, Any]:
        """The JSON of one drill: an interface."""
        found = self.figures
        return {
            "name": self.fault.name,
            "doc": self.fault.doc,
            "at": self.at,
            "targets": list(self.targets),
            "passed": self.passed,
            "checks": [vars(check) for check in self.checks],
            "writes_acknowledged": found.acknowledged,
            "writes_unknown": found.unknown,
            "writes_failed": found.errors,
            "writes_lost": list(found.lost) if found.read_back else None,
            "write_outage_seconds": round(found.write_outage, 2),
            "write_bound_seconds": self.write_bound,
            "connect_bound_seconds": self.connect_bound,
            "connect_outage_seconds": round(found.connect_outage, 2),
            "read_outage_seconds": found.read_outage and round(found.read_outage, 2),
            "client_wait_seconds": round(found.client_wait, 2),
            "longest_statement_seconds": round(found.longest_statement, 2),
            "recovery_seconds": recovery(self.history),
            "timelines": list(found.timelines),
            "slowness": round(self.history.slowness, 1),
            "lateness": round(lateness(self.history), 1),
            "ailments": list(self.ailments),
            "differences": list(self.differences),
        }


def lost_words(said: Mapping[str, Any]) -> str:
    """Of the JSON of a drill: how many acknowledged writes are lost."""
    if said["writes_lost"] is None:
        return "not read back"
    return f"{len(said['writes_lost'])} of {said['writes_acknowledged']}"


def slow_words(result: Result) -> str:
    """What was slow when nothing was wrong, and what was granted for it; else empty."""
    slowness, late = result.history.slowness, lateness(result.history)
    words = []
    if slowness > 1:
        words.append(f"clients and looks were {slowness:.1f} times rarer, for slow machines")
    if late > 1:
        words.append(
            f"new connections were answered {late:.1f} times later than usual before the fault: so "
            "much longer is what no timing says"
        )
    return "; ".join(words)


def recovery(history: History) -> float | None:
    """From the healing on until all was whole."""
    healed, healthy = (history.marks.get(m) for m in (Moment.HEALED, Moment.HEALTHY))
    return None if healed is None or healthy is None else round(healthy - healed, 1)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a fault is judged with, beside its history. `addresses` are those of the hosts.

    `two_holders`: the address has two until the fault is healed. `slowness` as in `History`,
    `lateness` as measured.
    """

    fault: Fault
    promises: Mapping[str, float]
    has_address: bool
    two_holders: bool = False
    synchronous: bool
    addresses: Mapping[str, str] = field(default_factory=dict)
    ailments: Sequence[str] = ()
    differences: Sequence[str] = field(default=())
    slowness: float = 1.0
    lateness: float = 1.0

    def seconds(self, bound: Bound | None) -> float | None:
        """A promise follows from timings; plain seconds are what a machine itself may take.

        On slow ones clients are answered later, and ask more rarely.
        """
        if bound is None or isinstance(bound, str):
            return None if bound is None else self.promises.get(bound)
        rarer = Traffic.fresh_interval_seconds * (self.slowness - 1)
        return round(bound * self.lateness + rarer, 1)

    def failovers(self) -> tuple[int, int]:
        """The fewest and the most that the fault may lead to."""
        due = self.fault.failovers
        none = self.fault.may_stay and not self.synchronous
        return 0 if none else due, due + int(self.fault.may_move)

    def connect_seconds(self) -> float | None:
        """The bound for a new connection."""
        connects = self.fault.connects
        return self.seconds(self.fault.writes if connects is None else connects)


def judged(case: Case, history: History) -> tuple[Figures, tuple[Check, ...]]:
    one_from = history.marks.get(Moment.HEALED) if case.two_holders else None
    found = figures(history, holder_from=history.begin if one_from is None else one_from)
    checks = (
        *_safety(found, case),
        *_late(history, case),
        *_outages(found, case),
        *_end(case, history),
    )
    return found, checks


def _safety(found: Figures, case: Case) -> Iterator[Check]:
    lost = f"{len(found.lost)} of {found.acknowledged}" if found.read_back else "not read back"
    yield Check(
        name="acknowledged writes lost",
        measured=lost,
        bound="0" if case.synchronous else "",
        passed=found.read_back and not (found.lost and case.synchronous),
        promised=case.synchronous,
    )
    doubles = [f"{' and '.join(o.hosts)} for {o.seconds:.1f} s" for o in found.double_primaries]
    if found.split_writes:
        doubles.append(f"{len(found.split_writes)} writes on an old timeline")
    yield Check(
        name="two primaries",
        measured="; ".join(doubles) or "never",
        bound="never",
        passed=not doubles,
    )
    # HAProxy takes a former leader out after `fall` checks; it refuses writes from the start.
    yield _within("several servers for writes", found.several_servers, case.seconds(SWITCHOVER))
    if case.has_address:
        moved = max(HOLDER_SECONDS * case.slowness, case.seconds(BALANCER_HUNG) or 0)
        yield _within("not one holder of the address", found.without_one_holder, moved)
    fewest, most = case.failovers()
    yield Check(
        name="failovers",
        measured=str(found.failovers),
        bound=str(most) if fewest == most else f"at most {most}",
        passed=fewest <= found.failovers <= most,
    )
    yield _within("a host not watched", found.unwatched, HOLDER_SECONDS * case.slowness)


def _late(history: History, case: Case) -> Iterator[Check]:
    """What must have ended some time after the fault came, and while it is there."""
    if history.faded is not None:
        yield Check(
            name="the fault stayed until it was healed",
            measured=f"no: it had ended on {', '.join(history.faded)}" if history.faded else "yes",
            bound="yes",
            passed=not history.faded,
        )
    if case.fault.stops_writes:
        # What a leader that has lost etcd has to give up in is what one that is deaf costs more.
        gives_up = case.promises[HOST_DEAF] - case.promises[HOST_LOST] + _ASKING_SECONDS
        yield _none("writes while nobody may lead", late_writes(history, gives_up))
        waited, bound = until_written(history), case.seconds(HOST_LOST)
        again = "no write once healed"
        yield (
            Check(name=again, measured="none came", bound=f"{bound:g} s", passed=False)
            if waited is None
            else _within(again, waited, bound)
        )
    if case.fault.stops_reads:
        struck = [case.addresses[host] for host in history.struck]
        late = late_reads(history, case.promises[REPLICA_LOST], struck)
        yield _none("new sessions that read old rows", late)
    yield from _of_the_address(case.fault, history)


def _of_the_address(fault: Fault, history: History) -> Iterator[Check]:
    begin = history.marks.get(Moment.INJECTED, history.begin)
    end = history.marks.get(Moment.HEALED, history.end)
    seen_then = (sample for sample in history.samples if begin <= sample.at <= end)
    holders = {sample.host for sample in seen_then if "holder" in sample.words}
    moved, both = holders - {*history.struck}, double(history, "holder")
    for name, due, seen in (
        ("another takes the address", fault.moves_address, moved),
        ("two holders while it is there", fault.two_holders, both),
    ):
        if due:
            measured = "yes" if seen else "no: the fault had no effect"
            yield Check(name=name, measured=measured, bound="yes", passed=bool(seen))


def _none(name: str, count: int) -> Check:
    return Check(name=name, measured=str(count), bound="0", passed=count == 0)


def _outages(found: Figures, case: Case) -> Iterator[Check]:
    writes = case.seconds(case.fault.writes)
    yield _within("no write acknowledged", found.write_outage, writes)
    yield _within("no new connection", found.connect_outage, case.connect_seconds())
    unbroken = case.fault.writes == NO_PAUSE and case.lateness < _SLOW
    yield Check(
        name="statements that broke on open connections",
        measured=str(found.broken),
        bound="0" if unbroken else "",
        passed=not (unbroken and found.broken),
        promised=unbroken,
    )
    yield _within("one client's longest wait", found.client_wait, None)
    yield _within("longest statement", found.longest_statement, None)
    if found.read_outage is not None:
        yield _within("no read answered", found.read_outage, case.seconds(case.fault.reads))


def _within(name: str, seconds: float, bound: float | None) -> Check:
    return Check(
        name=name,
        measured=f"{seconds:.1f} s",
        bound="" if bound is None else f"{bound:g} s",
        passed=bound is None or seconds <= bound,
        promised=bound is not None,
    )


def _end(case: Case, history: History) -> Iterator[Check]:
    took = recovery(history)
    yield Check(
        name="whole again, by itself",
        measured="; ".join(case.ailments) or f"after {took:g} s",
        bound="yes",
        passed=not case.ailments and took is not None,
    )
    yield Check(
        name="plan",
        measured="; ".join(case.differences) or "empty",
        bound="empty",
        passed=not case.differences,
    )
