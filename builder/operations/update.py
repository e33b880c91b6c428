"""Newer packages of the cluster's own programs, in the order that hurts nobody. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from builder import debian
from builder.engine import manifest
from builder.operations.course import (
    Confirm,
    Converge,
    Course,
    Hear,
    OperationError,
    Target,
    Tell,
    Whole,
)
from builder.resources.base import Impact

_FETCH_SECONDS = 600
_OWING = "owing:"

Versions = Mapping[str, Mapping[str, str]]  # by host, by package


def update(target: Target) -> Course:
    """Bring the packages of the cluster up to what their sources have, and restart what runs them.

    Only packages that cluster.yml leads to; the rest of a host is its owner's. A pin (`packages:
    versions`) is never overstepped. Invariant: a member restarts only while all others are up, the
    leader and the holder of the address last: the order of any change.
    """
    if target.locked:
        raise OperationError(
            "cluster.lock.yml says which versions",
            why="The next apply would go back to them.",
            do="pgha-build lock --update, and then apply: members restart one by one.",
        )
    yield Whole()
    heard = yield Hear(
        label="fetches the lists of packages",
        scripts={host: _question(names) for host, names in target.packages.items()},
        timeout_seconds=_FETCH_SECONDS,
    )
    pins = target.spec.sections["packages"]["versions"]
    newer = {host: dict(_newer(answer, pins)) for host, answer in heard.items()}
    if any(newer.values()):
        yield Tell(lines=_lines(newer))
        question = "Install these, and restart what runs them, one member at a time?"
    else:
        yield Tell(lines=("Every package is as new as its source has it.",))
        owing = [host for host, answer in heard.items() if _OWING in answer.splitlines()]
        if not owing:
            return
        question = f"Carry out the restarts that an earlier run owes, on {', '.join(owing)}?"
    yield Confirm(question=question)
    wanted = {h: {name: after for name, (_, after) in found.items()} for h, found in newer.items()}
    yield Converge(why="packages are updated", versions=wanted)
    yield Whole()


def _question(names: Sequence[str]) -> str:
    owing = f'grep -qs \'"pending": "{Impact.RESTART}"\' {manifest.PATH} && echo {_OWING}'
    return f"{debian.REFRESH_IN_TURN} >&2 || exit 1\n{debian.candidates(names)}\n{owing} || :"


def _newer(answer: str, pins: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Package, and its version before and after, of those that have a newer one.

    `apt-cache policy` lists a package's versions from the newest to the oldest, those of low
    priority (backports) too; its candidate is what apt would take.
    """
    for name, lines in _paragraphs(answer):
        words = dict(line.split(": ", 1) for line in lines if ": " in line)
        installed, best = words.get("Installed", "(none)"), words.get("Candidate", "(none)")
        if pin := pins.get(name):
            fitting = (version for version in _table(lines) if fnmatchcase(version, pin))
            best = next(fitting, installed)
        if "(none)" not in {installed, best} and installed != best:
            yield name, (installed, best)


def _paragraphs(answer: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = "", list[str]()
    for line in [*answer.splitlines(), "end:"]:
        if line.startswith(" "):
            lines.append(line.strip())
            continue
        if name:
            yield name, lines
        name, lines = line.removesuffix(":"), []


def _table(lines: Sequence[str]) -> Iterator[str]:
    """`*** 3.0.11-1 500`, `3.0.10-1 500`, and beneath each where it comes from."""
    begin = lines.index("Version table:") + 1 if "Version table:" in lines else len(lines)
    for line in lines[begin:]:
        words = line.removeprefix("*** ").split()
        if len(words) == 2 and not words[0].lstrip("-").isdigit():
            yield words[0]


def _lines(newer: Mapping[str, Mapping[str, tuple[str, str]]]) -> tuple[str, ...]:
    rows = [(host, name, *pair) for host, found in newer.items() for name, pair in found.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    padded = ([text.ljust(width) for text, width in zip(row, widths, strict=False)] for row in rows)
    return tuple("  ".join((*left, "→", row[3])) for left, row in zip(padded, rows, strict=True))
