"""Several drills in a row: what one that cannot be done, or is interrupted, leaves of the rest."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from builder.cli import drill
from builder.drill.fault import Fault
from builder.drill.faults import FAULTS
from builder.drill.ground import Ground
from builder.drill.inject import Injector, NotInjectedError
from builder.drill.run import NotPossibleError
from builder.drill.steps import PowerOff
from builder.errors import MachineError, PghaError
from tests.unit.test_drill_report import result

THREE = [FAULTS[name] for name in ("switchover", "leader-isolated", "haproxy-kill")]


class Reached:
    def renew(self, _: object) -> None: ...

    def reached(self) -> Mapping[str, Any]:
        return {}


class Machines:
    """Their power cannot be cut where they say `no`, nor brought back where they are `dead`."""

    def __init__(self, no: str = "", dead: str = "") -> None:
        self.no, self.dead = no, dead
        self.started: list[str] = []

    def endpoints(self) -> Mapping[str, Any]:
        return {}

    def kill(self, host: str) -> None:
        if host == self.no:
            raise MachineError(f"{host} has no plug")

    def start(self, host: str) -> None:
        self.started.append(host)
        if host == self.dead:
            raise OSError("no such device")


@contextmanager
def _locked(*_: object) -> Iterator[Any]:
    class Lock:
        def refuse_lost(self) -> None: ...

    yield Lock()


def done(
    seven: Any, monkeypatch: pytest.MonkeyPatch, raised: BaseException, *, forgiving: bool = True
) -> tuple[int, drill.Record]:
    """The exit status of three drills of which the second raises this."""

    def carry_out(_: Ground, fault: Fault) -> Any:
        if fault is THREE[1]:
            raise raised
        return result(fault.name)

    for name, value in (("drill", carry_out), ("locked", _locked)):
        monkeypatch.setattr(drill, name, value)
    monkeypatch.setattr(drill, "heal_leftovers", lambda *_: False)
    monkeypatch.setattr(drill.signal, "signal", lambda *_: None)
    record = drill.Record(software={}, left_out={})
    ground: Any = Ground(
        spec=seven.spec,
        roles={},
        provider=Machines(),
        uris={},
        status=dict,
        differences=lambda: (),
        tell=lambda *_: None,
    )
    connections: Any = Reached()
    drill._drilled(connections, ground, THREE, record, forgiving=forgiving)
    arguments = argparse.Namespace(json=True, report=None)
    return drill._told(seven.spec, record, arguments), record


def names(record: drill.Record) -> list[str]:
    return [one.fault.name for one in record.results]


def test_of_all_drills_one_that_cannot_be_injected_fails_and_the_rest_is_done(
    seven: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = NotInjectedError("pg1: the script failed with 1: no such table")
    status, record = done(seven, monkeypatch, refused)
    assert (status, names(record)) == (1, ["switchover", "haproxy-kill"])
    document = json.loads(capsys.readouterr().out)
    assert not document["passed"]
    assert "leader-isolated could not be carried out: pg1: the script" in document["stopped"]
    status, record = done(seven, monkeypatch, refused, forgiving=False)
    assert (status, names(record)) == (1, ["switchover"])


def test_what_is_no_drill_here_any_more_is_left_out_and_any_other_error_ends_all(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, record = done(seven, monkeypatch, NotPossibleError("there is no replica"))
    assert record.left_out == {"leader-isolated": "there is no replica"}
    assert names(record) == ["switchover", "haproxy-kill"]
    status, record = done(seven, monkeypatch, PghaError("not healthy"))
    assert (status, names(record)) == (1, ["switchover"])


def test_what_could_not_be_healed_is_told_also_after_ctrl_c(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = KeyboardInterrupt()
    stop.add_note("b could not be healed. pgha-build machines start b")
    status, record = done(seven, monkeypatch, stop)
    assert (status, names(record)) == (130, ["switchover"])
    assert record.stopped == "b could not be healed. pgha-build machines start b; interrupted"


def test_ctrl_c_does_not_hide_that_the_healing_failed() -> None:
    injector = Injector({}, Machines(dead="b"), lambda *_: None)
    with (
        pytest.raises(KeyboardInterrupt) as raised,
        injector.injected([PowerOff(host="a"), PowerOff(host="b")]),
    ):
        raise KeyboardInterrupt
    assert raised.value.__notes__ == [
        "b could not be healed: OSError('no such device'). pgha-build machines start b"
    ]


def test_a_second_ctrl_c_while_it_heals_does_not_hide_it_either() -> None:
    class Slow(Machines):
        def start(self, host: str) -> None:
            signal.raise_signal(signal.SIGINT)
            super().start(host)

    injector = Injector({}, Slow(dead="b"), lambda *_: None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as raised, injector.injected([PowerOff(host="b")]):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
    assert [note[:23] for note in drill._notes(raised.value)] == ["b could not be healed: "]


def test_what_had_been_done_of_a_fault_that_cannot_be_done_is_undone() -> None:
    machines = Machines(no="b")
    injector = Injector({}, machines, lambda *_: None)
    with (
        pytest.raises(NotInjectedError, match="b has no plug"),
        injector.injected([PowerOff(host="a"), PowerOff(host="b")]),
    ):
        pytest.fail("there is no fault")
    assert machines.started == ["b", "a"]


def test_what_a_killed_drill_left_is_healed_before_the_cluster_is_asked_how_it_is(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be ill just for that, and would be refused."""
    order: list[str] = []

    class Ill:
        tell = staticmethod(lambda *_: None)

        def healthy_scene(self) -> None:
            order.append("looked at")
            raise PghaError("not healthy")

    monkeypatch.setattr(drill, "_ground", lambda *_: Ill())
    monkeypatch.setattr(drill, "locked", _locked)
    monkeypatch.setattr(drill, "heal_leftovers", lambda *_: order.append("healed") or True)
    monkeypatch.setattr(drill, "recover", lambda _: order.append("waited for"))
    connections: Any = Reached()
    with pytest.raises(PghaError, match="not healthy"):
        drill._carried_out(seven, connections, THREE, argparse.Namespace())
    assert order == ["healed", "waited for", "looked at"]
