"""When somebody is told that certificates end."""

from __future__ import annotations

from builder.expiry import alarm, first_to_end


def left(*days: int) -> dict[str, dict[str, int]]:
    return {f"pg{number}": {"/x.crt": day} for number, day in enumerate(days, 1)}


def test_the_first_to_end_is_named() -> None:
    assert first_to_end({}) == first_to_end({"pg1": {}}) == ""
    assert first_to_end(left(90, 31)) == "2; the first to end has 31 days left: /x.crt on pg2"
    assert first_to_end(left(90, -1)) == "2; the first to end has ended: /x.crt on pg2"


def test_a_month_before_the_end_it_is_an_alarm() -> None:
    assert list(alarm(left(30, 396))) == []
    assert list(alarm(left(29, 3, 396))) == [
        "certificates: 2 of 3 about to end, /x.crt on pg2 in 3 days; apply renews them"
    ]
    assert list(alarm(left(-1, -4, 3))) == [
        "certificates: 2 of 3 ended, /x.crt on pg2 first; apply renews them",
        "certificates: 1 of 3 about to end, /x.crt on pg3 in 3 days; apply renews them",
    ]
