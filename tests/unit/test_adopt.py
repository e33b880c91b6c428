"""Taking over what was made by hand: in which order, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.operations.course import (
    Confirm,
    Converge,
    Hear,
    On,
    OperationError,
    Preview,
    Request,
    Target,
    Tell,
)
from builder.security.store import open_store
from builder.spec.read import read_spec
from roles.patroni.adopt import adopt
from roles.patroni.check import CHECK
from roles.patroni.survey import survey

DATA = "/var/lib/postgresql/17/main"
SPEC = f"""
name: orders
hosts:
  etcd1: {{address: 10.0.0.11, roles: [etcd]}}
  pg1: {{address: 10.0.0.21, roles: [patroni]}}
  pg2: {{address: 10.0.0.22, roles: [patroni]}}
postgresql: {{data_directory: {DATA}, users: [{{name: app}}]}}
"""

REPLICA = """\
config /etc/patroni/config.yml
patroni runs
scope hand
version 17
settings there
standby yes
system 7711461787095859139
postgresql runs
"""
LEADER = REPLICA.replace("standby yes\n", "")


def ours(said: str) -> str:
    return said.replace("scope hand", "ours yes\nscope orders")


@pytest.fixture
def target(tmp_path: Path) -> Target:
    file = tmp_path / "cluster.yml"
    file.write_text(SPEC)
    spec = read_spec(file)
    packages = {"pg1": ("patroni",), "etcd1": ("etcd-server",)}
    return Target(spec=spec, secrets=open_store(file, spec.name), packages=packages)


def walk(target: Target, **said: str) -> list[Request]:
    course = adopt(target)
    seen: list[Request] = []
    answer: Any = None
    try:
        while True:
            seen.append(course.send(answer))
            answer = said if isinstance(seen[-1], Hear) else None
    except StopIteration:
        return seen


def told(request: Request) -> str:
    match request:
        case On():
            return f"{request.host} {request.label}"
        case Converge():
            return f"converge {' '.join(request.only)}"
        case Tell():
            return "tell"
    return type(request).__name__.lower()


def test_everything_old_stops_before_anything_new_starts_and_the_leader_is_first(
    target: Target,
) -> None:
    assert [told(request) for request in walk(target, pg1=REPLICA, pg2=LEADER)] == [
        "hear",
        "tell",
        "preview",
        "confirm",
        f"converge pg1/package:patroni etcd1/package:etcd-server pg1/file:{CHECK} pg2/file:{CHECK}",
        "hear",
        "pg1 pauses Patroni, everywhere",
        "pg1 stops Patroni; PostgreSQL runs on",
        "pg2 stops Patroni; PostgreSQL runs on",
        "pg1 lets Patroni in",
        "pg2 lets Patroni in",
        "etcd1 stops the etcd made by hand",
        "converge etcd",
        "converge pg2/unit:patroni.service",
        "pg2 makes the roles that replicas need",
        "converge pg1/unit:patroni.service",
        "pg1 reads all settings",
        "pg2 reads all settings",
        "pg2 until all have read them",
        "converge ",
        "whole",
        "pg1 is adopted",
        "pg2 is adopted",
    ]


def test_what_is_there_and_what_would_change_is_shown_before_anybody_is_asked(
    target: Target,
) -> None:
    seen = walk(target, pg1=REPLICA, pg2=LEADER)
    tell = next(request for request in seen if isinstance(request, Tell))
    assert tell.lines == [
        f"Found, with its data in {DATA}:",
        "  pg1: PostgreSQL 17, replica; Patroni: scope hand",
        "  pg2: PostgreSQL 17, leads; Patroni: scope hand",
    ]
    kinds = [type(request) for request in seen]
    assert kinds.index(Preview) < kinds.index(Confirm) < kinds.index(On)


def test_who_was_killed_on_the_way_goes_on_with_what_is_left(target: Target) -> None:
    stopped = LEADER.replace("patroni runs\n", "")
    seen = [told(r) for r in walk(target, pg1=REPLICA.replace("patroni runs\n", ""), pg2=stopped)]
    assert not [line for line in seen if "pauses" in line or "stops Patroni" in line]
    assert "converge pg2/unit:patroni.service" in seen
    seen = [told(r) for r in walk(target, pg1=REPLICA, pg2=ours(LEADER))]
    assert "converge pg2/unit:patroni.service" not in seen, "it may owe a restart, and is alone"
    assert [line for line in seen if "stops Patroni" in line] == [
        "pg1 stops Patroni; PostgreSQL runs on"
    ]


def test_a_replica_that_runs_under_us_already_reads_its_settings_before_anything_is_restarted(
    target: Target,
) -> None:
    """It may be so since a run that was killed; it is not started over, which hands over."""
    seen = [told(r) for r in walk(target, pg1=ours(REPLICA), pg2=f"adopting yes\n{ours(LEADER)}")]
    assert not [line for line in seen if line.startswith("converge pg")][1:]
    assert seen.index("pg1 reads all settings") < seen.index("converge ")


def test_who_was_killed_when_all_was_ours_already_goes_on(target: Target) -> None:
    seen = walk(target, pg1=ours(REPLICA), pg2=f"adopting yes\n{ours(LEADER)}")
    assert told(seen[-1]) == "pg2 is adopted"


def test_a_replica_without_data_is_copied(target: Target) -> None:
    seen = walk(target, pg1="config \n", pg2=LEADER)
    tell = next(request for request in seen if isinstance(request, Tell))
    assert "  pg1: no data; it will be copied from pg2" in tell.lines
    assert "whole" in [told(request) for request in seen]


@pytest.mark.parametrize(
    ("pg1", "pg2", "why"),
    [
        (REPLICA, REPLICA, "nobody runs PostgreSQL as the leader"),
        ("config \n", "config \n", "no host has data there"),
        (LEADER, LEADER, "pg1 and pg2 both take writes"),
        (REPLICA.replace("version 17", "version 16"), LEADER, "pg1: its data is of PostgreSQL 16"),
        (REPLICA.replace("system 77", "system 78"), LEADER, "pg1: its data is of another cluster"),
        (REPLICA, LEADER.replace("settings there\n", ""), "pg2: its postgresql.conf is not in"),
        (ours(REPLICA), ours(LEADER), "run by pgha-build already"),
    ],
)
def test_what_is_not_certain_is_refused_before_anything_changes(
    target: Target, pg1: str, pg2: str, why: str
) -> None:
    with pytest.raises(OperationError, match=why):
        walk(target, pg1=pg1, pg2=pg2)


def test_the_survey_tells_nothing_of_a_host_that_has_nothing(tmp_path: Path) -> None:
    script = survey(str(tmp_path / "none"))
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "config")
