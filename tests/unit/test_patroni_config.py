"""A change of Patroni's dynamic configuration, as shell: curl is a script here."""

from __future__ import annotations

import subprocess
from pathlib import Path

from builder.resources.patroni_config import RestApi
from builder.security.secret import Secret
from tests.unit.folders import played

URLS = {"pg1": "https://10.0.0.21:8008", "pg2": "https://10.0.0.22:8008"}
API = RestApi(urls=URLS, user="patroni", password=Secret("hidden"))


def patched(folder: Path, curl: str) -> subprocess.CompletedProcess[str]:
    """What the step comes to on pg1, where curl does that with the words it is given."""
    step = API.patch_config({"ttl": 20})
    return played(folder, f'echo "$*" >>asked\n{curl}', step.script, step.stdin)


def test_it_ends_when_every_member_answers_with_the_new_configuration(tmp_path: Path) -> None:
    """A member answers from what its last loop has read: here the third time it is asked."""
    late = """case "$*" in
    *-K*) cat >body; echo '{"ttl": 20}' ;;
    *.22*) echo x >>times
      if [ "$(wc -l <times)" -lt 3 ]; then echo '{"ttl": 30}'; else echo '{"ttl": 20}'; fi ;;
    *) echo '{"ttl": 20}' ;;
    esac"""
    assert patched(tmp_path, late).returncode == 0
    assert len((tmp_path / "times").read_text().split()) == 3
    assert 'request = "PATCH"' in (tmp_path / "body").read_text()
    assert "hidden" not in (tmp_path / "asked").read_text()


def test_a_member_that_is_down_is_not_waited_for(tmp_path: Path) -> None:
    down = """case "$*" in
    *-K*) echo '{"ttl": 20}' ;;
    *.22*) echo x >>times; exit 7 ;;
    *) echo '{"ttl": 20}' ;;
    esac"""
    assert patched(tmp_path, down).returncode == 0
    assert (tmp_path / "times").read_text() == "x\nx\n"


def test_what_is_refused_once_is_sent_again_with_its_password_and_its_body(tmp_path: Path) -> None:
    step = API.send("POST", "/switchover", {"leader": "pg1"}, 5, tries=3)
    busy = """cat >>bodies; echo x >>times
    if [ "$(wc -l <times)" -lt 2 ]; then echo "no good candidates"; exit 22; fi"""
    done = played(tmp_path, busy, step.script, step.stdin)
    assert (done.returncode, done.stdout.strip()) == (0, "no good candidates")
    first, second = (tmp_path / "bodies").read_text().split("user = ")[1:]
    assert (first, "hidden" in first) == (second, True)
    refused = played(tmp_path, "echo x >>tries; echo no; exit 22", step.script, step.stdin)
    assert (refused.returncode, (tmp_path / "tries").read_text()) == (1, "x\nx\nx\n")


def test_a_member_that_is_silent_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """Busy for longer than we wait for an answer; it may have read the old ones."""
    busy = """case "$*" in
    *-K*) echo '{"ttl": 20}' ;;
    *.22*) echo x >>times
      case $(wc -l <times) in 1|2) exit 28 ;; 3|4) echo '{"ttl": 30}' ;;
      *) echo '{"ttl": 20}' ;; esac ;;
    *) echo '{"ttl": 20}' ;;
    esac"""
    assert patched(tmp_path, busy).returncode == 0
    assert len((tmp_path / "times").read_text().split()) == 5


def test_what_patroni_says_against_it_is_told_and_nobody_is_asked(tmp_path: Path) -> None:
    done = patched(tmp_path, 'echo "ttl is too small"; exit 22')
    assert (done.returncode, done.stdout) == (1, "ttl is too small\n")
    assert (tmp_path / "asked").read_text().count("\n") == 1
