"""Laws of the judge, on histories made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.drill.history import Attempt, History, Kind, Moment, Outcome, Sample
from builder.drill.judge import (
    double,
    figures,
    late_reads,
    late_writes,
    lost,
    outage,
    several_servers,
    spans,
    split_writes,
    unwatched,
    without_one,
)


def ack(number: int, end: float, **more: object) -> Attempt:
    values: dict[str, object] = {
        "kind": Kind.WRITE,
        "outcome": Outcome.ACK,
        "begin": end - 0.01,
        "end": end,
        "number": number,
        **more,
    }
    return Attempt(**values)  # type: ignore[arg-type]


def said(host: str, word: str, *moments: float) -> list[Sample]:
    return [Sample(at=at, host=host, words=frozenset({word} if word else ())) for at in moments]


def every(begin: float, end: float, step: float = 0.25) -> list[float]:
    return [begin + step * index for index in range(int((end - begin) / step) + 1)]


# ── lost writes ─────────────────────────────────────────────────────────────────────────────────
def test_a_write_that_was_acknowledged_and_is_not_stored_is_lost() -> None:
    history = History(begin=0, end=9, attempts=(ack(1, 1), ack(2, 2)), stored=frozenset({1}))
    assert lost(history) == (2,)


def test_a_write_without_an_answer_may_be_stored_or_not() -> None:
    doubtful = replace(ack(3, 3), outcome=Outcome.UNKNOWN)
    for stored in (frozenset({1}), frozenset({1, 3})):
        assert lost(History(begin=0, end=9, attempts=(ack(1, 1), doubtful), stored=stored)) == ()


def test_what_was_not_read_back_proves_nothing() -> None:
    assert not figures(History(begin=0, end=9, attempts=(ack(1, 1),))).read_back


@given(st.sets(st.integers(1, 500)), st.sets(st.integers(1, 500)))
def test_lost_is_exactly_acknowledged_without_stored(acked: set[int], stored: set[int]) -> None:
    attempts = tuple(ack(number, number / 10) for number in acked)
    history = History(begin=0, end=60, attempts=attempts, stored=frozenset(stored))
    assert set(lost(history)) == acked - stored


# ── outages ─────────────────────────────────────────────────────────────────────────────────────
def test_an_outage_is_the_longest_time_between_acknowledgements() -> None:
    history = History(begin=0, end=10, attempts=tuple(ack(n, n) for n in (1, 2, 6, 7, 8, 9)))
    assert outage(history, Kind.WRITE) == 4


def test_the_borders_count_and_nobody_served_is_all_of_it() -> None:
    assert outage(History(begin=2, end=10, attempts=(ack(1, 3),)), Kind.WRITE) == 7
    assert outage(History(begin=2, end=10), Kind.READ) == 8


def test_new_connections_have_an_outage_of_their_own() -> None:
    kept = [ack(n, n) for n in range(1, 10)]
    fresh = [ack(20, 1.0, fresh=True), ack(21, 8.0, fresh=True)]
    history = History(begin=0, end=10, attempts=(*kept, *fresh))
    assert outage(history, Kind.WRITE) == 1
    assert outage(history, Kind.WRITE, fresh=True) == 7


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0, 100))
def test_another_acknowledgement_never_makes_an_outage_longer(
    ends: list[float], more: float
) -> None:
    attempts = tuple(ack(n, end) for n, end in enumerate(ends))
    history = History(begin=0, end=100, attempts=attempts)
    longer = replace(history, attempts=(*attempts, ack(999, more)))
    assert outage(longer, Kind.WRITE) <= outage(history, Kind.WRITE) <= 100


@given(st.permutations([float(n) for n in range(12)]))
def test_the_order_in_which_threads_tell_does_not_matter(ends: list[float]) -> None:
    attempts = tuple(ack(int(end), end, timeline=1 + int(end) // 6) for end in ends)
    history = History(begin=0, end=12, attempts=attempts, stored=frozenset(range(12)))
    ordered = tuple(sorted(attempts, key=lambda a: a.end))
    assert figures(history) == figures(replace(history, attempts=ordered))


def seen(samples: list[Sample]) -> History:
    return History(begin=0, end=60, samples=tuple(samples))


# ── two primaries ───────────────────────────────────────────────────────────────────────────────
def test_one_after_the_other_is_no_double_primary() -> None:
    samples = [*said("a", "primary", *every(0, 5)), *said("b", "primary", *every(5.5, 9))]
    assert double(seen(samples), "primary") == ()


def test_two_at_the_same_time_are() -> None:
    samples = [*said("a", "primary", *every(0, 6)), *said("b", "primary", *every(4, 9))]
    (found,) = double(seen(samples), "primary")
    assert (set(found.hosts), found.begin, found.seconds) == ({"a", "b"}, 4, 2)


def test_samples_that_are_only_as_far_apart_as_sampling_is_prove_nothing() -> None:
    samples = [*said("a", "primary", *every(0, 5)), *said("b", "primary", *every(4.5, 9))]
    assert double(seen(samples), "primary") == ()


def test_samples_may_be_further_apart_where_they_are_so_all_the_time() -> None:
    samples = [*said("a", "primary", 0, 4, 8, 12), *said("b", "primary", 5, 9, 13)]
    (found,) = double(seen(samples), "primary")
    assert found.seconds == 7


def test_what_a_look_says_that_takes_long_is_true_of_its_begin_only() -> None:
    """a may have ceased to be one just after it was asked, three seconds before it was heard."""
    slow = [Sample(at=at, host="a", seconds=3, words=frozenset({"primary"})) for at in (4, 8, 12)]
    assert spans(seen(slow), "primary")["a"] == [(4, 9)]
    assert double(seen([*slow, *said("b", "primary", *every(9.5, 12))]), "primary") == ()


def test_a_host_that_falls_silent_is_not_known_to_be_anything() -> None:
    found = spans(seen([*said("a", "primary", 0, 0.25, 8, 8.25)]), "primary")
    assert found["a"] == [(0, 0.25), (8, 8.25)]


def test_a_sample_in_between_that_says_otherwise_ends_a_span() -> None:
    samples = [*said("a", "primary", 0, 0.25, 0.75), *said("a", "", 0.5)]
    assert spans(seen(samples), "primary")["a"] == [(0, 0.25), (0.75, 0.75)]


def test_a_write_acknowledged_on_an_old_timeline_after_a_newer_one_is_split_brain() -> None:
    writes = [ack(1, 1, timeline=1), ack(2, 5, timeline=2), ack(3, 6, timeline=1)]
    assert [write.number for write in split_writes(writes)] == [3]


def test_two_members_that_acknowledge_on_one_timeline_are_split_brain() -> None:
    writes = [ack(1, 1, timeline=2, member="b"), ack(2, 2, timeline=2, member="c")]
    assert [write.number for write in split_writes(writes)] == [2]


def test_a_write_that_was_under_way_when_the_timeline_changed_is_not() -> None:
    writes = [ack(1, 1, timeline=1), ack(2, 5, timeline=2), ack(3, 6, begin=4.0, timeline=1)]
    assert split_writes(writes) == ()


@given(st.lists(st.integers(1, 4), max_size=30))
def test_timelines_that_only_grow_are_no_split(timelines: list[int]) -> None:
    writes = [ack(n, float(n), timeline=t) for n, t in enumerate(sorted(timelines))]
    assert split_writes(writes) == ()


# ── failovers ───────────────────────────────────────────────────────────────────────────────────
def test_a_promotion_after_which_nothing_was_written_counts_too() -> None:
    history = History(begin=0, end=9, attempts=(ack(1, 1, timeline=1), ack(2, 5, timeline=3)))
    assert figures(history).failovers == 2


def test_without_any_write_there_was_no_failover_to_see() -> None:
    assert figures(History(begin=0, end=9)).failovers == 0


def test_what_is_written_after_the_lease_is_counted_while_the_fault_is_there() -> None:
    attempts = tuple(ack(n, float(n)) for n in range(1, 9))
    history = History(begin=0, end=9, attempts=attempts, held=(2.0, 7.0))
    assert late_writes(history, 2.5) == 3


def test_reads_are_late_where_a_struck_member_answers_on_a_new_connection() -> None:
    def read(at: float, member: str, *, fresh: bool = True) -> Attempt:
        return replace(ack(1, at, member=member), kind=Kind.READ, fresh=fresh)

    attempts = (read(4, "b"), read(6, "b"), read(6.1, "a"), read(6.2, "b", fresh=False))
    history = History(begin=0, end=9, attempts=attempts, held=(2.0, 7.0))
    assert late_reads(history, 2.5, ["b"]) == 1
    assert late_reads(history, 1.5, ["b"]) == 2
    assert late_reads(history, 2.5, []) == 0


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────
def test_a_statement_that_was_given_up_is_among_the_longest() -> None:
    given_up = replace(ack(1, 8), sent=3.0, outcome=Outcome.UNKNOWN)
    history = History(begin=0, end=9, attempts=(ack(2, 1, sent=0.99), given_up))
    assert figures(history).longest_statement == 5


def test_connecting_is_no_part_of_a_statement() -> None:
    history = History(begin=0, end=9, attempts=(ack(1, 5, begin=1.0, sent=4.5),))
    assert figures(history).longest_statement == 0.5


def test_a_client_that_was_never_answered_waited_all_the_time() -> None:
    unlucky = replace(ack(1, 1, client=2), outcome=Outcome.ERROR)
    others = (ack(n, float(n), client=1) for n in range(1, 9))
    history = History(begin=0, end=9, attempts=(unlucky, *others))
    assert figures(history).client_wait == 9


# ── the watch itself ────────────────────────────────────────────────────────────────────────────
def watched(*samples: Sample, **more: tuple[str, ...]) -> float:
    marks = {Moment.INJECTED: 10.0, Moment.HEALED: 40.0, Moment.HEALTHY: 50.0}
    history = replace(seen(list(samples)), watched=("a", "b"), marks=marks)
    return unwatched(replace(history, **more))


def test_hosts_that_are_heard_all_the_time_are_watched() -> None:
    assert watched(*said("a", "", *every(0, 60)), *said("b", "", *every(0, 60))) == 0.25


def test_a_host_that_was_never_heard_or_not_to_the_end_was_not_watched() -> None:
    always = said("a", "", *every(0, 60))
    assert watched(*always) == 60
    assert watched(*always, *said("b", "", *every(0, 3))) == 57


def test_who_cannot_speak_may_be_silent_until_it_is_healed() -> None:
    """One that is only cut off from the others can: it may be the second primary."""
    always, before = said("a", "", *every(0, 60)), said("b", "", *every(0, 10))
    after = said("b", "", *every(42, 60))
    assert watched(*always, *before, *after, struck=("b",)) == 32
    assert watched(*always, *before, *after, struck=("b",), silenced=("b",)) == 2


def test_who_has_started_anew_was_not_there_to_speak() -> None:
    before = [replace(s, uptime=900 + s.at) for s in said("b", "primary", *every(0, 10))]
    after = [replace(s, uptime=s.at - 30) for s in said("b", "", *every(42, 60))]
    assert watched(*said("a", "", *every(0, 60)), *before, *after) == 0.25


# ── the address, and the balancers ──────────────────────────────────────────────────────────────
def moved(pause: float) -> History:
    a = [*said("a", "holder", *every(0, 5)), *said("a", "", *every(5.25, 30))]
    b = [*said("b", "", *every(0, 5 + pause)), *said("b", "holder", *every(5 + pause, 30))]
    return History(begin=0, end=30, samples=(*a, *b))


@pytest.mark.parametrize("pause", [0.5, 3.0, 12.0])
def test_the_time_without_one_holder_is_measured(pause: float) -> None:
    assert without_one(moved(pause), "holder") == pytest.approx(pause, abs=0.6)


def test_two_holders_are_as_wrong_as_none_unless_it_counts_only_from_later_on() -> None:
    a, b = said("a", "holder", *every(0, 30)), said("b", "holder", *every(5, 20))
    b += said("b", "", *every(0, 4.75), *every(20.25, 30))
    history = History(begin=0, end=30, samples=(*a, *b), marks={Moment.HEALED: 18.0})
    assert without_one(history, "holder") == pytest.approx(15, abs=0.6)
    assert without_one(history, "holder", since=18.0) == pytest.approx(2, abs=0.6)


def test_a_balancer_with_two_servers_for_writing_is_seen() -> None:
    both = [Sample(at=at, host="lb", words=frozenset({"up:a", "up:b"})) for at in every(3, 6)]
    one = [Sample(at=at, host="lb", words=frozenset({"up:a"})) for at in every(0, 2.75)]
    assert several_servers(seen([*one, *both])) == 3
    assert several_servers(seen(one)) == 0
