"""Plans: what is a difference, whose doing it is, what acts for what, what waits, what goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import registry
from builder.engine import saved
from builder.engine.graph import ancestors
from builder.engine.manifest import Manifest
from builder.engine.observe import Look, merged, merged_with_host
from builder.engine.plan import Plan, make_plan, narrowed
from builder.engine.schedule import make_schedule
from builder.errors import ConnectionLost, PlanError, StalePlanError
from builder.resources.base import Absent, Action, Impact, Observed, Present, Resource, Unknown
from builder.resources.database_role import DatabaseRole
from builder.resources.directory import Directory
from builder.resources.file import File
from builder.resources.gate import Gate
from builder.resources.package import Package
from builder.resources.sql import Server
from builder.resources.sysctl import Sysctl
from builder.resources.unit import Unit


def as_wanted(resource: Resource) -> Present:
    return Present(attributes=resource.attributes())


def looks(
    resources: Sequence[Resource],
    observed: dict[str, Observed] | None = None,
    *,
    managed: Sequence[Resource] | None = None,
    lost: Sequence[str] = (),
) -> dict[str, Look]:
    """Hosts where all is as wanted but for `observed`; their manifests list `managed`."""
    observed = observed or {}
    managed = resources if managed is None else managed
    hosts = dict.fromkeys(host for r in (*resources, *managed) for host in r.hosts)
    found = {}
    for host in hosts:
        if host in lost:
            found[host] = Look(host=host, error=ConnectionLost(host, "no route to host"))
            continue
        here = [r for r in (*resources, *managed) if host in r.hosts and r.observed_in_plan]
        known = [r for r in managed if host in r.hosts and r.observed_in_plan]
        said = {r.address: observed.get(r.address, as_wanted(r)) for r in here}
        found[host] = Look(host=host, observed=said, manifest=Manifest().settled("c", known))
    return found


def plan_of(resources: Sequence[Resource], seen: dict[str, Look]) -> Plan:
    return make_plan("c", resources, seen, registry.kinds())


def file(name: str = "/etc/f", content: bytes = b"new", host: str = "a", **more: Any) -> File:
    return File(hosts=(host,), name=name, content=content, **more)


def differs(resource: Resource, **attributes: Any) -> Present:
    return Present(attributes={**resource.attributes(), **attributes})


# ── whose doing it is ───────────────────────────────────────────────────────────────────────────
def test_what_differs_from_what_we_applied_is_drift() -> None:
    wanted = file()
    plan = plan_of([wanted], looks([wanted], {wanted.address: differs(wanted, mode="0777")}))
    assert plan.changes[wanted.address].drift


def test_what_the_spec_changed_is_no_drift() -> None:
    old, new = file(content=b"old"), file(content=b"new")
    plan = plan_of([new], looks([new], {new.address: as_wanted(old)}, managed=[old]))
    change = plan.changes[new.address]
    assert (change.action, change.drift) == (Action.UPDATE, False)


def test_what_was_there_before_us_is_no_drift() -> None:
    wanted = file()
    other = {wanted.address: differs(wanted, mode="0600")}
    plan = plan_of([wanted], looks([wanted], other, managed=[]))
    assert not plan.changes[wanted.address].drift


def test_a_change_of_both_is_drift() -> None:
    old, new = file(content=b"old"), file(content=b"new")
    by_hand = differs(new, content="by hand")
    plan = plan_of([new], looks([new], {new.address: by_hand}, managed=[old]))
    assert plan.changes[new.address].drift


def test_what_is_gone_was_taken_away_only_if_it_was_there() -> None:
    wanted = file()
    gone = looks([wanted], {wanted.address: Absent()})
    never = looks([wanted], {wanted.address: Absent()}, managed=[])
    assert plan_of([wanted], gone).changes[wanted.address].drift
    assert not plan_of([wanted], never).changes[wanted.address].drift


def test_a_certificate_that_grew_old_is_nobodys_doing(seven: Any) -> None:
    address = "pg1/certificate:/etc/patroni/tls/server.crt"
    old = differs(seven[address], life="3 days left")
    change = seven.plan(seven.looks({address: old})).changes[address]
    assert (change.action, change.drift) == (Action.UPDATE, False)


def test_an_apply_that_was_killed_is_finished_by_the_next_one() -> None:
    """The file is written; that its unit has not restarted yet only the manifest knows."""
    wanted = file()
    unit = Unit(hosts=("a",), name="u.service", restart_on=(wanted.address,))
    seen = looks([wanted, unit])
    begun = seen["a"].manifest.begun("c", [(wanted, Impact.NONE), (unit, Impact.RESTART)])
    seen["a"] = replace(seen["a"], manifest=begun)
    plan = plan_of([wanted, unit], seen)
    assert [c.address for c in plan.differences] == [unit.address]
    change = plan.changes[unit.address]
    assert (change.trigger, change.impact, change.drift) == (Impact.RESTART, Impact.RESTART, False)
    assert any("restart" in str(step) for step in change.steps())


def test_what_was_begun_and_never_made_is_no_drift() -> None:
    wanted = file()
    seen = looks([wanted], {wanted.address: Absent()}, managed=[])
    begun = Manifest().begun("c", [(wanted, Impact.NONE)])
    seen["a"] = replace(seen["a"], manifest=begun)
    change = plan_of([wanted], seen).changes[wanted.address]
    assert (change.action, change.drift) == (Action.CREATE, False)


def test_a_warning_alone_is_no_change() -> None:
    wanted = Sysctl(hosts=("a",), name="vm.swappiness", value="1")
    said = Present(attributes=wanted.attributes(), note="stays 60")
    plan = plan_of([wanted], looks([wanted], {wanted.address: said}))
    assert (plan.exit_code, list(plan.notes)) == (0, ["sysctl vm.swappiness: stays 60"])


# ── what acts for what ──────────────────────────────────────────────────────────────────────────
CHAIN = (
    file("/etc/unit"),
    file("/etc/config"),
    Unit(
        hosts=("a",),
        name="u.service",
        restart_on=("a/file:/etc/unit",),
        reload_on=("a/file:/etc/config",),
    ),
)


@pytest.mark.parametrize(
    ("changed", "act"),
    [
        ((), Impact.NONE),
        (("/etc/config",), Impact.RELOAD),
        (("/etc/unit",), Impact.RESTART),
        (("/etc/config", "/etc/unit"), Impact.RESTART),
    ],
)
def test_a_unit_acts_once_as_its_strongest_cause_asks(
    changed: tuple[str, ...], act: Impact
) -> None:
    seen = looks(CHAIN, {r.address: differs(r, content="x") for r in CHAIN if r.name in changed})
    change = plan_of(CHAIN, seen).changes["a/unit:u.service"]
    assert (change.trigger, change.impact) == (act, act)
    assert change.triggered == tuple(
        f"a/file:{n}" for n in ("/etc/config", "/etc/unit") if n in changed
    )


def test_a_unit_that_does_not_run_is_started_and_costs_nothing() -> None:
    unit = CHAIN[2]
    seen = looks(CHAIN, {unit.address: differs(unit, state="stopped"), CHAIN[0].address: Absent()})
    assert plan_of(CHAIN, seen).changes[unit.address].impact is Impact.NONE


# ── gates, and what cannot be looked at ─────────────────────────────────────────────────────────
def gated() -> tuple[Resource, ...]:
    """a: unit → gate over a and b → c: unit."""
    one = Unit(hosts=("a",), name="store.service")
    two = Unit(hosts=("b",), name="store.service")
    gate = Gate(hosts=("a", "b"), name="g", what="it answers", condition="true",
                needs=(one.address, two.address))  # fmt: skip
    behind = Unit(hosts=("c",), name="user.service", needs=(gate.address,))
    return one, two, gate, behind


@pytest.mark.parametrize(
    ("broken", "waits"),
    [(None, False), ("a/unit:store.service", True), ("c/unit:user.service", True)],
)
def test_a_gate_is_waited_for_only_where_something_beside_it_changes(
    broken: str | None, waits: bool
) -> None:
    resources = gated()
    stopped = {r.address: differs(r, state="stopped") for r in resources if r.address == broken}
    plan = plan_of(resources, looks(resources, stopped))
    assert (plan.changes["cluster/gate:g"].action is Action.WAIT) is waits
    assert plan.exit_code == (2 if waits else 0)


def test_what_depends_on_an_unreachable_host_waits_and_the_rest_goes_on() -> None:
    resources = (*gated(), file(host="c"))
    observed: dict[str, Observed] = {
        r.address: differs(r, state="stopped") for r in resources if isinstance(r, Unit)
    }
    observed["c/file:/etc/f"] = Absent()
    plan = plan_of(resources, looks(resources, observed, lost=["b"]))
    assert plan.unreachable == {"b": "b: no route to host"}
    assert {c.address for c in plan.differences} == {"a/unit:store.service", "c/file:/etc/f"}
    assert set(plan.blocked) == {"b/unit:store.service", "cluster/gate:g", "c/unit:user.service"}
    assert plan.exit_code == 1


def test_what_is_unknown_is_never_made_anew() -> None:
    wanted = file()
    seen = looks([wanted], {wanted.address: Unknown("permission denied")})
    plan = plan_of([wanted], seen)
    assert (plan.differences, plan.exit_code) == ([], 1)


def test_what_is_unknown_until_something_before_it_changes_is_decided_then() -> None:
    package = Package(hosts=("a",), name="p")
    behind = DatabaseRole(
        hosts=("a",), name="r", server=Server(port=5432), needs=(package.address,)
    )
    seen = looks([package, behind], {package.address: Absent(), behind.address: Unknown("no")})
    plan = plan_of([package, behind], seen)
    assert [(c.address, c.action) for c in plan.differences] == [
        ("a/package:p", Action.CREATE),
        ("a/role:r", Action.DECIDE),
    ]
    assert plan.exit_code == 2


def test_what_is_decided_late_is_agreed_to_as_it_is_wanted() -> None:
    """Where nothing is known of a role, a saved plan must not stand for a more powerful one."""
    package = Package(hosts=("a",), name="p")
    prints = set()
    for flags in ((), ("superuser",)):
        role = DatabaseRole(
            hosts=("a",), name="r", server=Server(port=5432), flags=flags, needs=(package.address,)
        )
        seen = looks([package, role], {package.address: Absent(), role.address: Unknown("no")})
        prints.add(plan_of([package, role], seen).fingerprint())
    assert len(prints) == 2


def test_what_is_unknown_where_it_should_be_known_is_not_touched_and_owes_what_is_asked() -> None:
    """Systemd did not answer: the file is written, and the restart waits for another apply."""
    config = file()
    unit = Unit(hosts=("a",), name="u.service", restart_on=(config.address,))
    seen = looks([config, unit], {config.address: Absent(), unit.address: Unknown("no bus")})
    plan = plan_of([config, unit], seen)
    assert [c.address for c in plan.differences] == [config.address]
    assert plan.blocked == {unit.address: unit.address}
    assert [(c.address, c.trigger) for c in plan.owed] == [(unit.address, Impact.RESTART)]
    assert [c.address for c in narrowed(plan, [config.address]).owed] == [unit.address]
    assert plan.exit_code == 1


@pytest.mark.parametrize(
    ("wanted", "differs"), [(None, False), ("17.5*", False), ("17.5-1", False), ("17.6*", True)]
)
def test_a_version_is_wanted_only_where_it_is_pinned_and_is_nobodys_drift(
    wanted: str | None, differs: bool
) -> None:
    before = Package(hosts=("a",), name="p")
    now = Package(hosts=("a",), name="p", version=wanted)
    there = {now.address: Present(attributes={"version": "17.5-1"})}
    plan = plan_of([now], looks([now], there, managed=[before]))
    assert [(c.action, c.drift) for c in plan.differences] == [(Action.UPDATE, False)] * differs


# ── several hosts that can answer ───────────────────────────────────────────────────────────────
ANSWERS: dict[str, Observed] = {
    "there": Present(attributes={"value": "1"}),
    "absent": Absent(),
    "unknown": Unknown("down"),
    "ask elsewhere": Unknown("a replica", elsewhere=True),
    "nothing to hold it": Absent(elsewhere=True),
}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=5))
def test_the_answer_that_weighs_most_decides_wherever_it_stands(words: list[str]) -> None:
    hosts = tuple(f"h{n}" for n in range(len(words)))
    resource = Sysctl(hosts=hosts, name="k", value="1")
    seen = {
        host: Look(host=host, observed={resource.address: ANSWERS[word]})
        for host, word in zip(hosts, words, strict=True)
    }
    best = min(words, key=list(ANSWERS).index)
    assert merged(resource, seen) == ANSWERS[best]
    assert merged_with_host(resource, seen)[1] == hosts[words.index(best)]


def test_a_host_that_is_silent_is_never_a_reason_to_make_a_thing_anew() -> None:
    """The leader may be there: «nothing here» of a fresh host must not decide for it."""
    resource = Sysctl(hosts=("a", "b"), name="k", value="1")
    fresh = Look(host="a", observed={resource.address: Absent(elsewhere=True)})
    lost = Look(host="b", error=ConnectionLost("b", "no route"))
    assert isinstance(merged(resource, {"a": fresh, "b": lost}), Unknown)


# ── what has left the spec ──────────────────────────────────────────────────────────────────────
def removal_order(plan: Plan) -> list[str]:
    """The addresses in the order in which one host would remove them."""
    work = {change.address: change for change in plan.pending}
    schedule = make_schedule(work, plan.edges, ["a", "lb1"])
    host = next(iter(work.values())).resource.hosts[0]
    return [change.address for change in schedule.batch(host, set(), set(work), set())]


def test_what_has_left_goes_in_the_reverse_order_of_its_making() -> None:
    package = Package(hosts=("a",), name="p")
    folder = Directory(hosts=("a",), name="/etc/p")
    config = file("/etc/p/config", needs=(package.address,))
    unit = Unit(
        hosts=("a",), name="p.service", needs=(package.address,), reload_on=(config.address,)
    )
    managed = [package, folder, config, unit]
    plan = plan_of([], looks([], managed=managed))
    assert all(change.action is Action.DELETE for change in plan.pending)
    order = removal_order(plan)
    assert len(order) == 4
    assert order.index(unit.address) < order.index(config.address) < order.index(package.address)
    assert order.index(config.address) < order.index(folder.address)


def test_a_role_that_leaves_a_host_is_removed_in_reverse(seven: Any, world_of: Any) -> None:
    """Real: its unit stops first; a directory goes after what lies in it, packages near the end."""
    text = (Path(__file__).parents[1] / "golden/shapes/seven.yml").read_text()
    new = world_of(text.replace("lb1: {address: 10.77.0.31, roles: [haproxy, keepalived]}",
                                "lb1: {address: 10.77.0.31, roles: [haproxy]}"))  # fmt: skip
    there = {r.address: as_wanted(r) for r in seven.resources}
    plan = new.plan(new.looks(there, manifest=seven.manifest))
    work = {c.address: c for c in plan.pending if c.action is Action.DELETE}
    schedule = make_schedule(work, plan.edges, ["lb1"])
    order = [c.address for c in schedule.batch("lb1", set(), set(work), set())]
    assert set(order) == set(work)
    drop_in = "/etc/systemd/system/keepalived.service.d"
    for first, then in (
        ("unit:keepalived.service", "file:/etc/keepalived/keepalived.conf"),
        (
            "unit:keepalived.service",
            f"file:{drop_in}/pgha-build.conf",
        ),
        ("unit:keepalived.service", "package:keepalived"),
        ("unit:keepalived.service", "user:keepalived_script"),
        (
            f"file:{drop_in}/pgha-build.conf",
            f"directory:{drop_in}",
        ),
        (
            "file:/usr/local/lib/pgha-build/keepalived-interface",
            "directory:/usr/local/lib/pgha-build",
        ),
    ):
        assert order.index(f"lb1/{first}") < order.index(f"lb1/{then}"), (first, then)


def test_what_has_left_and_is_gone_already_is_forgotten() -> None:
    old = file()
    plan = plan_of([], looks([], {old.address: Absent()}, managed=[old]))
    assert (plan.pending, plan.forgotten, plan.exit_code) == ([], (old.address,), 0)


def test_what_has_left_and_cannot_be_looked_at_is_kept_in_mind() -> None:
    old = file()
    plan = plan_of([], looks([], {old.address: Unknown("no")}, managed=[old]))
    assert plan.forgotten == ()
    assert plan.changes[old.address].action is Action.DECIDE


def test_no_data_is_deleted_because_a_line_left_a_file(seven: Any, world_of: Any) -> None:
    text = (Path(__file__).parents[1] / "golden/shapes/seven.yml").read_text()
    start, end = text.index("  databases:"), text.index("  access:")
    new = world_of(text[:start] + text[end:])
    there = {r.address: as_wanted(r) for r in seven.resources}
    left = {"cluster/database:app", "cluster/extension:app/pg_trgm"}
    for answers in (there, there | dict.fromkeys(left, Unknown("no leader for a moment"))):
        plan = new.plan(new.looks(answers, manifest=seven.manifest))
        assert not [c for c in plan.pending if c.address in left or c.action is Action.DELETE]
        assert set(plan.forgotten) >= left


# ── order ───────────────────────────────────────────────────────────────────────────────────────
def test_a_need_that_nothing_declares_is_refused_with_what_may_be_meant() -> None:
    wanted = file(needs=("a/package:haproxi",))
    with pytest.raises(PlanError, match=r"needs a/package:haproxi[\s\S]*a/package:haproxy"):
        plan_of([wanted, Package(hosts=("a",), name="haproxy")], {})


def test_a_circle_is_refused_and_shown() -> None:
    one, two = file("/1", needs=("a/file:/2",)), file("/2", needs=("a/file:/1",))
    with pytest.raises(PlanError, match="→"):
        plan_of([one, two], {})


def test_what_two_roles_want_in_two_ways_is_refused() -> None:
    with pytest.raises(PlanError, match="in different ways"):
        plan_of([file(content=b"1"), file(content=b"2")], {})


def test_what_two_roles_want_alike_is_wanted_once_with_the_needs_of_both() -> None:
    one, two = (Package(hosts=("a",), name=name) for name in "xy")
    plan = plan_of(
        [one, two, file(needs=(one.address,)), file(needs=(two.address,))],
        looks([one, two, file()]),
    )
    assert plan.edges["a/file:/etc/f"] == {one.address, two.address}


def test_a_file_needs_the_nearest_directory_and_its_owner(seven: Any) -> None:
    edges = seven.plan(seven.looks()).edges
    assert "lb1/directory:/usr/local/lib/pgha-build" in edges[
        "lb1/file:/usr/local/lib/pgha-build/keepalived-interface"
    ]  # fmt: skip
    assert "pg1/directory:/etc/patroni/tls" in edges["pg1/file:/etc/patroni/tls/ca.crt"]


def test_postgresql_is_not_begun_before_etcd_answers(seven: Any) -> None:
    edges = seven.plan(seven.empty()).edges
    before = ancestors(edges, ["pg2/unit:patroni.service"])
    assert {f"etcd{n}/unit:etcd.service" for n in (1, 2, 3)} <= before
    assert any("/gate:etcd" in address for address in before)


# ── saved plans ─────────────────────────────────────────────────────────────────────────────────
def test_a_saved_plan_holds_no_value_and_is_its_owners_alone(tmp_path: Path, seven: Any) -> None:
    path = tmp_path / "plan"
    saved.save(path, seven.plan(seven.empty()), ["pg1"])
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert set(json.loads(path.read_text())) == {"format", "cluster", "only", "fingerprint"}
    assert saved.load(path).only == ("pg1",)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "another"}', "\x00"])
def test_what_is_no_saved_plan_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(text)
    with pytest.raises(PlanError, match="not a saved plan"):
        saved.load(tmp_path / "plan")


Move = Callable[[Any, Any], Plan]


def drifted_since(seven: Any, world_of: Any) -> Plan:
    config = seven["lb1/file:/etc/haproxy/haproxy.cfg"]
    return seven.plan({**seven.looks({config.address: differs(config, content="x")})})


def asked_for_more_since(seven: Any, world_of: Any) -> Plan:
    text = (Path(__file__).parents[1] / "golden/shapes/seven.yml").read_text()
    new = world_of(text + "failover: {preset: wan}\n")
    before = {r.address: as_wanted(r) for r in seven.resources}
    return new.plan(new.looks(before, manifest=seven.manifest))


def lost_since(seven: Any, world_of: Any) -> Plan:
    return seven.plan(seven.looks({"lb1/file:/etc/haproxy/haproxy.cfg": Absent()}))


@pytest.mark.parametrize("moved", [drifted_since, asked_for_more_since, lost_since])
def test_a_saved_plan_is_refused_once_anything_has_moved(
    moved: Move, tmp_path: Path, seven: Any, world_of: Any
) -> None:
    saved.save(tmp_path / "plan", seven.plan(seven.looks()), [])
    agreed = saved.load(tmp_path / "plan")
    saved.refuse_stale(agreed, seven.plan(seven.looks()))
    with pytest.raises(StalePlanError):
        saved.refuse_stale(agreed, moved(seven, world_of))


def test_the_same_drift_with_another_content_is_another_plan(seven: Any) -> None:
    config = seven["lb1/file:/etc/haproxy/haproxy.cfg"]
    prints = {
        seven.plan(seven.looks({config.address: differs(config, content=c)})).fingerprint()
        for c in "xyx"
    }
    assert len(prints) == 2


def test_a_secret_that_changed_makes_a_saved_plan_stale(seven: Any) -> None:
    role = seven["cluster/role:app"]
    other = {role.address: differs(role, password="0" * 64)}
    another = {role.address: differs(role, password="1" * 64)}
    assert (
        seven.plan(seven.looks(other)).fingerprint()
        != seven.plan(seven.looks(another)).fingerprint()
    )


def test_a_narrowed_plan_is_not_troubled_by_hosts_that_it_does_not_concern() -> None:
    here, there = file(), replace(file(), hosts=("b",))
    seen = looks([here, there], {here.address: Absent()}, lost=["b"])
    whole = plan_of([here, there], seen)
    assert (whole.exit_code, set(whole.unreachable)) == (1, {"b"})
    assert narrowed(whole, [here.address]).exit_code == 2
    assert narrowed(whole, [there.address]).exit_code == 1
