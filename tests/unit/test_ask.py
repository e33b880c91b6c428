"""What a gate makes of Patroni's /cluster: curl is a script here, the judge is the real one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.spec.model import ClusterSpec
from builder.spec.read import read_spec
from roles.patroni.ask import can_spare_the_leader, complete, led
from tests.unit.folders import played
from tests.unit.test_failover import HOSTS

LEADER = {"name": "pg1", "role": "leader", "state": "running"}
REPLICA = {"name": "pg2", "role": "replica", "state": "streaming", "lag": 0}
Holds = Callable[..., subprocess.CompletedProcess[str]]


def pg2(**said: Any) -> dict[str, Any]:
    return {**REPLICA, **said}


@pytest.fixture
def spec(tmp_path: Path) -> ClusterSpec:
    (tmp_path / "cluster.yml").write_text(HOSTS)
    return read_spec(tmp_path / "cluster.yml")


@pytest.fixture
def holds(tmp_path: Path, spec: ClusterSpec) -> Holds:
    """Runs a condition where Patroni answers with those members; where `down`, on pg2 alone."""

    def run(
        condition: Callable[[ClusterSpec], str], *members: dict[str, Any], down: bool = False
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "answer").write_text(json.dumps({"members": members}) if members else "")
        refuse = 'case "$*" in *0.21*) exit 7;; esac; ' if down else ""
        return played(tmp_path, f"{refuse}cat answer", condition(spec))

    return run


@pytest.mark.parametrize(
    ("members", "whole", "spare"),
    [
        ([LEADER, pg2(role="sync_standby")], True, True),
        ([LEADER, pg2(role="quorum_standby")], True, True),
        ([LEADER, pg2()], True, False),
        ([LEADER, pg2(role="sync_standby", state="running")], True, True),  # Patroni 3.0
        ([LEADER, pg2(state="running", lag="unknown")], False, False),
        ([LEADER, pg2(state="running", lag=1 << 24)], False, False),
        ([LEADER, pg2(state="creating replica")], False, False),
        ([LEADER], False, False),
        ([{**LEADER, "role": "replica"}, pg2()], False, False),
        ([{**LEADER, "state": "starting"}, pg2(role="sync_standby")], False, False),
        ([], False, False),
    ],
)
def test_a_cluster_is_whole_and_its_leader_can_be_spared(
    members: list[dict[str, Any]], whole: bool, spare: bool, holds: Holds
) -> None:
    asked = [holds(condition, *members) for condition in (complete, can_spare_the_leader)]
    assert [done.returncode == 0 for done in asked] == [whole, spare]


def test_what_is_missing_is_told(holds: Holds) -> None:
    done = holds(complete, LEADER, pg2(state="creating replica"))
    assert done.stdout == "pg1 is leader, running; pg2 is replica, creating replica\n"
    assert holds(complete, LEADER).stdout == "pg1 is leader, running; pg2 is not there\n"
    assert holds(complete).stderr == "Patroni does not answer yet\n"


PROMOTED = """echo '{"role": "primary"}'"""
MASTER = """echo '{"role": "master"}'"""  # Patroni 3
PROMOTES = """echo '{"role": "replica"}'"""
HAS_NO_LOCK = f'case "$*" in -sf*/primary) exit 22;; esac; {PROMOTED}'  # what 503 is to curl -f


@pytest.mark.parametrize(
    ("one", "other", "leads"),
    [
        (PROMOTES, PROMOTED, True),
        (MASTER, HAS_NO_LOCK, True),
        (PROMOTES, "exit 7", False),
        ("exit 7", HAS_NO_LOCK, False),
    ],
)
def test_who_leads_has_the_lock_and_is_promoted(
    one: str, other: str, leads: bool, tmp_path: Path, spec: ClusterSpec
) -> None:
    curl = f'case "$*" in *0.21*) {one};; *) {other};; esac'
    asked = played(tmp_path, curl, led(spec))
    assert (asked.returncode == 0) is leads
    assert asked.stdout == ("" if leads else "nobody leads yet\n")


def test_another_member_is_asked_where_the_first_is_down(holds: Holds) -> None:
    assert holds(complete, LEADER, pg2(), down=True).returncode == 0
