"""What happened during one drill, as values. Pure.

All times are seconds of the controller's monotonic clock; `begin` and `end` bound the moment at
which something became true, because the host's own clock is not to be relied on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


class Kind(enum.StrEnum):
    WRITE = "write"
    READ = "read"


class Outcome(enum.StrEnum):
    """UNKNOWN: sent, and never answered, so it may or may not be there."""

    ACK = "ack"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One statement of a client, or its failure to connect.

    Clients that are `fresh` open a connection per statement; the others keep theirs, as a pool
    does. `sent` is when the statement left; None where there was no connection for it. `member` and
    `timeline` are what the server that acknowledged said of itself.
    """

    kind: Kind
    begin: float
    end: float
    outcome: Outcome
    sent: float | None = None
    number: int = 0
    client: int = 0
    fresh: bool = False
    member: str = ""
    timeline: int = 0
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a host said of itself: `primary`, `holder`, `up:NAME` (a server HAProxy writes to).

    It was heard at `at`, had looked for `seconds` before that, and had booted `uptime` seconds ago.
    """

    at: float
    host: str
    seconds: float = 0.0
    uptime: float = 0.0
    words: frozenset[str] = frozenset()


class Moment(enum.StrEnum):
    INJECTED = "fault"
    HEALED = "healed"
    HEALTHY = "healthy"


@dataclass(frozen=True, kw_only=True)
class History:
    """One drill. `stored` are the numbers found in the table at the end (None: not read).

    `watched` are the hosts of whom samples are taken, `struck` those whom the fault hits, which was
    wholly there during `held`, and `silenced` those of them that cannot speak until it is healed.
    `faded` are the hosts where it ended before that; None: that cannot be seen.
    `slowness`: so many times further apart than usual were statements and looks; more than 1 where
    the machines, or the way to them, are slow.
    """

    begin: float
    end: float
    attempts: tuple[Attempt, ...] = ()
    samples: tuple[Sample, ...] = ()
    marks: Mapping[Moment, float] = field(default_factory=dict)
    stored: frozenset[int] | None = None
    watched: tuple[str, ...] = ()
    struck: tuple[str, ...] = ()
    silenced: tuple[str, ...] = ()
    faded: tuple[str, ...] | None = None
    held: tuple[float, float] | None = None
    slowness: float = 1.0

    def acknowledged(self, kind: Kind, *, fresh: bool = False) -> Iterator[Attempt]:
        """`fresh`: only those whose connection was new."""
        return (
            a
            for a in self.attempts
            if a.kind is kind and a.outcome is Outcome.ACK and (a.fresh or not fresh)
        )
