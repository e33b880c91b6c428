"""What is heard while a drill runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from builder.drill.history import Attempt, History, Moment, Outcome, Sample

_SLOW_SECONDS = 1.0


@dataclass(kw_only=True)
class Recorder:
    """What samplers and clients tell; appending to a list is safe from any thread."""

    attempts: list[Attempt] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    marks: dict[Moment, float] = field(default_factory=dict)
    begin: float = 0.0
    end: float = 0.0
    held: tuple[float, float] | None = None
    faded: tuple[str, ...] | None = None

    def mark(self, moment: Moment) -> None:
        self.marks[moment] = time.monotonic()

    def acknowledged(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.outcome is Outcome.ACK]

    def slow(self) -> bool:
        """Whether it is the machines that are slow: answers come, and late."""
        return any(a.end - a.begin > _SLOW_SECONDS for a in self.acknowledged())

    def history(self, stored: frozenset[int] | None, slowness: float) -> History:
        return History(
            begin=self.begin,
            end=self.end,
            held=self.held,
            faded=self.faded,
            attempts=tuple(self.attempts),
            samples=tuple(self.samples),
            marks=dict(self.marks),
            stored=stored,
            slowness=slowness,
        )
