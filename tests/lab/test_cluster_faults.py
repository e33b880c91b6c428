"""Faults of the program and of hosts: killed at any moment, interrupted, hosts that are down."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

pytestmark = pytest.mark.lab

KILLED = -signal.SIGKILL


def _no_half_written_file(cluster: Any) -> None:
    for host in cluster.hosts():
        assert cluster.on(host, "find / -xdev -name '*.pgha-new'") == ""


def _converges(cluster: Any) -> None:
    cluster.apply()
    cluster.in_sync()
    _no_half_written_file(cluster)
    assert cluster.answers("primary", "SELECT pg_is_in_recovery()") == "f"
    assert cluster.answers("replica", "SELECT pg_is_in_recovery()") == "t"
    # nothing that was begun before a kill was begun again at a cost: no failover, no switchover
    assert {m["timeline"] for m in cluster.status()["patroni"]["members"].values()} == {1}


@pytest.fixture
def blank(blank_seven: Any) -> Any:
    """Seven hosts with nothing on them."""
    cluster = blank_seven()
    assert cluster.run("lab", "up").returncode == 0
    yield cluster
    assert cluster.run("destroy", "--yes").returncode == 0


def test_apply_that_dies_after_its_third_script_again_and_again_gets_there(blank: Any) -> None:
    for _ in range(40):
        died = blank.run("apply", "--yes", PGHA_FAULT="3")
        if died.returncode != KILLED:
            break
    assert died.returncode == 0, died.stderr[-3000:]
    blank.in_sync()
    _converges(blank)


# ── hosts that are down ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("role", ["replica", "etcd3", "lb2"])
def test_a_host_that_is_down_is_unknown_and_the_rest_stays_as_it_is(
    role: str, seven: Any, until: Any
) -> None:
    down = seven.replica() if role == "replica" else role
    started = _started(seven, down)
    seven.run("lab", "kill", down)
    begin = time.monotonic()
    plan = seven.document("plan", exit_code=1)
    assert time.monotonic() - begin < 60
    assert list(plan["unreachable"]) == [down]
    assert plan["changes"] == []
    assert {address.split("/")[0] for address in plan["blocked"]} <= {down, "cluster"}

    begin = time.monotonic()
    applied = seven.apply(exit_code=1)
    assert time.monotonic() - begin < 90
    assert not [address for address in applied["done"] if "/gate:" not in address]
    assert down in seven.run("status").stdout
    until(lambda: seven.answers("primary", "SELECT 1") == "1", 30)
    assert _started(seven, down) == started

    seven.run("lab", "start", down)
    assert until(lambda: seven.run("plan").returncode == 0, 60) < 60
    seven.in_sync()
    until(lambda: len(seven.status()["patroni"]["members"]) == 2, 30)


def test_what_does_not_need_the_host_that_is_down_is_still_repaired(seven: Any) -> None:
    down = seven.replica()
    seven.run("lab", "kill", down)
    seven.on("lb1", "echo '# by hand' >>/etc/haproxy/haproxy.cfg")
    seven.sql("ALTER ROLE app PASSWORD 'guessed'")
    applied = seven.apply(exit_code=1)
    assert {"lb1/file:/etc/haproxy/haproxy.cfg", "cluster/role:app"} <= {*applied["done"]}
    assert not applied["failed"]
    assert list(applied["unreachable"]) == [down]


# ── processes that hang ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("process", ["walsender", "Patroni heartbeat", "Patroni restapi"])
def test_a_process_of_the_leader_that_hangs_does_not_stop_writes_for_good(
    process: str, seven: Any, until: Any
) -> None:
    """It is ended, or Patroni is that waits for it; both come back by themselves."""
    leader = seven.leader()
    listed = seven.sql("SELECT pid, backend_type, application_name FROM pg_stat_activity")
    (hung,) = (row.split("|")[0] for row in listed.splitlines() if process in row.split("|"))
    waits = seven.on(leader, "systemctl show -P MainPID patroni.service")
    ended = hung if process == "walsender" else waits
    seven.on(leader, f"kill -STOP {hung}")
    try:
        until(lambda: seven.try_on(leader, f"test -e /proc/{ended}").returncode == 1, 120)
        write = "CREATE TABLE IF NOT EXISTS hung (i int); INSERT INTO hung VALUES (1)"
        until(lambda: seven.psql(seven.uris["primary"], write).returncode == 0, 60)
        until(lambda: seven.run("status").returncode == 0, 60)
    finally:
        seven.try_on(leader, f"kill -CONT {hung}")
    seven.in_sync()


def _started(cluster: Any, without: str) -> dict[str, str]:
    """When each service on each host was started: the same as long as nobody touched it."""
    units = {"etcd": "etcd", "patroni": "patroni", "haproxy": "haproxy keepalived"}
    return {
        host: cluster.on(
            host, f"systemctl show -P ExecMainStartTimestampMonotonic -P ExecMainPID {names}"
        )
        for role, names in units.items()
        for host in cluster.hosts(role)
        if host != without
    }
