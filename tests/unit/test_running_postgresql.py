"""In which order PostgreSQL restarts for settings that wait for it, by what Patroni answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from builder.resources.base import Action, AttributeChange, Change, Impact, Present, Unknown
from builder.resources.patroni_config import PatroniConfig
from roles.patroni.running import RunningPostgresql, follow_through

Reasons = Mapping[str, tuple[str, str]]


def answer(reasons: Reasons | None) -> str:
    """Patroni's to GET /patroni; before 3.3 it did not say why (no reasons)."""
    said: dict[str, Any] = {"state": "running", "pending_restart": True}
    if reasons is not None:
        pairs = {name: {"old_value": a, "new_value": b} for name, (a, b) in reasons.items()}
        said["pending_restart_reason"] = pairs
    return json.dumps(said)


def change(host: str, reasons: Reasons | None) -> Change:
    resource = RunningPostgresql(hosts=(host,), name=host, leaves="leaves", last="echo 1")
    observed = resource.parse([resource], answer(reasons))[host]
    return Change(resource=resource, action=Action.UPDATE, observed=observed)


def leader_goes_first(by_host: Mapping[str, Reasons | None], *, other: bool) -> bool:
    changes = {item.address: item for item in (change(h, r) for h, r in by_host.items())}
    beside = {CONFIG.address: CONFIG} if other else {}
    after = follow_through(None, {**changes, **beside})  # type: ignore[arg-type]
    first = {item.resource.turn() != changes[at].resource.turn() for at, item in after.items()}
    assert len(first) == 1, "all members restart in one order"
    return first.pop()


CONFIG = Change(
    resource=PatroniConfig(hosts=("pg1",), name="config"),
    action=Action.UPDATE,
    observed=Present(attributes={}),
    attributes=(AttributeChange(name="postgresql.parameters.work_mem", before="4MB", after="8MB"),),
)
RAISED = {"max_connections": ("100", "200")}
LOWERED = {"max_connections": ("200", "100")}
OWN = {"shared_buffers": ("16384", "8192")}


@pytest.mark.parametrize(
    ("by_host", "leader_first"),
    [
        ({"pg1": RAISED, "pg2": RAISED}, False),
        ({"pg1": LOWERED, "pg2": LOWERED}, True),
        ({"pg1": RAISED, "pg2": {**RAISED, "max_wal_senders": ("10", "5")}}, True),
        ({"pg1": OWN, "pg2": OWN}, False),
        ({"pg1": None, "pg2": None}, True),
        ({"pg1": {"max_connections": ("", "100")}}, False),
    ],
    ids=["raised", "lowered", "both", "no matter to replicas", "not told", "from nothing"],
)
def test_beside_a_change_the_leader_restarts_first_where_replicas_must_have_as_much(
    by_host: Mapping[str, Reasons | None], leader_first: bool
) -> None:
    assert leader_goes_first(by_host, other=True) is leader_first
    assert leader_goes_first(by_host, other=False), "only owed: in place"


def test_a_restart_that_is_owed_is_not_forgotten_when_another_setting_changes() -> None:
    """Its order and its impact count, though `work_mem` alone would need a reload only."""
    changes = {item.address: item for item in (CONFIG, change("pg1", LOWERED))}
    (planned,) = follow_through(None, changes).values()  # type: ignore[arg-type]
    assert planned.resource.turn() != "echo 1"
    assert (planned.action, planned.impact) == (Action.DECIDE, Impact.SWITCHOVER)
    assert planned.reason == "restarts for max_connections"


def test_a_member_that_leaves_is_not_restarted_for_a_changed_setting() -> None:
    leaving = replace(change("pg2", RAISED), action=Action.DELETE)
    changes = {item.address: item for item in (CONFIG, leaving, change("pg1", RAISED))}
    planned = follow_through(None, changes)  # type: ignore[arg-type]
    assert leaving.address not in planned
    assert len(planned) == 1


def test_the_plan_says_what_waits() -> None:
    observed = change("pg1", RAISED).observed
    assert isinstance(observed, Present)
    assert observed.attributes["settings"] == "wait for a restart: max_connections from 100 to 200"


def test_an_answer_that_breaks_off_is_not_known() -> None:
    resource = RunningPostgresql(hosts=("pg1",), name="pg1")
    observed = resource.parse([resource], answer(RAISED)[:-9])["pg1"]
    assert isinstance(observed, Unknown)
