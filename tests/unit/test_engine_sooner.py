"""What can be changed at once waits for no gate, and what waits for it comes behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.engine.plan import narrowed
from builder.engine.schedule import make_schedule
from builder.resources.base import Absent, Action, Observed, Present, Resource, Unknown
from builder.resources.database import Database
from builder.resources.database_role import DatabaseRole
from builder.resources.gate import Gate
from builder.resources.unit import Unit
from tests.unit.test_engine_plan import differs, looks, plan_of

WHERE = ("a", "b")
ROLE = DatabaseRole(hosts=WHERE, name="r", needs=("cluster/gate:led",))
DATABASE = Database(hosts=WHERE, name="d", needs=("cluster/gate:led", ROLE.address))
WEAK = Present(attributes={**ROLE.attributes(), "flags": ()})


def resources(mended_first: tuple[str, ...] = ()) -> tuple[Resource, ...]:
    units = [Unit(hosts=(h,), name="x.service", mended_first=mended_first) for h in WHERE]
    needs = tuple(unit.address for unit in units)
    led = Gate(hosts=WHERE, name="led", what="it leads", condition="true", needs=needs)
    whole = Gate(hosts=WHERE, name="whole", what="it is whole", condition="true",
                 needs=(led.address, ROLE.address))  # fmt: skip
    return (*units, led, ROLE, whole, DATABASE)


def test_a_role_that_was_seen_is_changed_though_a_host_is_off() -> None:
    plan = plan_of(resources(), looks(resources(), {ROLE.address: WEAK}, lost=["b"]))
    assert ROLE.address in {change.address for change in plan.pending}
    assert set(plan.blocked) == {"b/unit:x.service", "cluster/gate:led", "cluster/gate:whole"}


def test_a_new_one_too() -> None:
    seen: dict[str, Observed] = {ROLE.address: Absent(), DATABASE.address: Absent()}
    plan = plan_of(resources(), looks(resources(), seen))
    assert plan.edges[ROLE.address] == frozenset()
    assert plan.edges[DATABASE.address] == {ROLE.address}


@pytest.mark.parametrize("nobody", [Absent(elsewhere=True), Unknown("nobody leads")])
def test_where_nobody_could_be_asked_the_gate_is_waited_for(nobody: Observed) -> None:
    wanted = resources((ROLE.address,))
    plan = plan_of(wanted, looks(wanted, {ROLE.address: nobody, DATABASE.address: nobody}))
    assert plan.edges[ROLE.address] == {"cluster/gate:led"}
    assert not plan.order


def test_a_restart_comes_behind_what_it_would_wait_for() -> None:
    wanted = resources((ROLE.address,))
    old = {"a/unit:x.service": differs(wanted[0], definition="outdated")}
    plan = plan_of(wanted, looks(wanted, {ROLE.address: WEAK, **old}))
    assert plan.order["a/unit:x.service"] == {ROLE.address}
    assert plan.changes["cluster/gate:whole"].action is Action.WAIT
    schedule = make_schedule({c.address: c for c in plan.pending}, plan.edges, WHERE, plan.order)
    work = schedule.work.keys()
    assert not schedule.batch("a", set(), work, set(), ahead=work)
    over = schedule.batch("a", set(), work - {ROLE.address}, set(), ahead=())
    assert over[0].address == "a/unit:x.service"


def test_who_is_asked_for_alone_does_not_bring_what_only_comes_before_it() -> None:
    wanted = resources((ROLE.address,))
    old = {"a/unit:x.service": differs(wanted[0], definition="outdated")}
    plan = plan_of(wanted, looks(wanted, {ROLE.address: WEAK, **old}))
    pending = {c.address for c in narrowed(plan, ["a/unit:x.service"]).pending}
    assert pending == {"a/unit:x.service"}


def test_it_waits_for_what_is_no_gate() -> None:
    """Nothing goes round in a circle, whatever could be looked at."""
    unseen = replace(ROLE, name="other")
    database = replace(DATABASE, name="e", needs=("cluster/gate:led", unseen.address))
    wanted = (*resources(), unseen, database)
    plan = plan_of(wanted, looks(wanted, {unseen.address: Unknown("cut off")}))
    assert plan.edges[database.address] == {"cluster/gate:led", unseen.address}
