"""The page: one file that needs nothing else, and says what was found."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from builder.cli import drill
from builder.drill.drawing import per_bucket, svg
from builder.drill.faults import FAULTS
from builder.drill.history import Attempt, History, Kind, Moment, Outcome, Sample
from builder.drill.report import page
from builder.drill.table import rows
from builder.drill.verdict import Case, Result, judged
from builder.errors import PghaError

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def history(lost: int = 0) -> History:
    ends = [n / 25 for n in range(100)] + [6 + n / 25 for n in range(100)]
    attempts = [
        Attempt(
            kind=kind,
            outcome=Outcome.ACK,
            begin=end - 0.02,
            end=end,
            number=n,
            fresh=n % 5 == 0,
            timeline=1 + n // 100,
        )
        for n, end in enumerate(ends)
        for kind in Kind
    ]
    failed = [
        replace(attempts[0], number=900 + n, end=4 + n / 5, outcome=Outcome.ERROR) for n in range(9)
    ]
    samples = [
        Sample(at=n / 4, host=host, words=frozenset(words))
        for n in range(40)
        for host, words in (
            ("pg1", ["primary"] if n < 16 else []),
            ("pg2", ["primary"] if n > 22 else []),
            ("lb1", ["holder", "up:pg1"]),
        )
    ]
    return History(
        begin=0.0,
        end=10.0,
        attempts=(*attempts, *failed),
        samples=tuple(samples),
        marks={Moment.INJECTED: 4.0, Moment.HEALED: 7.0, Moment.HEALTHY: 8.0},
        stored=frozenset(range(lost, 200)),
    )


def result(name: str = "switchover", lost: int = 0) -> Result:
    case = Case(
        fault=FAULTS[name], promises={"switchover": 5.0}, has_address=True, synchronous=True
    )
    found, checks = judged(case, history(lost))
    return Result(
        fault=case.fault,
        targets=("pg1",),
        history=history(lost),
        figures=found,
        checks=checks,
        write_bound=5.0,
        at="2026-01-02T03:04:05+00:00",
    )


def test_the_drawing_is_well_formed_and_names_who_and_when() -> None:
    text = svg(history())
    ElementTree.fromstring(text)  # noqa: S314  our own
    for word in ("pg1", "pg2", "lb1", "fault", "healed", "whole", "writes per 100 ms"):
        assert word in text


def test_the_page_asks_nobody_for_anything() -> None:
    text = page("orders", [result()], NOW)
    fetched = re.findall(r'(?:src|href)="(?!#)([^"]*)"|url\((?!#)([^)]*)\)|@import', text)
    assert fetched == []
    assert "<script" not in text


def test_ids_of_two_drawings_do_not_collide() -> None:
    """Two drawings on one page share a name space: a clip path of one must not clip the other."""
    one, other = result("switchover"), result("postgres-kill")
    text = page("orders", [one, other], NOW)
    for name in re.findall(r'clipPath id="([^"]+)"', text):
        assert text.count(f'clipPath id="{name}"') == 1


@pytest.mark.parametrize(
    ("lost", "words"), [(0, "none of them is lost"), (3, "3 of them are lost")]
)
def test_what_a_manager_asks_is_said_at_the_top(lost: int, words: str) -> None:
    assert words in page("orders", [result(lost=lost)], NOW)


def test_a_page_of_drills_that_were_not_all_done_says_so() -> None:
    for results in ([], [result()]):
        text = page("o", results, NOW, stopped="interrupted")
        assert "Not all drills were done: interrupted" in text
        assert "✓ All" not in text


def test_a_page_says_what_could_not_be_tried() -> None:
    text = page(
        "o", [result()], NOW, left_out={"freeze-leader": "these cannot be frozen from here"}
    )
    assert "✓ All 1 faults that were tried were survived" in text
    assert "1 could not be tried here." in text
    assert "freeze-leader: these cannot be frozen from here." in text


def test_a_page_names_what_it_was_measured_on() -> None:
    found = {"pgha-build": "0.1.0", "PostgreSQL": "17.5, 17.6", "etcd": ""}
    text = page("o", [result()], NOW, software=found)
    assert " · pgha-build 0.1.0 · PostgreSQL 17.5, 17.6</p>" in text


def test_what_was_not_read_back_is_nowhere_said_to_be_there() -> None:
    case = Case(
        fault=FAULTS["switchover"], promises={"switchover": 5.0}, has_address=True, synchronous=True
    )
    unread = replace(history(), stored=None)
    found, checks = judged(case, unread)
    one = replace(result(), history=unread, figures=found, checks=checks)
    text = page("orders", [one], NOW)
    assert "not all could be read back" in text
    assert "none of them is lost" not in text
    assert one.document()["writes_lost"] is None
    assert any("not read back" in row for row in rows([one]))


def test_slow_machines_are_told_of() -> None:
    """Rarer looks are one thing, longer bounds another."""
    told = history()
    slow = [replace(told.attempts[0], begin=at - 1.0, end=at) for at in [3.9] * 25]
    cases = (
        (replace(told, slowness=2.5), "clients and looks were 2.5 times rarer"),
        (
            replace(told, attempts=(*told.attempts, *slow)),
            "new connections were answered 2.0 times later than usual",
        ),
    )
    for heard, words in cases:
        one = replace(result(), history=heard)
        for text in (page("orders", [one], NOW), "\n".join(rows([one]))):
            assert words in text
            assert ("times rarer" in text) == ("times rarer" in words)


def test_names_are_text_and_never_markup() -> None:
    assert "<b>x</b>" not in page("<b>x</b>", [result()], NOW)


def test_a_result_as_json_keeps_its_keys() -> None:
    said = result().document()
    assert said["name"] == "switchover"
    assert said["passed"] is True
    assert said["write_outage_seconds"] == pytest.approx(2.04)
    assert said["writes_lost"] == []
    assert said["recovery_seconds"] == 1.0


def test_buckets_count_each_moment_once() -> None:
    assert per_bucket([0.01, 0.05, 0.11, 0.95], 1.0) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_what_was_measured_is_printed_also_where_the_page_cannot_be_written(
    seven: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = drill.Record(software={}, left_out={}, results=[result()])
    said = argparse.Namespace(json=True, report=tmp_path)  # a folder by now
    with pytest.raises(PghaError, match="the page cannot be written: Is a directory"):
        drill._told(seven.spec, record, said)
    assert json.loads(capsys.readouterr().out)["drills"][0]["name"] == "switchover"
