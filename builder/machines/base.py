"""What every machine provider offers. Values and a protocol, no IO."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from builder.transport.base import Endpoint

Progress = Callable[[str, str], None]  # (host, or "" for all; what is happening)


class Power(enum.StrEnum):
    """The state of a machine, as its provider sees it."""

    RUNNING = "running"
    STOPPED = "stopped"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Provider(Protocol):
    """Makes, finds and unmakes machines. Errors are MachineError."""

    def endpoints(self) -> Mapping[str, Endpoint]:
        """How to reach every host of the spec, whether it runs or not."""

    def power(self) -> Mapping[str, Power]:
        """Every host's state."""

    def up(self, progress: Progress) -> Sequence[str]:
        """Make and start what is missing, wait until SSH answers; returns the hosts it started."""

    def destroy(self, progress: Progress) -> None:
        """Unmake all machines of this cluster, and nothing else."""
