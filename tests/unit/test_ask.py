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
from roles.patroni.ask import can_spare_the_leader, complete, led, may_be_missed, restart_turn
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
        condition: Callable[[ClusterSpec], str],
        *members: dict[str, Any],
        down: bool = False,
        patroni: str = "4.0.7",
        sends: str = "streaming",
    ) -> subprocess.CompletedProcess[str]:
        own = {"patroni": {"version": patroni}, "replication": [{"state": sends}]}
        both = json.dumps({"members": members}) + json.dumps(own)
        (tmp_path / "answer").write_text(both if members else "")
        refuse = 'case "$*" in *0.21*) exit 7;; esac; ' if down else ""
        return played(tmp_path, f"{refuse}cat answer", condition(spec))

    return run


@pytest.mark.parametrize(
    ("members", "whole", "spare"),
    [
        ([LEADER, pg2(role="sync_standby")], True, True),
        ([LEADER, pg2(role="quorum_standby")], True, True),
        ([LEADER, pg2()], True, False),
        ([LEADER, pg2(role="sync_standby", state="running")], False, False),
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


@pytest.mark.parametrize(("lag", "whole"), [(0, True), (1 << 24, False), ("unknown", False)])
def test_to_patroni_3_0_a_replica_that_streams_is_running(
    lag: Any, whole: bool, holds: Holds
) -> None:
    done = holds(complete, LEADER, pg2(state="running", lag=lag), patroni="3.0.2")
    assert (done.returncode == 0) is whole


def test_a_member_that_is_well_is_restarted_after_one_that_is_not(holds: Holds) -> None:
    def turn(*members: dict[str, Any]) -> str:
        return holds(lambda spec: restart_turn(spec, spec.hosts["pg2"]), *members).stdout

    assert turn(LEADER, pg2()) == "1\n"
    assert turn(LEADER, pg2(state="stopped")) == turn(LEADER) == "0\n"
    assert turn({**LEADER, "name": "pg2"}, pg2(name="pg1")) == "2\n"
    assert turn() == "0\n"


def test_where_nobody_answers_nothing_is_lost_with_a_member(holds: Holds) -> None:
    assert holds(lambda spec: may_be_missed(spec, spec.hosts["pg2"])).returncode == 0


def test_a_copy_is_under_way(holds: Holds) -> None:
    """Known by what the leader sends: one that fails at once is begun again and again."""
    copied = pg2(state="creating replica")
    assert holds(complete, LEADER, copied, sends="backup").returncode == 75
    assert holds(complete, LEADER, copied).returncode == 1


@pytest.mark.parametrize(
    ("members", "may"),
    [
        ([LEADER, pg2()], True),
        ([LEADER, pg2(state="running")], True),
        ([pg2(state="running")], True),
        ([{**LEADER, "name": "pg3"}, pg2(), pg2(name="pg1", state="running")], False),
        ([{**LEADER, "name": "pg3"}, pg2(), pg2(name="pg1")], True),
        ([{**LEADER, "name": "pg3"}, pg2(state="stopped"), pg2(name="pg1", state="x")], True),
        ([pg2(), pg2(name="pg1")], False),
    ],
)
def test_a_member_that_is_well_is_missed_only_while_all_others_are(
    members: list[dict[str, Any]], may: bool, holds: Holds
) -> None:
    done = holds(lambda spec: may_be_missed(spec, spec.hosts["pg2"]), *members)
    assert (done.returncode == 0) is may


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
