"""Mistakes of a user, as values: collected, and shown all at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, order=True)
class Diagnostic:
    """One mistake: `file:line: message`, and what to do about it."""

    file: str
    line: int
    message: str
    advice: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}" + (f" ({self.advice})" if self.advice else "")
