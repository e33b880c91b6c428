"""Hosts that leave cluster.yml: never all at once that have the data."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder import registry
from builder.engine.leftovers import leftovers
from builder.engine.manifest import Manifest
from builder.engine.observe import Look
from builder.engine.plan import Plan, make_plan
from builder.errors import ConnectionLost, PlanError
from builder.resources.base import Absent, Action, Change, Observed, Present, Resource
from builder.resources.unit import Unit
from roles.etcd.member import EtcdMember
from roles.patroni.data import DataDirectory, Filled
from roles.patroni.guard import caution

ADDRESSES = {
    **{f"etcd{n}": f"10.0.0.1{n}" for n in range(1, 7)},
    **{f"pg{n}": f"10.0.0.2{n}" for n in range(1, 5)},
    **{f"lb{n}": f"10.0.0.3{n}" for n in range(1, 5)},
}
ETCD = ("etcd1", "etcd2", "etcd3")
PG = ("pg1", "pg2")


def spec(hosts: Sequence[str]) -> str:
    roles = {"etcd": "etcd", "pg": "patroni", "lb": "haproxy, keepalived"}
    lines = [f"  {h}: {{address: {ADDRESSES[h]}, roles: [{roles[h[:-1]]}]}}" for h in hosts]
    address = "keepalived: {virtual_ip: 10.0.0.100/24}\n" if "lb" in "".join(hosts) else ""
    return "name: orders\nhosts:\n" + "\n".join(lines) + f"\n{address}"


def as_is(resource: Resource) -> Observed:
    """Running, and with its data."""
    if isinstance(resource, DataDirectory):
        return Filled(attributes=resource.attributes())
    if isinstance(resource, Unit):
        running = {"state": "running", "definition": "current", "startup": "enabled"}
        return Present(attributes=running)
    if isinstance(resource, EtcdMember):
        return Present(attributes={"data": "there"})
    return Present(attributes={})


class Move:
    """From the hosts of one cluster.yml to those of another, of which `empty` have no data."""

    def __init__(self, world_of: Callable[[str], Any], old: Sequence[str], new: Sequence[str]):
        self.before, self.after = world_of(spec(old)), world_of(spec(new))

    def plan(
        self,
        *,
        empty: Collection[str] = (),
        silent: Collection[str] = (),
        unborn: Collection[str] = (),
    ) -> Plan:
        looks = {h: self._look(h, empty) for h in self._hosts() if h not in silent}
        looks |= {h: Look(host=h, error=ConnectionLost(h, "no answer")) for h in silent}
        gone = leftovers(self.after.desired.resources, looks, registry.kinds())
        looks = {host: self._with(seen, gone, empty) for host, seen in looks.items()}
        for host in unborn:
            half = {f"{host}/etcd_member:{host}": Present(attributes={"data": EtcdMember.UNBORN})}
            looks[host] = replace(looks[host], observed={**looks[host].observed, **half})
        return make_plan(
            "orders",
            self.after.desired.resources,
            looks,
            registry.kinds(),
            refine=self.after._refine,
            guard=self._guard,
        )

    def _hosts(self) -> Sequence[str]:
        return list({**self.before.spec.hosts, **self.after.spec.hosts})

    def _look(self, host: str, empty: Collection[str]) -> Look:
        ours = host in self.before.spec.hosts
        here = [r for r in self.after.resources if host in r.hosts and r.observed_in_plan]
        there = {r.address: Present(attributes=r.attributes()) if ours else Absent() for r in here}
        manifest = self.before.manifest(host) if ours else Manifest()
        return self._with(Look(host=host, observed=there, manifest=manifest), here, empty)

    def _with(self, seen: Look, resources: Sequence[Resource], empty: Collection[str]) -> Look:
        """What tells whether there is data, and all of `resources` that have left the spec."""
        if seen.error or not seen.manifest.entries:
            return seen
        wanted = {r.address for r in self.after.resources}
        telling = (DataDirectory, EtcdMember)
        more: dict[str, Observed] = {
            r.address: Absent() if seen.host in empty and isinstance(r, telling) else as_is(r)
            for r in resources
            if seen.host in r.hosts and (isinstance(r, telling) or r.address not in wanted)
        }
        return replace(seen, observed={**seen.observed, **more})

    def _guard(self, changes: Mapping[str, Change]) -> None:
        for role in registry.roles().values():
            if role.guard:
                role.guard(self.after.spec, changes)


def stopped(plan: Plan, unit: str) -> list[str]:
    deleted = [c for c in plan.pending if c.action is Action.DELETE]
    return [c.resource.hosts[0] for c in deleted if c.resource.name == unit]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PG, ("pg3", "pg4")),
        (PG, ("pg3",)),
        (("pg1",), ("pg2",)),
    ],
)
def test_all_database_hosts_cannot_be_replaced_at_once(
    world_of: Any, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    with pytest.raises(PlanError, match=f"would leave at once: {', '.join(old)}\n") as refused:
        Move(world_of, (*ETCD, *old), (*ETCD, *new)).plan()
    assert "Let pg1 stay beside the new ones" in refused.value.do


@pytest.mark.parametrize(
    ("old", "new", "known"),
    [(("pg1",), PG, "pg1/role:rewind"), (PG, ("pg1",), "cluster/role:rewind")],
)
def test_what_is_called_otherwise_since_there_are_more_or_fewer_hosts_stays(
    world_of: Any, old: tuple[str, ...], new: tuple[str, ...], known: str
) -> None:
    plan = Move(world_of, (*ETCD, *old), (*ETCD, *new)).plan()
    assert not [c for c in plan.pending if c.leaves and c.resource.kind in {"role", "database"}]
    assert known in plan.forgotten


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ETCD, ("etcd4", "etcd5", "etcd6")),
        (ETCD, ("etcd4",)),
        (("etcd1",), ("etcd2",)),
        (("etcd1",), ("etcd2", "etcd3", "etcd4")),
    ],
)
def test_all_etcd_members_cannot_be_replaced_at_once(
    world_of: Any, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    with pytest.raises(PlanError, match=f"would leave at once: {', '.join(old)}\n") as refused:
        Move(world_of, (*old, *PG), (*new, *PG)).plan()
    assert "every etcd member" in refused.value.what
    assert "Let etcd1 stay beside the new ones" in refused.value.do


@pytest.mark.parametrize(
    ("old", "new", "unit", "leaving"),
    [
        (PG, ("pg2", "pg3"), "patroni.service", ["pg1"]),
        (PG, ("pg2",), "patroni.service", ["pg1"]),
        (("pg1",), PG, "patroni.service", []),
        (ETCD, ("etcd3", "etcd4", "etcd5"), "etcd.service", ["etcd1", "etcd2"]),
        (ETCD, ("etcd2",), "etcd.service", ["etcd1", "etcd3"]),
        (("etcd1",), ETCD, "etcd.service", []),
    ],
)
def test_where_one_with_data_stays_the_others_are_replaced(
    world_of: Any, old: tuple[str, ...], new: tuple[str, ...], unit: str, leaving: list[str]
) -> None:
    rest = ETCD if unit == "patroni.service" else PG
    plan = Move(world_of, (*rest, *old), (*rest, *new)).plan()
    assert stopped(plan, unit) == leaving
    assert not any(c.resource.founding for c in plan.pending if isinstance(c.resource, EtcdMember))


def test_who_stays_must_have_the_data_and_be_seen_to(world_of: Any) -> None:
    databases = Move(world_of, (*ETCD, *PG), (*ETCD, "pg2", "pg3"))
    for kept in ({"empty": ["pg2"]}, {"silent": ["pg2"]}):
        with pytest.raises(PlanError, match="would leave at once: pg1\n"):
            databases.plan(**kept)
    members = Move(world_of, (*ETCD, *PG), ("etcd3", "etcd4", "etcd5", *PG))
    for kept in ({"empty": ["etcd3"]}, {"silent": ["etcd3"]}):
        with pytest.raises(PlanError, match=r"etcd1, etcd2\n|could not be looked at"):
            members.plan(**kept)


def test_all_balancers_cannot_be_replaced_at_once(world_of: Any) -> None:
    rest = (*ETCD, *PG)
    with pytest.raises(PlanError, match="every balancer would leave at once: lb1, lb2") as refused:
        Move(world_of, (*rest, "lb1", "lb2"), (*rest, "lb3", "lb4")).plan()
    assert "Let lb1 stay" in refused.value.do
    plan = Move(world_of, (*rest, "lb1", "lb2"), (*rest, "lb2", "lb3")).plan()
    assert stopped(plan, "keepalived.service") == ["lb1"]
    plan = Move(world_of, (*rest, "lb1", "lb2"), rest).plan()
    assert stopped(plan, "keepalived.service") == ["lb1", "lb2"]


def test_who_never_came_to_have_data_may_leave(world_of: Any) -> None:
    """A first apply that failed: its hosts can be exchanged."""
    move = Move(world_of, (*ETCD, *PG), ("etcd4", "etcd5", "etcd6", "pg3", "pg4"))
    plan = move.plan(empty=(*ETCD, *PG))
    assert set(stopped(plan, "patroni.service")) == set(PG)


def test_a_data_directory_tells_whether_a_database_is_in_it(tmp_path: Path) -> None:
    full, bare, none = (tmp_path / name for name in ("full", "bare dir", "none"))
    full.mkdir()
    bare.mkdir()
    (full / "PG_VERSION").write_text("17\n")
    wanted = [DataDirectory(hosts=("a",), name=str(path)) for path in (full, bare, none)]
    script = DataDirectory.probe(wanted)
    said = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout
    kinds = [type(DataDirectory.parse(wanted, said)[item.name]) for item in wanted]
    assert kinds == [Filled, Present, Absent]


# ── a first apply that reached only some ────────────────────────────────────────────────────────
def test_a_founding_that_came_to_no_leader_is_done_anew(world_of: Any) -> None:
    move = Move(world_of, (*ETCD, *PG), (*ETCD, *PG))
    plan = move.plan(empty=("etcd2", "etcd3", *PG), unborn=("etcd1",))
    members = [c.resource for c in plan.pending if isinstance(c.resource, EtcdMember)]
    assert {m.name for m in members if m.founding} == set(ETCD)
    for change in (c for c in plan.pending if isinstance(c.resource, EtcdMember)):
        scripts = "".join(getattr(step, "script", "") for step in change.resource.steps(change))
        assert "member add" not in scripts
        assert scripts.index("pgha.founding") < scripts.index("rm -rf /var/lib/etcd")
        assert not change.resource.differs("data", EtcdMember.THERE, EtcdMember.UNBORN)


def test_data_that_counts_is_joined_and_never_founded_beside(world_of: Any) -> None:
    move = Move(world_of, (*ETCD, *PG), (*ETCD, *PG))
    plan = move.plan(empty=("etcd3",), unborn=("etcd2",))
    members = [c.resource for c in plan.pending if isinstance(c.resource, EtcdMember)]
    assert {m.name: m.founding for m in members} == {"etcd2": False, "etcd3": False}


# ── all of etcd's data is gone ──────────────────────────────────────────────────────────────────
def test_no_new_etcd_is_founded_beside_the_data_of_postgresql(world_of: Any) -> None:
    move = Move(world_of, (*ETCD, *PG), (*ETCD, *PG))
    lost = move.plan(empty=ETCD)
    with pytest.raises(PlanError, match="looked at, on pg1, pg2") as refused:
        caution(move.after.spec, lost.changes)
    assert "pgha-build ops recover-etcd" in refused.value.do
    for empty in ((*ETCD, *PG), ("etcd2", "etcd3"), ()):
        caution(move.after.spec, move.plan(empty=empty).changes)
    with pytest.raises(PlanError, match="looked at, on pg1, pg2"):
        caution(move.after.spec, move.plan(empty=(*ETCD, *PG), silent=PG).changes)


def test_a_recovery_that_was_begun_is_not_overtaken_by_an_apply(world_of: Any) -> None:
    move = Move(world_of, (*ETCD, *PG), (*ETCD, *PG))
    changes = {
        address: replace(change, observed=replace(change.observed, recovering=True))
        if isinstance(change.observed, Filled)
        else change
        for address, change in move.plan().changes.items()
    }
    with pytest.raises(PlanError, match="has not come to its end"):
        caution(move.after.spec, changes)
