"""One apply at a time, on any host of the cluster, from any controller.

The lock is an `flock` that a process on the host holds for as long as our SSH session feeds it: it
vanishes with the process that asked for it, and after a minute of silence if the network does.
A process that was killed holds it until its end of the session has ended, too: that is waited for.
So it can be lost while we live: a laptop slept, or a network was away. Whoever works under it asks
before each step whether it still holds.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from builder.engine.script import STATE
from builder.errors import LockedError
from builder.transport.base import Connection, Held

_SCRIPT = """
mkdir -p -m 0755 {state}
exec 9>>{state}/lock
if ! flock -w 3 9; then echo "held $(cat {state}/lock.holder 2>/dev/null)"; exit 0; fi
echo {holder} >{state}/lock.holder
echo ours
while timeout 60 sh -c 'read -r _'; do :; done
"""


def holder(command: str) -> str:
    """Who we are, for whoever finds the lock taken."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    return f"{who}, pid {os.getpid()}, since {now}: pgha-build {command}"


@dataclass(frozen=True)
class Lock:
    """What was taken, by host."""

    helds: Mapping[str, Held]

    def loss(self) -> LockedError | None:
        """Why it does not hold any more.

        It is lost where it has ended on a host that still answers, or on most of the hosts. A host
        that is switched off frees its own, and that changes nothing: somebody else would need those
        of the others as well, and nothing of ours goes on over a connection that broke.
        """
        lost = [host for host, held in self.helds.items() if held.lost]
        answering = [host for host in lost if self.helds[host].reachable]
        if not answering and len(lost) * 2 <= len(self.helds):
            return None
        return LockedError(
            f"the lock was lost on {', '.join(answering or lost)}",
            why="For a minute nothing was heard from here (asleep, or without a network): somebody "
            "else may have applied since, and what is planned here may no longer be right.",
            do="What was done is kept. Give the command again: it goes on from there.",
        )

    def refuse_lost(self) -> None:
        """Raises LockedError."""
        if loss := self.loss():
            raise loss


@contextmanager
def locked(connections: Mapping[str, Connection], command: str) -> Iterator[Lock]:
    """Hold the lock on every host. LockedError in seconds where somebody else has it."""
    with ExitStack() as stack:
        with ThreadPoolExecutor(max_workers=max(1, len(connections))) as pool:
            helds = list(
                pool.map(lambda pair: (pair[0], _take(pair[1], command)), connections.items())
            )
        stack.callback(_release, [held for _, held in helds])
        for host, held in helds:
            if held.first_line != "ours":
                raise LockedError(
                    f"{host} is locked by {held.first_line.removeprefix('held ') or 'somebody'}",
                    why="Two applies at once would undo each other's work.",
                    do="Wait until it has ended; the lock ends with it.",
                )
        yield Lock(dict(helds))


def _release(helds: Sequence[Held]) -> None:
    """All at once: each is a round trip."""
    with ThreadPoolExecutor(max_workers=max(1, len(helds))) as pool:
        list(pool.map(lambda held: held.release(), helds))


def _take(connection: Connection, command: str) -> Held:
    script = _SCRIPT.format(state=STATE, holder=shlex.quote(holder(command)))
    return connection.hold(script, timeout_seconds=20)
