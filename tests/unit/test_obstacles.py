"""Whoever applies: on a host that nothing was applied to yet, somebody else's work is left alone.

Hosts are their answers: to the look, and to the preflight's questions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from builder.cli.ops import operations
from builder.engine.lock import Lock
from builder.engine.manifest import Manifest
from builder.engine.observe import Look
from builder.engine.plan import Plan
from builder.errors import LockedError, PlanError
from builder.operations.course import Converge, Keep
from builder.operations.run import Runner
from builder.resources.base import Absent
from builder.terraform.work import Cluster
from builder.transport.base import Completed, Connections, Endpoint
from builder.workspace import Workspace

SPEC = """
name: orders
hosts:
  etcd1: {address: 10.0.0.11, roles: [etcd]}
  pg1: {address: 10.0.0.21, roles: [patroni]}
"""
GOOD = """\
user 0
os debian 13
init systemd
clock 1000
machine {host}-id
interface eth0
"""
FOREIGN = "a Patroni runs here that was not set up by pgha-build"


class Stopped(Exception):
    """The plan was shown: nothing kept it from being carried out."""


@dataclass
class Answering:
    """A host that answers what `check` asks."""

    host: str
    said: str
    manifest: Manifest = Manifest()
    asked: list[str] = field(default_factory=list)

    def run(
        self,
        script: str,
        *,
        timeout_seconds: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        found = re.search(r"@look-(\w+)", script)
        assert found and "extra:check" in script, "nothing else is asked, and nothing carried out"
        self.asked.append("check")
        parts = {"extra:check": self.said, "end": ""}
        text = "".join(f"\n@look-{found[1]} {name}\n{text}" for name, text in parts.items())
        return Completed(status=0, stdout=text, stderr="", seconds=0)

    def hold(self, script: str, *, timeout_seconds: float) -> Any:
        return Locked()

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


class Locked:
    first_line = "ours"
    lost = False
    reachable = True

    def release(self) -> None: ...


class Answers(Connections):
    def reach(self, endpoints: Mapping[str, Endpoint], timeout_seconds: float = 15) -> None: ...


@dataclass(frozen=True, kw_only=True)
class At(Workspace):
    """A workspace whose hosts are `answers`, and have nothing yet of what is wanted."""

    answers: Answers

    def look(self, connections: Connections) -> Mapping[str, Look]:
        return {host: self._look(host) for host in self.spec.hosts}

    def _look(self, host: str) -> Look:
        here = [r for r in self.desired.resources if host in r.hosts and r.observed_in_plan]
        answering = self.answers[host]
        assert isinstance(answering, Answering)
        return Look(
            host=host,
            observed={r.address: Absent(elsewhere=r.late) for r in here},
            manifest=answering.manifest,
        )

    @contextmanager
    def connected(self) -> Iterator[Connections]:
        yield self.answers


@pytest.fixture
def at(tmp_path: Path) -> Callable[..., At]:
    def make(**more: Answering) -> At:
        made = Workspace.open(tmp_path / "cluster.yml", SPEC.encode())
        answers = Answers({h: Answering(h, GOOD.format(host=h)) for h in made.spec.hosts} | more)
        return At(spec=made.spec, store=made.store, answers=answers)

    return make


def by_hand() -> Answering:
    return Answering("pg1", GOOD.format(host="pg1") + "patroni foreign\n")


def runner(workspace: At, *, takes_over: bool = False, helds: Mapping[str, Locked] = {}) -> Runner:
    def show(_: Plan) -> None:
        raise Stopped

    def nothing(*_: Any) -> Any:
        return None

    return Runner(
        workspace=workspace,
        connections=workspace.answers,
        reachable={},
        lock=Lock(helds),
        status=dict,
        confirm=lambda _: True,
        show=show,
        progress=nothing,
        after_script=nothing,
        tell_clients=nothing,
        tell=nothing,
        takes_over=takes_over,
    )


def converge(workspace: At, **more: Any) -> None:
    def course() -> Any:
        yield Converge(why="a host joins")

    runner(workspace, **more).run(course())


def test_terraform_refuses_a_host_with_a_patroni_made_by_hand(at: Any, tmp_path: Path) -> None:
    cluster = Cluster(SPEC, str(tmp_path))
    cluster.workspace = at(pg1=by_hand())
    with pytest.raises(PlanError, match=f"pg1: {FOREIGN}"):
        cluster.apply(lambda *_: None, expected=None, max_impact=None, started=lambda _: None)


def test_an_operation_refuses_it_too(at: Any) -> None:
    with pytest.raises(PlanError, match=f"pg1: {FOREIGN}"):
        converge(at(pg1=by_hand()))
    with pytest.raises(Stopped):
        converge(at())


def test_adopting_is_about_what_runs_there_already(at: Any) -> None:
    with pytest.raises(Stopped):
        converge(at(pg1=by_hand()), takes_over=True)
    assert [o.name for o in operations().values() if o.takes_over] == ["adopt"]


def test_hosts_that_are_ours_are_not_asked(at: Any) -> None:
    entries = [r for r in at().desired.resources if r.hosts == ("pg1",)][:1]
    known = Answering("pg1", "", manifest=Manifest().settled("orders", entries))
    workspace = at(pg1=known)
    looks = workspace.look(workspace.answers)
    workspace.plan_to_apply(workspace.answers, looks)
    assert known.asked == []
    assert workspace.answers["etcd1"].asked == ["check"]


def test_whoever_insists_gets_the_plan(at: Any) -> None:
    workspace = at(pg1=by_hand())
    looks = workspace.look(workspace.answers)
    assert workspace.plan_to_apply(workspace.answers, looks, check=False).pending


def test_an_operation_whose_lock_is_lost_does_no_further_step(at: Any) -> None:
    held = Locked()
    workspace = at()
    seen: list[str] = []

    def course() -> Any:
        yield Keep(label="one", change=lambda _: seen.append("one"))
        held.lost = True
        yield Keep(label="two", change=lambda _: seen.append("two"))

    with pytest.raises(LockedError, match="the lock was lost on pg1"):
        runner(workspace, helds={"pg1": held}).run(course())
    assert seen == ["one"]
