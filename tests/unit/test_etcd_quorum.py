"""When a member of etcd may be restarted: the shell itself, with an etcdctl of our own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.resources.base import Present, Unknown

ETCDCTL = """#!/bin/sh
for word; do case $word in --endpoints=*) asked=${word#--endpoints=} ;; esac; done
case " $* " in *' status '*) printf '"MemberID" : 7\\n"Leader" : 7\\n'; exit ;; esac
status=0
for member in $SICK; do
  case $asked in *$member*) echo "https://$member is unhealthy: no answer"; status=1 ;; esac
done
exit $status
"""
SYSTEMCTL = """#!/bin/sh
case $* in *ActiveState*) echo $STATE ;; *Job*) echo $JOB ;; *) echo $SINCE ;; esac
"""
OWN = "127.0.0.1"


Runs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Runs shell where those members are sick, and etcd1 is etcd's leader."""

    def run(
        script: str, sick: str, state: str = "active", job: str = "", since: float = 0
    ) -> subprocess.CompletedProcess[str]:
        for name, text in (("etcdctl", ETCDCTL), ("systemctl", SYSTEMCTL)):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        ago = str(int((time.monotonic() - since) * 1_000_000))
        told = {"PATH": path, "SICK": sick, "STATE": state, "JOB": job, "SINCE": ago}
        return subprocess.run(
            ["sh", "-c", script],
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("sick", "may"),
    [
        ("", True),
        ("10.77.0.13", False),
        (f"{OWN} 10.77.0.11", True),
        (f"{OWN} 10.77.0.11 10.77.0.13", True),
    ],
    ids=["all are well", "another one is not", "only it is not", "it and another one are not"],
)
def test_a_healthy_member_is_missed_only_while_all_others_are_well(
    sick: str, may: bool, seven: Any, runs: Runs
) -> None:
    done = runs(seven["etcd1/unit:etcd.service"].before_restart, sick)
    assert (done.returncode == 0) is may, done.stdout + done.stderr
    assert ("10.77.0.13 is unhealthy" in done.stdout) is not may


@pytest.mark.parametrize(
    ("sick", "process", "goes_on"),
    [
        ("", ("active", "", 1), True),
        ("", ("active", "7", 99), False),
        ("", ("deactivating", "7", 1), False),
        (OWN, ("active", "", 1), False),
        ("10.77.0.12", ("active", "", 1), True),
        (f"{OWN} 10.77.0.12", ("activating", "7", 30), False),
        (f"{OWN} 10.77.0.12 10.77.0.13", ("activating", "7", 5), False),
        (f"{OWN} 10.77.0.12 10.77.0.13", ("activating", "7", 30), True),
        (f"{OWN} 10.77.0.12 10.77.0.13", ("failed", "", 30), False),
    ],
    ids=[
        "it serves",
        "it is about to be restarted",
        "the old process still answers",
        "it does not serve yet",
        "it serves, and another does not",
        "it starts, and another serves",
        "an election may be under way",
        "there is no quorum",
        "it does not start",
    ],
)
def test_the_next_turn_comes_when_it_serves_or_nobody_can(
    sick: str, process: tuple[str, str, int], goes_on: bool, seven: Any, runs: Runs
) -> None:
    """`process`: its state, the job of systemd's that waits, and for how many seconds."""
    done = runs(seven["etcd1/unit:etcd.service"].after_restart, sick, *process)
    assert (done.returncode == 0) is goes_on, done.stdout + done.stderr
    assert done.stdout.startswith(f"etcd: {process[0]}") is not goes_on


def test_who_is_sick_is_first_and_the_leader_last(seven: Any, runs: Runs) -> None:
    turn = seven["etcd1/unit:etcd.service"].last
    assert runs(turn, OWN).stdout == "0\n"
    assert runs(turn, "").stdout == "2\n"


# ── data that is of no use ──────────────────────────────────────────────────────────────────────
LISTED = """\
7, started, etcd2, https://10.77.0.12:2380, https://10.77.0.12:2379, false
8, started, etcd3, https://10.77.0.13:2380, https://10.77.0.13:2379, false
"""
STARTED = LISTED + "9, started, etcd1, https://10.77.0.11:2380, https://10.77.0.11:2379, false\n"
ADDED = LISTED + "9, unstarted, , https://10.77.0.11:2380, , false\n"

FOUNDING = LISTED + "9, started, etcd1, https://10.77.0.11:2380, , false\n"


@pytest.mark.parametrize(
    ("holds", "listed", "said"),
    [
        ("", STARTED, "absent"),
        ("member/wal", STARTED, "there"),
        ("member/wal", LISTED, "removed"),
        ("member/snap", STARTED, "lost"),
        ("member", ADDED, "there"),
        ("member", FOUNDING, "there"),
        ("member", "", "there"),
        ("member/wal", "", "there"),
        ("member/wal", LISTED + "healthy itself", "there"),
        ("member/wal", "founding", "unborn"),
        ("member/wal", STARTED + "founding", "there"),
    ],
    ids=[
        "no data",
        "a member",
        "removed from the cluster",
        "begun anew as one that had started",
        "about to join",
        "founded, and not yet started",
        "about to be founded",
        "the others have no quorum",
        "healthy, whatever an old list says",
        "founded, and no leader yet",
        "founded, and others have one",
    ],
)
def test_the_others_say_whether_the_data_of_a_member_is_of_any_use(
    holds: str, listed: str, said: str, seven: Any, tmp_path: Path
) -> None:
    member = seven["etcd1/etcd_member:etcd1"]
    data = tmp_path / "pgha"
    (data / holds if holds else tmp_path).mkdir(parents=True, exist_ok=True)
    if listed.endswith("founding"):
        (tmp_path / "pgha.founding").touch()
    (tmp_path / "list").write_text(listed.removesuffix("founding"))
    etcdctl = tmp_path / "etcdctl"
    healthy = "exit 0" if "healthy" in listed else "exit 1"
    etcdctl.write_text(
        f"#!/bin/sh\ncase $* in *health) {healthy} ;; esac\n"
        f"[ -s {tmp_path}/list ] && cat {tmp_path}/list\n"
    )
    etcdctl.chmod(0o755)
    script = type(member).probe([member]).replace("/var/lib/etcd/pgha", str(data))
    ran = subprocess.run(
        ["sh", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == said
    assert not isinstance(type(member).parse([member], ran.stdout)["etcd1"], Unknown)


@pytest.mark.parametrize(
    ("sub", "state"),
    [
        ("start-pre", "running"),
        ("start", "running"),
        ("start-post", "running"),
        ("auto-restart", "activating (auto-restart)"),
    ],
)
def test_a_member_that_waits_for_a_quorum_has_been_started(
    sub: str, state: str, seven: Any
) -> None:
    unit = seven["etcd1/unit:etcd.service"]
    shown = {
        "LoadState": "loaded",
        "ActiveState": "activating",
        "SubState": sub,
        "FragmentPath": "/etc/systemd/system/etcd.service",
    }
    text = "\n".join(f"{name}={value}" for name, value in shown.items())
    seen = type(unit).parse([unit], f"{text}\n@own\n")[unit.name]
    assert isinstance(seen, Present)
    assert seen.attributes["state"] == state
