"""What the scenarios' tests share: the cluster at hand, its hosts, and waiting with a limit."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from subprocess import PIPE
from typing import Any

import testinfra
from testinfra.host import Host

HOME = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
# A virtual machine boots for real, and one that is emulated takes seconds for each connection.
PATIENCE = 5 if os.environ.get("PGHA_MACHINES") == "vagrant" else 1


def pgha(*words: str, check: bool = True, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run pgha-build on the scenario's cluster. After `seconds` it is told to end, and may heal."""
    verb, *rest = words
    line = ["pgha-build", verb, "-f", str(HOME / "cluster.yml"), *rest]
    with subprocess.Popen(line, stdout=PIPE, stderr=PIPE, text=True) as process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.communicate()  # it tells of its healing until it has ended
            raise
    done = subprocess.CompletedProcess(line, process.returncode, stdout, stderr)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@cache
def there(name: str) -> Host:
    """A host of the scenario, for testinfra to look at by OpenSSH, as root."""
    return testinfra.get_host(
        f"ssh://{name}", ssh_config=_ssh_config(), controlpersist=0, sudo=True
    )


# testinfra connects once per question: they share one connection, which a dead host ends.
_SHARED = """
Host *
  ControlMaster auto
  ControlPath {home}/ssh-%n
  ControlPersist 10
  ServerAliveInterval {seconds}
  ServerAliveCountMax 3
"""


@cache
def _ssh_config() -> str:
    file = HOME / "ssh_config"
    shared = _SHARED.format(home=HOME, seconds=3 * PATIENCE)
    file.write_text(pgha("ssh-config").stdout + shared)
    return str(file)


def on(name: str, script: str) -> str:
    """Run shell on a host; what it printed. It fails where the shell does."""
    said: str = there(name).check_output("sh -c %s", script)
    return said


def tried(name: str, script: str) -> str:
    """The same, and it may fail, or the host be off: what it printed till then."""
    try:
        said: str = there(name).run("sh -c %s", script).stdout
    except RuntimeError:  # so testinfra says that ssh did not get there
        return ""
    return said.strip()


def members(ask: str = "pg1") -> dict[str, dict[str, Any]]:
    """What Patroni on that host says of each member of its cluster."""
    said = on(ask, "patronictl -c /etc/patroni/config.yml list -f json")
    return {row["Member"]: row for row in json.loads(said)}


def roles(ask: str = "pg1") -> tuple[str | None, list[str]]:
    """The leader, if there is one, and all others."""
    leads = {name: row["Role"] == "Leader" for name, row in members(ask).items()}
    leader = next((name for name in leads if leads[name]), None)
    return leader, [name for name in leads if name != leader]


def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pgha("status", "--json", check=False).stdout)
    return found


@cache
def _uris() -> dict[str, str]:
    found: dict[str, str] = status()["connection"]
    return found


def psql(side: str, statement: str) -> subprocess.CompletedProcess[str]:
    """Ask through the virtual IP: `primary` or `replica`."""
    uri = _uris()[side] + f"&connect_timeout={5 * PATIENCE}"
    line = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", uri, "-c", statement]
    limit = 20 * PATIENCE
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=limit)


def until(condition: Callable[[], Any], what: str, seconds: float) -> float:
    """Wait for a condition, up to `seconds` on lab hosts; how long it took."""
    start, limit = time.monotonic(), seconds * PATIENCE
    while not condition():
        assert time.monotonic() - start < limit, f"waited {limit} s in vain: {what}"
        time.sleep(0.2)
    return time.monotonic() - start


def in_sync() -> None:
    """The plan is empty."""
    done = pgha("plan", check=False)
    assert done.returncode == 0, done.stdout
