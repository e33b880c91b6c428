"""What a recorded history proves: pure functions, from faults.md's list of what must stay true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from builder.drill.history import Attempt, History, Kind, Sample

SILENCE_SECONDS = 1.5  # a host that has said nothing for so long is not known to be anything
TOLERANCE_SECONDS = 1.0  # samples of two hosts are that far apart, on a busy machine
LOOK_SECONDS = 5.0  # … and on the slowest
HOLDER_SECONDS = 10.0

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two hosts that were both `what` for `seconds`, from `begin` on."""

    hosts: tuple[str, str]
    begin: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All that is measured; seconds, or counts."""

    acknowledged: int
    unknown: int
    errors: int
    lost: tuple[int, ...]
    read_back: bool
    double_primaries: tuple[Overlap, ...]
    split_writes: tuple[Attempt, ...]
    write_outage: float
    connect_outage: float
    read_outage: float
    client_wait: float
    longest_statement: float
    without_one_holder: float
    several_servers: float
    timelines: tuple[int, ...]


def figures(history: History, *, holder_from: float | None = None) -> Figures:
    """Measure. `holder_from`: the one-holder rule counts from then on."""
    writes = list(history.acknowledged(Kind.WRITE))
    outcomes = [a.outcome.value for a in history.attempts if a.kind is Kind.WRITE]
    return Figures(
        acknowledged=len(writes),
        unknown=outcomes.count("unknown"),
        errors=outcomes.count("error"),
        lost=lost(history),
        read_back=history.stored is not None,
        double_primaries=double(history, "primary"),
        split_writes=split_writes(writes),
        write_outage=outage(history, Kind.WRITE),
        connect_outage=outage(history, Kind.WRITE, fresh=True),
        read_outage=outage(history, Kind.READ),
        client_wait=client_wait(history),
        longest_statement=max((a.end - a.begin for a in writes), default=0.0),
        without_one_holder=without_one(history, "holder", holder_from),
        several_servers=several_servers(history),
        timelines=tuple(sorted({a.timeline for a in writes})),
    )


def lost(history: History) -> tuple[int, ...]:
    """Numbers that were acknowledged and are not in the table."""
    if history.stored is None:
        return ()
    acknowledged = {a.number for a in history.acknowledged(Kind.WRITE)}
    return tuple(sorted(acknowledged - history.stored))


def outage(history: History, kind: Kind, *, fresh: bool = False) -> float:
    """The longest time without an acknowledgement, the borders of the drill included."""
    begin, end = longest_gap(history, kind, fresh=fresh)
    return end - begin


def longest_gap(history: History, kind: Kind, *, fresh: bool = False) -> Span:
    """Where the longest outage lies."""
    begin, end = history.begin, history.end
    inside = (a.end for a in history.acknowledged(kind, fresh=fresh) if begin <= a.end <= end)
    return max(pairwise([begin, *sorted(inside), end]), key=lambda gap: gap[1] - gap[0])


def client_wait(history: History) -> float:
    """The longest time that one client of its own had to wait for its next acknowledgement."""
    clients: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in history.acknowledged(Kind.WRITE):
        clients[attempt.client].append(attempt)
    each = (replace(history, attempts=tuple(own)) for own in clients.values())
    return max((outage(own, Kind.WRITE) for own in each), default=history.end - history.begin)


def spans(history: History, word: str) -> Mapping[str, Sequence[Span]]:
    """When each host is known to have been `word`: between samples in a row that say so."""
    silence = SILENCE_SECONDS * history.slowness
    found: dict[str, list[Span]] = defaultdict(list)
    last: dict[str, Sample] = {}
    for sample in sorted(history.samples, key=lambda s: s.at):
        before = last.get(sample.host)
        last[sample.host] = sample
        if word not in sample.words:
            continue
        stretches = found[sample.host]
        if before and word in before.words and sample.at - before.at <= silence:
            stretches[-1] = (stretches[-1][0], sample.at)
        else:
            stretches.append((sample.at, sample.at))
    return found


def double(history: History, word: str) -> tuple[Overlap, ...]:
    """Pairs of hosts that were both `word` for longer than samples may be apart."""
    tolerance = min(TOLERANCE_SECONDS * history.slowness, LOOK_SECONDS)
    stretches = [(host, span) for host, found in spans(history, word).items() for span in found]
    overlaps = []
    for (one, a), (other, b) in combinations(stretches, 2):
        begin, end = max(a[0], b[0]), min(a[1], b[1])
        if one != other and end - begin > tolerance:
            overlaps.append(Overlap(hosts=(one, other), begin=begin, seconds=end - begin))
    return tuple(overlaps)


def split_writes(writes: Iterable[Attempt]) -> tuple[Attempt, ...]:
    """Acknowledged writes that began on an old timeline after a newer one had acknowledged."""
    known = sorted((w for w in writes if w.timeline), key=lambda w: w.end)
    first: dict[int, float] = {}
    for write in known:
        first.setdefault(write.timeline, write.end)
    return tuple(
        write
        for write in known
        if any(t > write.timeline and at < write.begin for t, at in first.items())
    )


def without_one(history: History, word: str, since: float | None = None) -> float:
    """The longest time in which not exactly one host said `word`."""
    samples = sorted(history.samples, key=lambda s: s.at)
    if not samples:
        return history.end - history.begin
    longest, wrong_since = 0.0, None
    for at, count in _counts(samples, word, SILENCE_SECONDS * history.slowness):
        if since is not None and at < since:
            continue
        if count == 1:
            wrong_since = None
            continue
        wrong_since = at if wrong_since is None else wrong_since
        longest = max(longest, at - wrong_since)
    return longest


def _counts(samples: Sequence[Sample], word: str, silence: float) -> Iterator[tuple[float, int]]:
    """At each sample, how many hosts are known to be `word`; the first seconds find out."""
    latest: dict[str, Sample] = {}
    for sample in samples:
        latest[sample.host] = sample
        if sample.at - samples[0].at < silence:
            continue
        fresh = (s for s in latest.values() if sample.at - s.at <= silence)
        yield sample.at, sum(word in s.words for s in fresh)


def several_servers(history: History) -> float:
    """The longest time in which one balancer had more than one server to write to."""
    marked = tuple(
        Sample(at=s.at, host=s.host, words=frozenset({"several"}))
        if sum(w.startswith("up:") for w in s.words) > 1
        else Sample(at=s.at, host=s.host)
        for s in history.samples
    )
    found = spans(replace(history, samples=marked), "several").values()
    return max((end - begin for each in found for begin, end in each), default=0.0)
