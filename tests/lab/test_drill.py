"""Drills on seven real hosts: all are survived, and whatever happens, everything is healed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any

import pytest

pytestmark = pytest.mark.lab


def drilled(cluster: Any, *arguments: str, seconds: float = 300) -> Any:
    done = cluster.run("drill", "--yes", "--json", *arguments, seconds=seconds)
    assert done.stdout, done.stderr[-3000:]
    document = json.loads(done.stdout)
    wrong = [d for d in document["drills"] if not d["passed"]]
    assert done.returncode == 0, json.dumps(wrong, indent=1) + done.stderr[-3000:]
    return document


def left_behind(cluster: Any) -> list[str]:
    """What a drill must never leave on a host."""
    looks = (
        "ls -d /run/pgha-drill 2>/dev/null",
        "nft list tables | grep pgha_drill",
        "systemctl list-timers --all --no-legend 'pgha-drill*'",
        "ls -d /var/lib/*/.pgha-drill-disk 2>/dev/null",
        "systemctl list-units --all --no-legend 'pgha-drill-*'",
        "ps -e -o stat=,pid=,args= | grep '^T'",
        "ls /run/systemd/system/*.d/pgha-drill.conf 2>/dev/null",
    )
    script = "\n".join((*looks, "true"))
    found = [f"{host}: {said}" for host in cluster.hosts() if (said := cluster.on(host, script))]
    hosts = json.loads(cluster.run("lab", "status", "--json").stdout)["hosts"]
    found += [
        f"{name} is {host['state']}" for name, host in hosts.items() if host["state"] != "running"
    ]
    schema = "SELECT nspname FROM pg_namespace WHERE nspname = 'pgha_drill'"
    return found + [row for row in [cluster.answers("primary", schema)] if row]


@pytest.mark.parametrize(
    ("fault", "sent", "when"),
    [
        ("replica-isolated", signal.SIGINT, "watches for"),
        ("etcd-disk-full", signal.SIGTERM, "heals"),
        ("freeze-leader", signal.SIGINT, "watches for"),
        ("etcd-majority-gone", signal.SIGTERM, "watches for"),
    ],
)
def test_a_fault_is_healed_when_the_drill_is_interrupted(
    fault: str, sent: signal.Signals, when: str, seven: Any, until: Any
) -> None:
    with seven.start("drill", fault, "--yes") as process:
        wait_for(process, when)
        process.send_signal(sent)
        process.communicate(timeout=120)
    assert process.returncode == 130
    assert left_behind(seven) == []
    until(lambda: seven.run("status").returncode == 0, 120)


def test_a_host_heals_itself_when_the_controller_is_gone_and_the_next_drill_goes_well(
    seven: Any, until: Any
) -> None:
    """The undoing is on the host, and systemd carries it out: here at once, not after minutes."""
    leader = seven.leader()
    with seven.start("drill", "patroni-stop", "--yes") as process:
        wait_for(process, "watches for")
        process.kill()
    seven.on(leader, "systemctl start pgha-drill-undo.service")
    stopped = "ps -e -o stat=,args= | grep '^T' || true"
    until(lambda: seven.on(leader, stopped) == "", 10)
    document = drilled(seven, "switchover", "postgres-kill", "--report", "report.html")
    assert [d["name"] for d in document["drills"]] == ["switchover", "postgres-kill"]
    assert all(d["writes_acknowledged"] > 500 for d in document["drills"])
    assert (seven.home / "report.html").read_text().count("<svg") == 2
    assert left_behind(seven) == []
    seven.in_sync()


def test_a_host_can_be_switched_off_while_its_disk_hangs(seven: Any, until: Any) -> None:
    """Processes that wait for a frozen file system cannot be killed, and would keep the lab."""
    replica = seven.replica()
    disk = "/var/lib/postgresql"
    assert disk in seven.on(replica, f"df --output=target {disk}")
    seven.on(replica, f"echo kept >{disk}/kept; fsfreeze --freeze {disk}")
    assert seven.run("lab", "kill", replica).returncode == 0
    assert seven.run("lab", "start", replica).returncode == 0
    assert seven.on(replica, f"cat {disk}/kept; rm {disk}/kept") == "kept"
    until(lambda: seven.run("status").returncode == 0, 120)


def test_a_cluster_that_is_not_whole_is_refused_untouched(seven: Any) -> None:
    seven.run("lab", "kill", "lb2")
    try:
        done = seven.run("drill", "switchover", "--yes")
    finally:
        seven.run("lab", "start", "lb2")
    assert done.returncode == 1
    assert "is not healthy" in done.stderr
    assert "lb2" in done.stderr


def test_without_a_terminal_and_without_yes_nothing_is_done(seven: Any) -> None:
    leader = seven.leader()
    done = seven.run("drill", "switchover")
    assert (done.returncode, seven.leader()) == (1, leader)
    assert "Nothing was done" in done.stderr


# `pgha-build drill --all` takes more than half an hour. Molecule's scenarios cut
# power, and stop HAProxy; the test below kills Patroni.
SOME = ("postmaster-stop", "leader-disk-full", "balancer-deaf")


def test_a_hung_postgresql_a_full_disk_and_a_deaf_balancer_are_survived(
    seven: Any,
) -> None:
    document = drilled(seven, *SOME, seconds=1500)
    assert [d["name"] for d in document["drills"]] == list(SOME)
    assert {len(d["writes_lost"]) for d in document["drills"]} == {0}
    assert left_behind(seven) == []


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if re.search(words, line):
            return
    raise AssertionError(f"ended without {words!r}")


def test_an_asynchronous_leader_that_has_lost_patroni_ends_before_another_leads(seven: Any) -> None:
    """Else its open sessions go on writing to a timeline that is given up."""
    before = seven.spec()
    failover = {**before.get("failover", {}), "synchronous": False}
    seven.write({**before, "failover": failover})
    seven.apply()
    (found,) = drilled(seven, "patroni-gone")["drills"]
    assert len(found["writes_lost"]) < 160  # of a second at most, not of half a minute
    assert left_behind(seven) == []
