"""Start the lab's package cache on the gateway's address; it ends with the lab's cgroup."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

from builder.errors import MachineError
from builder.machines.lab.cgroup import Group
from builder.machines.lab.layout import CACHE, PACKAGE_CACHE_PORT, UPSTREAM, Layout
from builder.machines.lab.mirror import apt_settings

_START_SECONDS = 15
_MEMBER = "lab.packages"  # no host can be called so, for its dot
_LAUNCH = 'echo $$ >"$0/cgroup.procs" && exec setsid --fork "$@"'


def ensure_package_cache(layout: Layout) -> None:
    """Start it unless it runs."""
    group = Group.of(layout.name, _MEMBER)
    if group.populated():
        return
    group.make()
    log = layout.directory / f"{_MEMBER}.log"
    with log.open("ab") as output:
        subprocess.run(
            ["sh", "-c", _LAUNCH, str(group.entrance), *_command(layout)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": ":".join(sys.path),
                UPSTREAM: apt_settings().get("Acquire::http::Proxy", ""),  # may hold a password
            },
            check=True,
        )


def await_package_cache(layout: Layout) -> None:
    """Wait until it listens, so that the first apt-get of a host finds it."""
    end = time.monotonic() + _START_SECONDS
    while not _listens(layout):
        if time.monotonic() > end or not Group.of(layout.name, _MEMBER).populated():
            raise MachineError(
                "the lab's package cache did not start",
                why="The hosts' apt fetches packages through it.",
                do=f"See {layout.directory / f'{_MEMBER}.log'}.",
            )
        time.sleep(0.05)  # until the next look


def _listens(layout: Layout) -> bool:
    try:
        socket.create_connection((str(layout.gateway), PACKAGE_CACHE_PORT), timeout=1).close()
    except OSError:
        return False
    return True


def _command(layout: Layout) -> list[str]:
    module = ["-m", "builder.machines.lab.package_cache"]
    where = [str(layout.gateway), str(PACKAGE_CACHE_PORT), str(CACHE / "packages")]
    return [sys.executable, *module, *where]
