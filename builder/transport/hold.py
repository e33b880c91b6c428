"""A script that runs as long as we do, fed with a heartbeat so that it can notice our end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from builder.errors import CommandTimeout, ConnectionLost

if TYPE_CHECKING:
    from paramiko import Channel

HEARTBEAT_SECONDS = 10


class HeldScript:
    """Started; `first_line` is what it said first."""

    def __init__(self, host: str, channel: Channel, timeout_seconds: float) -> None:
        self._channel = channel
        self._ended = threading.Event()
        self.first_line = _first_line(host, channel, time.monotonic() + timeout_seconds)
        self._beat = threading.Thread(target=self._feed, daemon=True)
        self._beat.start()

    def _feed(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                self._channel.sendall(b"\n")
            except (OSError, EOFError):
                return  # the connection is gone, and with it the script

    def release(self) -> None:
        """End its stdin; it ends itself."""
        self._ended.set()
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
