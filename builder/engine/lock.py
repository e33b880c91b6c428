"""One apply at a time, on any host of the cluster, from any controller.

The lock is an `flock` that a process on the host holds for as long as our SSH session feeds it: it
vanishes with the process that asked for it, and after a minute of silence if the network does.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from builder.engine.script import STATE
from builder.errors import LockedError
from builder.transport.base import Connection, Held

_SCRIPT = """
mkdir -p -m 0755 {state}
exec 9>>{state}/lock
if ! flock -n 9; then echo "held $(cat {state}/lock.holder 2>/dev/null)"; exit 0; fi
echo {holder} >{state}/lock.holder
echo ours
while timeout 60 sh -c 'read -r _'; do :; done
"""


def holder(command: str) -> str:
    """Who we are, for whoever finds the lock taken."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    return f"{who}, pid {os.getpid()}, since {now}: pgha-build {command}"


@contextmanager
def locked(connections: Mapping[str, Connection], command: str) -> Iterator[None]:
    """Hold the lock on every host. Raises LockedError at once where somebody else has it."""
    with ExitStack() as stack:
        with ThreadPoolExecutor(max_workers=max(1, len(connections))) as pool:
            helds = list(
                pool.map(lambda pair: (pair[0], _take(pair[1], command)), connections.items())
            )
        for _, held in helds:
            stack.callback(held.release)
        for host, held in helds:
            if held.first_line != "ours":
                raise LockedError(
                    f"{host} is locked by {held.first_line.removeprefix('held ') or 'somebody'}",
                    why="Two applies at once would undo each other's work.",
                    do="Wait until it has ended; the lock ends with it.",
                )
        yield


def _take(connection: Connection, command: str) -> Held:
    script = _SCRIPT.format(state=STATE, holder=shlex.quote(holder(command)))
    return connection.hold(script, timeout_seconds=20)
