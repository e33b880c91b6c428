"""A script that runs as long as we do, fed with a heartbeat so that it can notice our end."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from builder.errors import CommandTimeout, ConnectionLost

if TYPE_CHECKING:
    from paramiko import Channel

HEARTBEAT_SECONDS = 10
SILENCE_SECONDS = 60  # after which the script ends by itself (`Connection.hold`)
RELEASE_SECONDS = 5  # a host that does not answer is not waited for any longer
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_REALTIME)  # goes on while a laptop sleeps


def now() -> float:
    return time.clock_gettime(_CLOCK)


class HeldScript:
    """Started; `first_line` is what it said first."""

    def __init__(self, host: str, channel: Channel, timeout_seconds: float) -> None:
        self._channel = channel
        self._ended = threading.Event()
        self.first_line = _first_line(host, channel, time.monotonic() + timeout_seconds)
        self._fed = now()
        self._beat = threading.Thread(target=self._feed, daemon=True)
        self._beat.start()

    @property
    def lost(self) -> bool:
        """After a sleep, the script has ended before its word of that has come."""
        ended = self._channel.eof_received or self._channel.exit_status_ready()
        return bool(ended) or self._silent()

    @property
    def reachable(self) -> bool:
        return self._channel.get_transport().is_active()

    def _silent(self) -> bool:
        return now() - self._fed > SILENCE_SECONDS

    def _feed(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS) and not self._silent():
            try:
                self._channel.sendall(b"\n")
            except (OSError, EOFError):
                return  # the connection is gone, and with it the script
            self._fed = now()

    def release(self) -> None:
        """End its stdin, and wait until it has ended itself: what it held is free then."""
        self._ended.set()
        with suppress(OSError, EOFError):  # a connection that is gone ended it
            self._channel.shutdown_write()
            if self.reachable:
                self._channel.status_event.wait(RELEASE_SECONDS)
        self._channel.close()


def _first_line(host: str, channel: Channel, deadline: float) -> str:
    line = b""
    while not line.endswith(b"\n"):
        channel.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            byte = channel.recv(1)
        except TimeoutError as error:
            raise CommandTimeout(host, "did not answer within its time limit") from error
        if not byte:
            raise ConnectionLost(host, "the connection ended before the first answer")
        line += byte
    return line.decode("utf-8", "replace").rstrip("\n")
