"""The table of all drills that were kept: by which bounds they are judged."""

from __future__ import annotations

from typing import Any

from bench.drill import rows


def kept(took: float, bound: float, at: str, **more: Any) -> dict[str, Any]:
    drill = {
        "name": "switchover",
        "preset": "lan",
        "synchronous": True,
        "at": at,
        "writes_acknowledged": 10,
        "writes_lost": [],
        "write_outage_seconds": took,
        "write_bound_seconds": bound,
        "connect_outage_seconds": took,
        "read_outage_seconds": None,
        "recovery_seconds": 1.0,
        "slowness": 1.0,
        "failed": [],
    }
    over = [{"name": "no write acknowledged", "passed": False}] if took > bound else []
    return {**drill, "failed": over, **more}


def passed(*drills: dict[str, Any]) -> str:
    (row,) = rows(drills)
    return row.split(" | ")[1]


def test_outages_are_judged_by_the_bound_of_the_latest() -> None:
    assert passed(kept(5.5, 5, "1"), kept(3, 6, "2")) == "2 of 2"
    assert passed(kept(5.5, 6, "1"), kept(3, 5, "2")) == "1 of 2"
    assert passed(kept(3, 6, "2"), kept(5.5, 5, "1")) == "2 of 2", "the latest, not the last line"


def test_what_failed_otherwise_stays_failed() -> None:
    other = {"failed": [{"name": "two primaries", "passed": False}]}
    assert passed(kept(1, 5, "1", **other), kept(1, 5, "2")) == "1 of 2"


def test_a_bound_that_grew_on_slow_machines_is_nobody_elses() -> None:
    late = kept(5, 9, "2", lateness=2.0)
    assert passed(kept(3, 2, "1"), late) == "1 of 2"
    assert passed(kept(1, 2, "3"), late) == "2 of 2"


def test_connections_may_have_a_bound_of_their_own() -> None:
    new = kept(1, 2, "2", connect_bound_seconds=8.5)
    assert passed(kept(1, 8.5, "1", connect_outage_seconds=7.0), new) == "2 of 2"
    assert "2 s, to connect 8.5 s" in next(rows([new]))
