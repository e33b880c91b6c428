"""A cluster that was made by hand comes under pgha-build, while clients write to it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.lab import by_hand

pytestmark = pytest.mark.lab
KILLED_AFTER = (1, 9, 14, 17)  # scripts on hosts; each run begins where the one before ended


@pytest.fixture(scope="module")
def handmade(blank_seven: Any, until: Callable[..., float]) -> Any:
    """Seven hosts set up by hand, with a user of the spec, who has a password already."""
    cluster = blank_seven()
    assert cluster.run("lab", "up").returncode == 0
    password = secrets.token_hex(12)
    with ThreadPoolExecutor(max_workers=3) as pool:
        list(pool.map(lambda made: cluster.on(*made), by_hand.scripts(cluster.spec(), password)))
    spec = cluster.spec()
    spec["postgresql"]["data_directory"] = by_hand.DATA
    cluster.file.write_text(yaml.safe_dump(spec))
    stored = yaml.safe_load(cluster.file.with_name("cluster.secrets.yml").read_text())
    own = stored["passwords"]["user-app"]
    virtual = spec["keepalived"]["virtual_ip"].split("/")[0]
    superuser = f"postgresql://postgres:{password}s@{virtual}:5432/postgres"

    def made() -> bool:
        done: subprocess.CompletedProcess[str] = cluster.psql(superuser, "SELECT 1")
        return done.returncode == 0

    until(made, 120)
    for statement in (f"CREATE ROLE app LOGIN PASSWORD '{own}'", "CREATE DATABASE app OWNER app"):
        assert cluster.psql(superuser, statement).returncode == 0
    cluster.uri = f"postgresql://app:{own}@{virtual}:5432/app?sslmode=prefer"
    assert cluster.psql(cluster.uri, "CREATE TABLE precious AS SELECT 42 n").returncode == 0
    ctl = "patronictl -c /etc/patroni/config.yml list -f json"
    until(lambda: '"streaming"' in cluster.on("pg1", ctl), 120)
    return cluster


def test_apply_refuses_and_plan_shows_what_would_change(handmade: Any) -> None:
    done = handmade.run("apply", "--yes")
    assert done.returncode == 1
    assert "a Patroni runs here that was not set up by pgha-build" in done.stderr
    assert "pgha-build ops adopt" in handmade.run("check").stdout
    done = handmade.run("plan")
    assert "etcd_member" in done.stdout
    assert "-listen postgres" in done.stdout


def test_a_wrong_data_directory_is_refused_before_anything_changes(handmade: Any) -> None:
    spec = handmade.spec()
    text = handmade.file.read_text()
    spec["postgresql"]["data_directory"] = "/var/lib/postgresql/17/other"
    handmade.file.write_text(yaml.safe_dump(spec))
    done = handmade.run("ops", "adopt", "--yes")
    handmade.file.write_text(text)
    assert done.returncode == 1
    assert "nobody runs PostgreSQL as the leader on /var/lib/postgresql/17/other" in done.stderr


def test_it_is_adopted_with_every_row_though_the_controller_dies_again_and_again(
    handmade: Any,
) -> None:
    ctl = "patronictl -c /etc/patroni/config.yml list -f json"
    leader = "pg1" if '"pg1", "Host"' in handmade.on("pg1", ctl).split('"Leader"')[0] else "pg2"
    system = handmade.on(leader, f"/usr/lib/postgresql/17/bin/pg_controldata {by_hand.DATA}")
    with handmade.writes({"primary": handmade.uri, "replica": handmade.uri}) as writes:
        for script in KILLED_AFTER:
            ran = handmade.run("ops", "adopt", "--yes", seconds=600, PGHA_FAULT=str(script))
            assert ran.returncode == -9, ran.stdout[-3000:] + ran.stderr[-3000:]
        ran = handmade.run("ops", "adopt", "--yes", seconds=600)
        assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    writes.nothing_lost(pause=600)
    handmade.in_sync()
    assert handmade.answers("primary", "SELECT n FROM precious") == "42"
    line = next(line for line in system.splitlines() if "system identifier" in line)
    after = handmade.on(leader, f"/usr/lib/postgresql/17/bin/pg_controldata {by_hand.DATA}")
    assert line in after
    assert "orders" in handmade.on(leader, "cat /var/lib/pgha-build/before/etc/patroni/config.yml")
    again = handmade.run("ops", "adopt", "--yes")
    assert "run by pgha-build already" in again.stderr


# Writes that no replica has, then a crash: the walsender is stopped, so that it sends none of them.
DIVERGE = """\
ask() {{ setpriv --reuid postgres --init-groups psql -XqAtc "$1"; }}
cd /
senders=$(ask "SELECT string_agg(pid::text, ' ') FROM pg_stat_replication")
postmaster=$(head -n 1 {data}/postmaster.pid)
kill -STOP $senders
ask "SET synchronous_commit = local; CREATE TABLE nobody_has AS SELECT generate_series(1, 9999)"
kill -KILL $postmaster $senders
"""


def test_a_leader_that_has_diverged_comes_back_by_rewinding_not_by_a_new_copy(
    handmade: Any, until: Callable[..., float]
) -> None:
    old = handmade.leader()
    begin = handmade.on(old, "date +%s")
    handmade.on(old, DIVERGE.format(data=by_hand.DATA))

    def follows() -> bool:
        seen = handmade.status()["patroni"]
        well = seen["members"][old]["state"] == "streaming"
        return seen["leader"] not in {None, old} and well

    until(follows, 180)
    log = handmade.on(old, f"journalctl -u patroni --since @{begin} -o cat")
    assert "pg_rewind exit code=0" in log, log[-3000:]
    assert "created using basebackup" not in log
    assert handmade.sql("SELECT to_regclass('nobody_has') IS NULL") == "t"
    assert handmade.answers("primary", "SELECT n FROM precious") == "42"
    until(lambda: handmade.run("plan").returncode == 0, 60)


def test_a_replica_that_cannot_tell_its_timeline_is_in_the_plan_and_repaired(
    handmade: Any, until: Callable[..., float]
) -> None:
    """As Patroni leaves one that it found running: without TLS, which is all it may log in by."""
    replica = handmade.replica()
    conf = f"{by_hand.DATA}/postgresql.conf"
    handmade.on(replica, f"sed -i \"s/^ssl = .*/ssl = 'off'/\" {conf}")
    handmade.on(replica, f"kill -HUP $(head -n 1 {by_hand.DATA}/postmaster.pid)")
    handmade.on(replica, "kill -KILL $(systemctl show -P MainPID patroni)")  # it knew the timeline
    until(lambda: "cannot take over" in handmade.run("plan").stdout, 60)
    handmade.apply()
    handmade.in_sync()
    assert handmade.run("ops", "switchover", replica, "--yes").returncode == 0
    assert handmade.leader() == replica
    handmade.run("destroy", "--yes")
