"""Asks every host several times a second what it is, over one connection each that outlives little.

A host that falls silent is dropped and reached anew: what it says late, it does not say at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from builder.drill.history import Sample
from builder.role import Role
from builder.spec.model import ClusterSpec
from builder.transport.base import Connection, Endpoint

INTERVAL_SECONDS = 0.25
SILENCE_SECONDS = 3.0
_LOGIN = 15.0  # seconds, times slowness
_LIFE_SECONDS = 900


def scripts(
    spec: ClusterSpec, roles: Mapping[str, Role], slowness: float = 1.0
) -> Mapping[str, str]:
    """What to ask of each host: nothing of those that no role watches. Pure."""
    watches = {
        host.name: [watch(spec, host) for name in host.roles if (watch := roles[name].watch)]
        for host in spec.hosts.values()
    }
    interval = INTERVAL_SECONDS * slowness
    return {name: _loop(found, interval) for name, found in watches.items() if found}


def _loop(watches: Sequence[str], interval: float) -> str:
    """A line per look: how long it took on the host's own clock, and the words.

    Each watch runs beside the loop, between two pipes, and ends with it.
    """
    pipes = [(f'"$home/{2 * n}"', f'"$home/{2 * n + 1}"') for n in range(len(watches))]
    doors = [(2 * n + 3, 2 * n + 4) for n in range(len(watches))]  # a shell has up to 9
    begun = "\n".join(
        f"mkfifo {asked} {said}\n{{ {watch}\n}} <{asked} >{said} 2>/dev/null &\n"
        f"exec {write}>{asked} {read}<{said}"
        for watch, (asked, said), (write, read) in zip(watches, pipes, doors, strict=True)
    )
    heard = "\n".join(
        f'echo >&{write}\nread -r said <&{read} || exit 0\nwords="$words $said"'
        for write, read in doors
    )
    return (
        "set -f\nhome=$(mktemp -d -p /dev/shm) || exit 1\n"
        f'{begun}\nrm -r "$home"\nwhile :; do\nwords=\n'
        f"read -r begin _ </proc/uptime\n{heard}\nread -r end _ </proc/uptime\n"
        f'echo "$begin $end" $words || exit 0\nsleep {interval:.2f}\ndone'
    )


def parse(host: str, line: str, at: float, slowness: float = 1.0) -> Sample | None:
    """None for half a line, and for a look too long to say anything of one moment. Pure."""
    try:
        begin, end, *words = line.split()
        seconds = float(end) - float(begin)
    except ValueError:
        return None
    if seconds > SILENCE_SECONDS * slowness:
        return None
    return Sample(at=at, host=host, seconds=seconds, uptime=float(end), words=frozenset(words))


class Sampler:
    """One host's samples, in a thread, until told to stop."""

    def __init__(
        self, endpoint: Endpoint, script: str, tell: Callable[[Sample], None], slowness: float
    ) -> None:
        self._endpoint, self._script, self._tell = endpoint, script, tell
        self._slowness, self._patience = slowness, SILENCE_SECONDS * slowness
        self._stop = threading.Event()
        self._heard = time.monotonic()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._watch = threading.Thread(target=self._drop_silent, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._watch.start()

    def stop(self) -> None:
        self._stop.set()
        self._close()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(Exception):  # what paramiko's threads end by: the silence is the sample
                self._listen()
            self._stop.wait(INTERVAL_SECONDS)  # before the next attempt

    def _listen(self) -> None:
        from builder.transport.ssh import connect

        with connect(self._endpoint, timeout_seconds=_LOGIN * self._slowness) as connection:
            self._connection, self._heard = connection, time.monotonic()
            if not self._stop.is_set():
                connection.run(self._script, timeout_seconds=_LIFE_SECONDS, on_line=self._line)

    def _line(self, line: str) -> None:
        self._heard = time.monotonic()
        sample = parse(self._endpoint.host, line, self._heard, self._slowness)
        if sample and not self._stop.is_set():
            self._tell(sample)

    def _drop_silent(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            if time.monotonic() - self._heard > self._patience:
                self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def sampling(
    endpoints: Mapping[str, Endpoint],
    wanted: Mapping[str, str],
    tell: Callable[[Sample], None],
    slowness: float,
) -> Iterator[None]:
    """Sample all hosts while the block runs; `slowness` as in `History`."""
    samplers = [Sampler(endpoints[host], script, tell, slowness) for host, script in wanted.items()]
    for sampler in samplers:
        sampler.start()
    try:
        yield
    finally:
        for sampler in samplers:
            sampler.stop()
