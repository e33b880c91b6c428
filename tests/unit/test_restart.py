"""Being told to restart PostgreSQL, by what becomes of the question: curl is a script here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from builder.resources.patroni_config import RestApi
from builder.security.secret import Secret
from roles.patroni.restart import restarted
from tests.unit.folders import played

API = RestApi(urls={"pg1": "https://10.0.0.21:8008"}, user="patroni", password=Secret("hidden"))
FAILED = 'echo "curl: (22) The requested URL returned error: 503"; echo "restart failed"; exit 22'
BUSY = 'echo "curl: (22) The requested URL returned error: 503"; echo "restart already in progress"'


def answered(folder: Path, curl: str, only_if: str = ":") -> subprocess.CompletedProcess[str]:
    """What the step comes to where curl does that; `asked` then holds curl's own words."""
    step = restarted(API, only_if=only_if)
    return played(folder, f'{{ echo "$@"; cat; }} >asked\n{curl}', step.script, step.stdin)


def test_curl_waits_longer_than_postgresql_may_take_to_start(tmp_path: Path) -> None:
    assert answered(tmp_path, "echo restarted successfully").returncode == 0
    asked = (tmp_path / "asked").read_text()
    line = next(line for line in asked.splitlines() if line.startswith("data = "))
    start = json.loads(json.loads(line.removeprefix("data = ")))["timeout"]
    words = asked.split()
    assert start > 60
    assert int(words[words.index("--max-time") + 1]) > start
    assert restarted(API).timeout_seconds > int(words[words.index("--max-time") + 1])


@pytest.mark.parametrize("curl", ["exit 28", "exit 52", "exit 56", f"{BUSY}; exit 22"])
def test_an_answer_that_does_not_come_is_left_to_the_wait_behind_it(
    curl: str, tmp_path: Path
) -> None:
    done = answered(tmp_path, curl)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("curl", "words"),
    [
        (FAILED, ["could not restart PostgreSQL", "restart failed", "journalctl -u patroni"]),
        ("echo 'curl: (7) Connection refused'; exit 7", ["could not be told", "refused"]),
    ],
)
def test_a_restart_that_failed_says_so(curl: str, words: list[str], tmp_path: Path) -> None:
    done = answered(tmp_path, curl)
    assert done.returncode == 1
    assert [word for word in words if word not in done.stdout] == []
    assert "hidden" not in done.stdout + done.stderr


def test_who_need_not_restart_is_not_asked(tmp_path: Path) -> None:
    assert answered(tmp_path, "exit 9", only_if="false").returncode == 0
    assert not (tmp_path / "asked").exists()
