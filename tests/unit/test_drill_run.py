"""What a drill does where the cluster does not bear its traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from builder import registry
from builder.drill import run
from builder.drill.clients import Traffic
from builder.drill.faults import FAULTS
from builder.drill.ground import Ground
from builder.drill.history import Attempt, History, Kind, Outcome
from builder.drill.recorder import Recorder
from builder.errors import PghaError
from builder.spec.model import ClusterSpec
from tests.unit.test_drill_faults import Lab, status

FAULT = FAULTS["switchover"]
FOUND = cast(History, object())


class Bears:
    """`_under` in short: a cluster that bears `writers`, and tires of more."""

    def __init__(
        self, spec: ClusterSpec, *, writers: int, ill_for: int, takes: float = 1.5
    ) -> None:
        self.writers, self.ill_for, self.takes = writers, ill_for, takes
        self.spec, self.ill, self.told = spec, 0, list[str]()
        self.tried: list[tuple[int, bool]] = []

    def __call__(
        self, traffic: Traffic, ground: Ground, fault: object, recorder: Recorder, *, reads: bool
    ) -> tuple[History, Sequence[str]]:
        answer = {"kind": Kind.WRITE, "outcome": Outcome.ACK, "fresh": False, "timeline": 1}
        recorder.attempts.append(Attempt(begin=0, end=self.takes, number=7, **answer))
        self.tried.append((traffic.writers, self.ill > 0))
        if traffic.writers > self.writers:
            self.ill = self.ill_for
        run._borne(ground, recorder, 0)
        return FOUND, ()

    def status(self) -> Mapping[str, Any]:
        self.ill -= 1
        found = status(self.spec)
        if self.ill >= 0:
            found["patroni"]["members"]["pg2"]["answers"] = False
        return found

    def ground(self) -> Ground:
        return Ground(
            spec=self.spec,
            roles=registry.roles(),
            provider=Lab(),
            uris={},
            status=self.status,
            differences=lambda: (),
            tell=lambda _, what: self.told.append(what),
        )


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.time, "sleep", lambda _: None)
    monkeypatch.setattr(run, "bearable", lambda *_, **__: Traffic())
    monkeypatch.setattr(run, "HEALTHY_SECONDS", 0.2)
    monkeypatch.setattr(run, "stored", lambda _: frozenset({7}))


def test_a_cluster_that_tires_of_the_traffic_is_waited_for_and_gets_less(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Bears(seven.spec, writers=2, ill_for=5)
    monkeypatch.setattr(run, "_under", cluster)
    assert run._recorded(cluster.ground(), FAULT, reads=True) == (FOUND, ())
    assert cluster.tried == [(6, False), (2, False)]
    assert "it is too slow for that many clients" in cluster.told[1]
    assert "pg2: Patroni does not answer" in cluster.told[1]


def test_one_that_does_not_get_well_again_is_not_drilled(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Bears(seven.spec, writers=2, ill_for=10**9)
    monkeypatch.setattr(run, "_under", cluster)
    with pytest.raises(PghaError, match="does not get well again: pg2: Patroni does not answer"):
        run._recorded(cluster.ground(), FAULT, reads=True)
    assert len(cluster.tried) == 1


def test_one_that_bears_nothing_is_said_to_be_ill(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Bears(seven.spec, writers=0, ill_for=2)
    monkeypatch.setattr(run, "_under", cluster)
    with pytest.raises(
        PghaError, match="is not healthy under the traffic: pg2: Patroni does not answer"
    ):
        run._recorded(cluster.ground(), FAULT, reads=True)
    assert [writers for writers, _ in cluster.tried] == [6, 2, 1, 1]


def test_one_that_answers_at_once_and_is_ill_is_not_taken_for_slow(
    seven: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Bears(seven.spec, writers=2, ill_for=2, takes=0.1)
    monkeypatch.setattr(run, "_under", cluster)
    with pytest.raises(PghaError, match="is not healthy under the traffic: pg2"):
        run._recorded(cluster.ground(), FAULT, reads=True)
    assert len(cluster.tried) == 1


def test_what_the_traffic_alone_lost_is_told(seven: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Bears(seven.spec, writers=2, ill_for=2)
    monkeypatch.setattr(run, "_under", cluster)
    monkeypatch.setattr(run, "stored", lambda _: frozenset({8}))
    with pytest.raises(PghaError, match="1 acknowledged writes are lost, under the traffic alone"):
        run._recorded(cluster.ground(), FAULT, reads=True)
