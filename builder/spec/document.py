"""A parsed cluster.yml that still knows on which line everything stands. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from builder.diagnostics import Diagnostic
from builder.spec.model import Problem

KeyPath = tuple[str | int, ...]

MOST_SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class Document:
    """`values` as written; `lines` by path (keys and list indexes, counted from 1).

    `problems`, with their lines, are mistakes of the text itself that did not stop reading (a key
    given twice, a tag); what stands at or below a path in `spoiled` is not judged any further.
    """

    file: str
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]
    problems: tuple[tuple[int, Problem], ...] = ()
    spoiled: frozenset[KeyPath] = frozenset()

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def diagnose(self, problems: Iterable[Problem]) -> tuple[Diagnostic, ...]:
        """All mistakes by line: those of the text, and `problems` found in what is sound."""
        sound = (problem for problem in problems if not _within(problem.path, self.spoiled))
        placed = [*self.problems, *((self.line(problem.path), problem) for problem in sound)]
        each_once = dict.fromkeys(_diagnostic(self.file, *each) for each in placed)
        return _shortened(self.file, sorted(each_once, key=lambda diagnostic: diagnostic.line))


def dotted(path: KeyPath) -> str:
    """A path as people write it: `postgresql.users[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _within(path: KeyPath, spoiled: frozenset[KeyPath]) -> bool:
    return any(path[:length] in spoiled for length in range(1, len(path) + 1))


def _diagnostic(file: str, line: int, problem: Problem) -> Diagnostic:
    where = f"{dotted(problem.path)}: " if problem.path else ""
    return Diagnostic(file=file, line=line, message=where + problem.message, advice=problem.advice)


def _shortened(file: str, diagnostics: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    """A file that is wrong throughout should not fill the screen."""
    left = len(diagnostics) - MOST_SHOWN
    if left <= 0:
        return tuple(diagnostics)
    line = diagnostics[MOST_SHOWN].line
    more = Diagnostic(file=file, line=line, message=f"and {left} more mistakes from here on")
    return (*diagnostics[:MOST_SHOWN], more)
