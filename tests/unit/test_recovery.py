"""etcd that is lost: what is refused, in which order it comes back, and what goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Hear,
    On,
    OperationError,
    Request,
    Target,
    Tell,
    Whole,
)
from builder.security.store import open_store
from builder.spec.read import read_spec
from roles.patroni.recovery import recover_etcd

SPEC = """
name: orders
hosts:
  etcd1: {address: 10.0.0.11, roles: [etcd]}
  etcd2: {address: 10.0.0.12, roles: [etcd]}
  etcd3: {address: 10.0.0.13, roles: [etcd]}
  pg1: {address: 10.0.0.21, roles: [patroni]}
  pg2: {address: 10.0.0.22, roles: [patroni]}
"""
MEMBERS = ("etcd1", "etcd2", "etcd3")
BLANK = dict.fromkeys(MEMBERS, "")
LEADS = {
    "pg1": "role primary\nat timeline 3, WAL 0/9",
    "pg2": "role replica\nat timeline 3, WAL 0/9",
}
NOBODY = {
    "pg1": "role down\nat timeline 3, WAL 0/8 or more",
    "pg2": "role replica\nat timeline 3, WAL 0/9",
}


ASKED = ["pg1 asks the new etcd first", "pg2 asks the new etcd", "pg2 until PostgreSQL runs"]
NOTED = ["pg1 notes who asks first", "pg2 notes who asks first"]
DONE = ["pg1 is done", "pg2 is done"]
REST = ["converge", "whole"]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    file = tmp_path / "cluster.yml"
    file.write_text(SPEC)
    spec = read_spec(file)
    return Target(spec=spec, secrets=open_store(file, spec.name))


class World:
    """`said` is what each host answers, `healthy` who of etcd is, `silent` who cannot be asked."""

    def __init__(self, said: Mapping[str, str], *healthy: str, silent: tuple[str, ...] = ()):
        self.said, self.healthy, self.silent = {**LEADS, **said}, healthy, silent
        self.noted: dict[str, str] = {}

    def answer(self, request: Request) -> Any:
        match request:
            case Ask():
                return {
                    "unreachable": dict.fromkeys(self.silent, "no route to the host"),
                    "etcd": {
                        "members": {name: {"healthy": name in self.healthy} for name in MEMBERS},
                        "quorum": bool(self.healthy),
                    },
                }
            case Hear() if request.label.startswith("asks who"):
                return {host: self.said[host] for host in request.scripts}
            case Hear():
                return {host: self._found(host) for host in request.scripts}
        return None

    def _found(self, host: str) -> str:
        return self.said[host] if host in MEMBERS else self.noted.get(host, "")

    def walk(self, target: Target, *words: str, steps: int | None = None) -> list[Request]:
        course = recover_etcd(replace(target, words=words))
        seen: list[Request] = []
        answer: Any = None
        try:
            while True:
                seen.append(course.send(answer))
                answer = self.answer(seen[-1])
                if len(seen) == steps:
                    return seen
        except StopIteration:
            return seen

    def told(self, target: Target, *words: str) -> list[str]:
        return [_told(r) for r in self.walk(target, *words) if not isinstance(r, Ask | Hear)]

    def refusal(self, target: Target, *words: str) -> str:
        with pytest.raises(OperationError) as caught:
            self.walk(target, *words)
        return str(caught.value)


def _told(request: Request) -> str:
    match request:
        case On():
            return f"{request.host} {request.label}"
        case Converge():
            return f"converge {' '.join(request.only)}".strip()
    return type(request).__name__.lower()


# ── a member has kept its data ──────────────────────────────────────────────────────────────────
def test_the_member_that_kept_its_data_comes_first_and_the_others_join(target: Target) -> None:
    world = World({**BLANK, "etcd2": "data"})
    assert world.told(target) == ["confirm", "etcd2 becomes the only member", *ASKED, *REST]


def test_with_hosts_that_are_gone_it_ends_when_etcd_answers_and_says_what_is_left(
    target: Target,
) -> None:
    world = World({"etcd3": "data"}, silent=("etcd1", "etcd2", "pg1"))
    seen = world.walk(target)
    asked = next(r for r in seen if isinstance(r, Confirm)).question
    assert "became of etcd1, etcd2" in asked
    assert "make sure that they are off" in asked
    last = seen[-1]
    assert isinstance(last, Tell)
    assert "etcd1, etcd2, pg1" in last.lines[0]


def test_ended_after_that_the_same_command_lets_the_others_join(target: Target) -> None:
    world = World({**BLANK, "etcd2": "data\nalone\ncluster"}, "etcd2")
    assert world.told(target) == [*ASKED, *REST]


@pytest.mark.parametrize(
    ("world", "words", "because"),
    [
        (World(dict.fromkeys(MEMBERS, "data\ncluster"), *MEMBERS), (), "it is not lost"),
        (
            World({"etcd3": "data\ncluster"}, "etcd3", silent=("etcd1", "etcd2")),
            (),
            "it is not lost",
        ),
        (World({**BLANK, "etcd1": "data", "etcd3": "data"}), (), "they are a majority"),
        (World({**BLANK, "etcd1": "data"}), ("etcd2",), "etcd2 has no data of etcd"),
        (World(BLANK, silent=("etcd2",)), (), "etcd2 cannot be reached"),
        (World(BLANK, silent=("pg1",)), (), "pg1 cannot be reached"),
        (World({**BLANK, **NOBODY}), (), "pg2 is at timeline 3, WAL 0/9"),
        (World({**BLANK, **LEADS}), ("pg2",), "pg1 takes writes, and pg2 does not"),
        (World({**BLANK, **LEADS, "pg2": LEADS["pg1"]}), (), "pg1 and pg2 both take writes"),
        (World({**BLANK, **LEADS, "pg1": "role down\nrole unclear"}), ("pg2",), "does not say"),
        (World({**BLANK, **NOBODY}), ("lb1",), "lb1 is not a database host"),
        (World({**BLANK, "pg1": "role absent", "pg2": "role absent"}), (), "no host has data"),
    ],
)
def test_what_is_not_certain_is_refused(
    target: Target, world: World, words: tuple[str, ...], because: str
) -> None:
    assert because in world.refusal(target, *words)


# ── nobody has ──────────────────────────────────────────────────────────────────────────────────
def test_who_leads_asks_the_new_etcd_first_and_postgresql_is_not_stopped(target: Target) -> None:
    world = World({**BLANK, **LEADS})
    assert world.told(target) == ["confirm", *NOTED, "converge etcd", *ASKED, *REST, *DONE]


def test_where_nobody_leads_all_others_stop_before_the_one_that_is_named_asks(
    target: Target,
) -> None:
    assert World({**BLANK, **NOBODY}).told(target, "pg2") == [
        "confirm",
        *NOTED,
        "pg1 stops Patroni",
        "pg2 stops Patroni",
        "converge etcd",
        "pg2 asks the new etcd first",
        "pg1 asks the new etcd",
        "pg1 until PostgreSQL runs",
        *REST,
        *DONE,
    ]


def test_a_replica_without_data_is_left_to_the_plan(target: Target) -> None:
    told = World({**BLANK, **LEADS, "pg2": "role absent"}).told(target)
    assert [line for line in told if "asks the new etcd" in line] == ["pg1 asks the new etcd first"]


class Hosts(World):
    """In which what is asked for comes about."""

    def answer(self, request: Request) -> Any:
        told, host = _told(request), getattr(request, "host", "")
        if told.endswith("notes who asks first"):
            self.noted[host] = "first:pg2"
        elif told.endswith("stops Patroni"):
            self.said[host] = NOBODY["pg1"]
        elif told == "converge etcd" and not self.healthy:
            self.said |= dict.fromkeys(MEMBERS, "data\nnew")
            self.healthy = MEMBERS
        elif told.endswith("asks the new etcd first"):
            self.said |= {host: LEADS["pg1"], **dict.fromkeys(MEMBERS, "data\ncluster")}
        elif told.endswith("asks the new etcd"):
            self.said[host] = LEADS["pg2"]
        elif told.endswith("is done"):
            del self.noted[host]
        return super().answer(request)


def test_ended_after_any_step_the_same_command_goes_on_and_apply_waits_for_it(
    target: Target,
) -> None:
    whole = len(Hosts({**BLANK, **NOBODY}).walk(target, "pg2"))
    for steps in range(1, whole):
        hosts = Hosts({**BLANK, **NOBODY})
        hosts.walk(target, "pg2", steps=steps)
        has_a_leader = "role primary" in hosts.said["pg2"]
        assert hosts.noted or has_a_leader or not hosts.healthy
        if hosts.healthy and not hosts.noted:  # the last mark is gone
            assert "it is not lost" in hosts.refusal(target, "pg2")
            continue
        hosts.walk(target, *(["pg2"] if not hosts.noted else []))
        assert not hosts.noted
        assert "role primary" in hosts.said["pg2"]


def test_a_founding_that_did_not_come_to_its_end_is_no_data_that_was_kept(target: Target) -> None:
    """etcd begins its log before it has a quorum; forced, it turns out to be empty."""
    world = World({**BLANK, **NOBODY, "etcd1": "data"})
    ordinary = world.answer
    forced: list[str] = []

    def answer(request: Request) -> Any:
        forced.extend(r for r in [_told(request)] if "only member" in r)
        said = ordinary(request)
        if isinstance(request, Hear) and [*request.scripts] == ["etcd1"] and forced:
            return {**said, "etcd1": "data\nnew"}
        return said

    world.answer = answer  # type: ignore[method-assign]
    told = world.told(target, "pg2")
    assert told[:2] == ["confirm", "etcd1 becomes the only member"]
    assert told[2:] == World({**BLANK, **NOBODY}).told(target, "pg2")


def test_nothing_is_done_before_a_person_has_agreed(target: Target) -> None:
    for world in (World({**BLANK, "etcd2": "data"}), World({**BLANK, **LEADS})):
        kinds = [type(request) for request in world.walk(target)]
        assert set(kinds[: kinds.index(Confirm)]) <= {Ask, Hear}
        assert Whole in kinds
