"""What a recorded history proves of what must stay true (docs/how-to/drill.md). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import median

from builder.drill.history import Attempt, History, Kind, Moment, Outcome, Sample

SILENCE_SECONDS = 1.5  # a host that has said nothing for so long is not known to be anything
LOOKS = 3  # … and so many looks, where they are further apart
TOLERANCE_SECONDS = 1.0  # so late may be heard what a host said, on a busy machine
HOLDER_SECONDS = 10.0
_LAST = 20  # attempts: of two seconds, on a machine that is not slow
USUAL_SECONDS = 0.5  # in which a new connection is answered on a machine that is not slow

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two hosts that were both `what` for `seconds`, from `begin` on."""

    hosts: tuple[str, str]
    begin: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All that is measured; seconds, or counts. `read_outage` None: nobody read."""

    acknowledged: int
    unknown: int
    errors: int
    broken: int
    lost: tuple[int, ...]
    read_back: bool
    double_primaries: tuple[Overlap, ...]
    split_writes: tuple[Attempt, ...]
    write_outage: float
    connect_outage: float
    read_outage: float | None
    client_wait: float
    longest_statement: float
    without_one_holder: float
    several_servers: float
    unwatched: float
    timelines: tuple[int, ...]

    @property
    def failovers(self) -> int:
        """Promotions: each begins a new timeline, also one on which nothing was written."""
        return self.timelines[-1] - self.timelines[0] if self.timelines else 0


def figures(history: History, *, holder_from: float | None = None) -> Figures:
    """Measure. `holder_from`: the one-holder rule counts from then on."""
    writes = list(history.acknowledged(Kind.WRITE))
    reads = any(a.kind is Kind.READ for a in history.attempts)
    outcomes = [a.outcome.value for a in history.attempts if a.kind is Kind.WRITE]
    return Figures(
        acknowledged=len(writes),
        unknown=outcomes.count("unknown"),
        errors=outcomes.count("error"),
        broken=broken(history),
        lost=lost(history),
        read_back=history.stored is not None,
        double_primaries=double(history, "primary"),
        split_writes=split_writes(writes),
        write_outage=outage(history, Kind.WRITE),
        connect_outage=outage(history, Kind.WRITE, fresh=True),
        read_outage=outage(history, Kind.READ) if reads else None,
        client_wait=client_wait(history),
        longest_statement=longest_statement(history),
        without_one_holder=without_one(history, "holder", holder_from),
        several_servers=several_servers(history),
        unwatched=unwatched(history),
        timelines=tuple(sorted({a.timeline for a in writes if a.timeline})),
    )


def lost(history: History) -> tuple[int, ...]:
    """Numbers that were acknowledged and are not in the table."""
    if history.stored is None:
        return ()
    acknowledged = {a.number for a in history.acknowledged(Kind.WRITE)}
    return tuple(sorted(acknowledged - history.stored))


def lateness(history: History) -> float:
    """How many times later than usual new connections were answered, at least 1.

    The last before the fault count: before them, the cluster may have been ill for a while.
    """
    fault = history.marks.get(Moment.INJECTED, history.begin)
    before = [a for a in history.acknowledged(Kind.WRITE, fresh=True) if a.end < fault]
    last = sorted(before, key=lambda attempt: attempt.end)[-_LAST:]
    took = [attempt.end - attempt.begin for attempt in last]
    return max(1.0, median(took) / USUAL_SECONDS) if took else 1.0


def broken(history: History) -> int:
    """Statements without an answer, of clients that had a connection and meant to keep it."""
    kept = (a for a in history.attempts if not a.fresh and history.begin <= a.begin)
    return sum(a.outcome is not Outcome.ACK for a in kept)


def outage(history: History, kind: Kind, *, fresh: bool = False) -> float:
    """The longest time without an acknowledgement, the borders of the drill included."""
    begin, end = longest_gap(history, kind, fresh=fresh)
    return end - begin


def longest_gap(history: History, kind: Kind, *, fresh: bool = False) -> Span:
    """Where the longest outage lies."""
    begin, end = history.begin, history.end
    inside = (a.end for a in history.acknowledged(kind, fresh=fresh) if begin <= a.end <= end)
    return max(pairwise([begin, *sorted(inside), end]), key=lambda gap: gap[1] - gap[0])


def gap(history: History) -> tuple[float, float]:
    """The outage of writes, in seconds since the drill began."""
    begin, end = longest_gap(history, Kind.WRITE)
    return begin - history.begin, end - history.begin


def until_written(history: History) -> float | None:
    """Seconds from the healing to the first write that began after it; None where none did."""
    healed = history.marks.get(Moment.HEALED, history.end)
    later = [a.end for a in history.acknowledged(Kind.WRITE) if a.begin >= healed]
    return min(later) - healed if later else None


def client_wait(history: History) -> float:
    """The longest time that one client of its own had to wait for its next acknowledgement."""
    clients: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        if attempt.kind is Kind.WRITE:
            clients[attempt.client].append(attempt)
    each = (replace(history, attempts=tuple(own)) for own in clients.values())
    return max((outage(own, Kind.WRITE) for own in each), default=history.end - history.begin)


def longest_statement(history: History) -> float:
    """From sending to the answer, or to giving up."""
    sent = (a for a in history.attempts if a.kind is Kind.WRITE and a.sent is not None)
    return max((a.end - a.sent for a in sent if a.sent is not None), default=0.0)


def late(history: History, attempts: Iterable[Attempt], seconds: float) -> Sequence[Attempt]:
    """Those that began and ended while the fault was there, and had been for so many seconds."""
    begin, end = history.held or (history.begin, history.end)
    return [a for a in attempts if begin + seconds <= a.begin and a.end <= end]


def late_writes(history: History, seconds: float) -> int:
    """Acknowledged while the fault was there, after so many seconds."""
    return len(late(history, history.acknowledged(Kind.WRITE), seconds))


def late_reads(history: History, seconds: float, members: Collection[str]) -> int:
    """Answered on new connections by one of `members` (addresses), like `late_writes`."""
    reads = history.acknowledged(Kind.READ, fresh=True)
    return sum(read.member in members for read in late(history, reads, seconds))


def spans(history: History, word: str) -> Mapping[str, Sequence[Span]]:
    """When each host is known to have been `word`: between samples in a row that say so.

    From the end of the first look until the begin of the last.
    """
    silences = _silences(history)
    found: dict[str, list[Span]] = defaultdict(list)
    last: dict[str, Sample] = {}
    for sample in sorted(history.samples, key=lambda s: s.at):
        before = last.get(sample.host)
        last[sample.host] = sample
        if word not in sample.words:
            continue
        stretches = found[sample.host]
        if before and word in before.words and sample.at - before.at <= silences[sample.host]:
            since = stretches[-1][0]
            stretches[-1] = (since, max(since, sample.at - sample.seconds))
        else:
            stretches.append((sample.at, sample.at))
    return found


def _silences(history: History) -> Mapping[str, float]:
    """Seconds without a word after which nothing is known of a host."""
    heard: dict[str, list[float]] = defaultdict(list)
    for sample in history.samples:
        heard[sample.host].append(sample.at)
    least = SILENCE_SECONDS * history.slowness
    return {host: max(least, LOOKS * _usual_gap(sorted(at))) for host, at in heard.items()}


def _usual_gap(moments: Sequence[float]) -> float:
    return float(median([later - earlier for earlier, later in pairwise(moments)] or [0.0]))


def unwatched(history: History) -> float:
    """The longest time in which a watched host said nothing, though the fault let it speak.

    One that has booted since it spoke last, as a watchdog makes it, was not there to speak.
    """
    return max((_silence(history, host) for host in history.watched), default=0.0)


def _silence(history: History, host: str) -> float:
    begin, end = history.begin, history.end
    own = sorted((s for s in history.samples if s.host == host), key=lambda s: s.at)
    inside = [s.at for s in own if begin <= s.at <= end]
    excused = [(a.at, b.at) for a, b in pairwise(own) if b.uptime < a.uptime]
    if host in history.silenced:
        marks = history.marks
        excused.append((marks.get(Moment.INJECTED, end), marks.get(Moment.HEALED, end)))
    points = sorted([begin, *inside, *(at for span in excused for at in span), end])
    silences = (gap for gap in pairwise(points) if not any(_inside(gap, e) for e in excused))
    return max((later - earlier for earlier, later in silences), default=0.0)


def _inside(inner: Span, outer: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def double(history: History, word: str) -> tuple[Overlap, ...]:
    """Pairs of hosts that were both `word` for longer than samples may be apart."""
    stretches = [(host, span) for host, found in spans(history, word).items() for span in found]
    overlaps = []
    for (one, a), (other, b) in combinations(stretches, 2):
        begin, end = max(a[0], b[0]), min(a[1], b[1])
        if one != other and end - begin > TOLERANCE_SECONDS:
            overlaps.append(Overlap(hosts=(one, other), begin=begin, seconds=end - begin))
    return tuple(overlaps)


def split_writes(writes: Iterable[Attempt]) -> tuple[Attempt, ...]:
    """Acknowledged writes that prove two primaries.

    Those that began on an old timeline after a newer one had acknowledged, and those of a second
    member on one timeline.
    """
    known = sorted((w for w in writes if w.timeline), key=lambda w: w.end)
    first: dict[int, float] = {}
    owner: dict[int, str] = {}
    for write in known:
        first.setdefault(write.timeline, write.end)
        owner.setdefault(write.timeline, write.member)
    return tuple(
        write
        for write in known
        if write.member != owner[write.timeline]
        or any(t > write.timeline and at < write.begin for t, at in first.items())
    )


def without_one(history: History, word: str, since: float | None = None) -> float:
    """The longest time in which not exactly one host said `word`."""
    samples = sorted(history.samples, key=lambda s: s.at)
    if not samples:
        return history.end - history.begin
    longest, wrong_since = 0.0, None
    for at, count in _counts(samples, word, max(_silences(history).values())):
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
