"""What a host can do now: in order, once, together where that helps, apart where it must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.engine.schedule import Schedule, contracted, group_of, make_schedule
from builder.resources.base import Absent, Action, Change, Impact, Present, Resource, Unknown
from builder.resources.database_role import DatabaseRole
from builder.resources.directory import Directory
from builder.resources.gate import Gate
from builder.resources.package import Package
from builder.resources.unit import Unit
from roles.patroni.running import RunningPostgresql


def change(resource: Resource, action: Action = Action.CREATE, **more: Any) -> Change:
    return Change(resource=resource, action=action, observed=Absent(), **more)


def schedule(changes: list[Change], needs: Mapping[str, tuple[str, ...]] | None = None) -> Schedule:
    work = {item.address: item for item in changes}
    edges = {address: frozenset((needs or {}).get(address, ())) for address in work}
    return make_schedule(work, edges, {host for c in changes for host in c.resource.hosts})


def names(batch: Any) -> list[str]:
    return [item.resource.name for item in batch]


def restart(host: str, group: str | None = "g") -> Change:
    unit = Unit(hosts=(host,), name="u.service", group=group)
    running = Present(attributes=unit.attributes())
    return Change(resource=unit, action=Action.UPDATE, observed=running, impact=Impact.RESTART)


# ── one host ────────────────────────────────────────────────────────────────────────────────────
def test_packages_come_together_in_one_transaction() -> None:
    """A directory between them in the plan does not part them, unless one needs it."""
    packages = [change(Package(hosts=("a",), name=name)) for name in "pqr"]
    folders = [change(Directory(hosts=("a",), name=name)) for name in ("/x", "/y")]
    mixed = [packages[0], folders[0], packages[1], folders[1], packages[2]]
    plain = schedule(mixed)
    assert names(plain.batch("a", set(), set(plain.work), set())) == ["p", "q", "r", "/x", "/y"]
    needy = schedule(mixed, {"a/package:r": ("a/directory:/y",)})
    assert names(needy.batch("a", set(), set(needy.work), set())) == ["p", "q", "/x", "/y", "r"]


def test_a_host_goes_on_until_it_must_wait_for_another() -> None:
    chain = [change(Directory(hosts=("a",), name=f"/{n}")) for n in range(4)]
    other = change(Directory(hosts=("b",), name="/other"))
    needs = {f"a/directory:/{n + 1}": (f"a/directory:/{n}",) for n in range(3)}
    needs["a/directory:/2"] = ("a/directory:/1", "b/directory:/other")
    plan = schedule([*chain, other], needs)
    work = set(plan.work)
    assert names(plan.batch("a", set(), work, set())) == ["/0", "/1"]
    assert names(plan.batch("b", set(), work, set())) == ["/other"]
    done = {"a/directory:/0", "a/directory:/1", "b/directory:/other"}
    assert names(plan.batch("a", done, work - done, set())) == ["/2", "/3"]


def test_what_failed_is_not_tried_and_what_needs_it_never_comes() -> None:
    one, two = (change(Directory(hosts=("a",), name=name)) for name in ("/1", "/2"))
    plan = schedule([one, two], {two.address: (one.address,)})
    assert names(plan.batch("a", set(), {two.address}, set())) == []


# ── rolling groups ──────────────────────────────────────────────────────────────────────────────
def test_of_a_rolling_group_one_member_goes_at_a_time() -> None:
    plan = schedule([restart("a"), restart("b")])
    work = set(plan.work)
    assert names(plan.batch("a", set(), work, taken=set())) == ["u.service"]
    assert names(plan.batch("b", set(), work, taken={"g"})) == []
    assert names(plan.batch("b", {"a/unit:u.service"}, work, taken=set())) == ["u.service"]


def test_other_groups_and_other_work_go_on_meanwhile() -> None:
    folder = change(Directory(hosts=("b",), name="/x"))
    plan = schedule([restart("a"), restart("b"), folder])
    assert names(plan.batch("b", set(), set(plan.work), taken={"g"})) == ["/x"]
    assert names(plan.batch("b", set(), set(plan.work), taken={"another"})) == ["u.service", "/x"]


def test_only_what_interrupts_a_member_takes_a_turn() -> None:
    unit = Unit(hosts=("a",), name="u.service", group="g")
    assert group_of(restart("a")) == "g"
    assert group_of(restart("a", group=None)) is None
    assert group_of(change(unit, impact=Impact.NONE)) is None
    assert group_of(change(unit, Action.UPDATE, impact=Impact.RELOAD)) is None
    for impact in (Impact.RESTART, Impact.SWITCHOVER, Impact.OUTAGE):
        assert group_of(change(unit, Action.UPDATE, impact=impact)) == "g"


# ── places ──────────────────────────────────────────────────────────────────────────────────────
def test_a_gate_runs_on_the_first_host_that_can_be_reached() -> None:
    gate = change(Gate(hosts=("a", "b"), name="g", what="", condition=""), Action.WAIT)
    work, edges = {gate.address: gate}, {gate.address: frozenset[str]()}
    assert make_schedule(work, edges, ["a", "b"]).places == {gate.address: "a"}
    assert make_schedule(work, edges, ["b"]).places == {gate.address: "b"}
    assert make_schedule(work, edges, []).places == {}


def test_what_is_decided_late_has_no_place_before_its_needs_are_done() -> None:
    first = change(Directory(hosts=("a",), name="/x"))
    late = Change(
        resource=Directory(hosts=("a",), name="/y"), action=Action.DECIDE, observed=Unknown("no")
    )
    plan = schedule([first, late], {late.address: (first.address,)})
    work = set(plan.work)
    assert names(plan.batch("a", set(), work, set())) == ["/x"]
    assert names(plan.late(set(), work)) == []
    assert names(plan.late({first.address}, {late.address})) == ["/y"]
    assert names(plan.late({first.address}, set())) == []


def test_what_takes_turns_is_decided_before_what_is_placed_by_who_leads() -> None:
    """A leader that hands over is no leader any more when a role is to be made on it."""
    restarts = Change(
        resource=RunningPostgresql(hosts=("a",), name="a"),
        action=Action.UPDATE,
        observed=Present(attributes={}),
    )
    role = change(DatabaseRole(hosts=("a", "b"), name="app"))
    plan = schedule([role, restarts])
    work = set(plan.work)
    assert plan.late(set(), work) == [restarts]
    assert plan.late({restarts.address}, work - {restarts.address}) == [role]
    assert plan.late(set(), {role.address}) == [role], "also where the restart failed"


# ── contraction ─────────────────────────────────────────────────────────────────────────────────
@st.composite
def graphs(draw: Any) -> tuple[dict[str, frozenset[str]], set[str]]:
    """A graph without circles, and the part of it that has work to do."""
    count = draw(st.integers(1, 10))
    edges = {
        str(n): frozenset(
            str(m) for m in draw(st.sets(st.integers(0, n - 1) if n else st.nothing()))
        )
        for n in range(count)
    }
    return edges, draw(st.sets(st.sampled_from(sorted(edges))))


def before(edges: Mapping[str, frozenset[str]], node: str) -> set[str]:
    found: set[str] = set()
    for need in edges[node]:
        found |= {need} | before(edges, need)
    return found


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_seen_through_what_is_in_sync_the_order_stays_the_same(
    case: tuple[dict[str, frozenset[str]], set[str]],
) -> None:
    edges, work = case
    seen = contracted(edges, work)
    assert seen.keys() == work
    for node in work:
        assert before(seen, node) == before(edges, node) & work


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_every_change_is_carried_out_once_after_all_that_it_needs(
    case: tuple[dict[str, frozenset[str]], set[str]], data: st.DataObject
) -> None:
    """However hosts are chosen, and whoever comes first: nothing is lost, doubled or early."""
    edges, _ = case
    hosts = {node: data.draw(st.sampled_from("abc")) for node in edges}
    address = {n: f"{hosts[n]}/directory:/{n}" for n in edges}
    changes = [change(Directory(hosts=(hosts[n],), name=f"/{n}")) for n in edges]
    needs = {address[n]: tuple(address[m] for m in edges[n]) for n in edges}
    plan = schedule(changes, needs)
    waiting, done = set(plan.work), list[str]()
    while waiting:
        ready = {h: plan.batch(h, done, waiting, set()) for h in "abc"}
        host = data.draw(st.sampled_from(sorted(h for h in ready if ready[h])))
        for item in ready[host]:
            assert set(needs[item.address]) <= set(done)
            done.append(item.address)
            waiting.discard(item.address)
    assert sorted(done) == sorted(plan.work)
