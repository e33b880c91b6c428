"""When a member of etcd may be restarted: the shell itself, with an etcdctl of our own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ETCDCTL = """#!/bin/sh
for word; do case $word in --endpoints=*) asked=${word#--endpoints=} ;; esac; done
status=0
for member in $SICK; do
  case $asked in *$member*) echo "https://$member is unhealthy: no answer"; status=1 ;; esac
done
exit $status
"""
OWN = "127.0.0.1"


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
    sick: str, may: bool, seven: Any, tmp_path: Path
) -> None:
    etcdctl = tmp_path / "etcdctl"
    etcdctl.write_text(ETCDCTL)
    etcdctl.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", seven["etcd1/unit:etcd.service"].before_restart],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SICK": sick},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is may, done.stdout + done.stderr
    assert ("10.77.0.13 is unhealthy" in done.stdout) is not may
