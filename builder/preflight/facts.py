"""What the preflight has learned of each host, beside what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.preflight.questions import Answers

_HEAD = ("host", "system", "interface", "memory", "clock", "data: free, 99 % of writes within")


def facts(said: Answers) -> Mapping[str, Any]:
    """As JSON has it; None for what a host did not tell."""
    memory = said.one("memory")
    return {
        "system": said.one("os") or None,
        "interface": said.one("interface") or None,
        "memory_mib": int(memory) if memory.isdigit() else None,
        "clock_synchronised": {"yes": True, "no": False}.get(said.one("synchronised")),
        "data": [_data(line, said) for line in said.all("disk")],
    }


def _data(line: str, said: Answers) -> Mapping[str, Any]:
    path, _, free = line.partition(" ")
    took = dict(each.split(" ", 1) for each in said.all("fsync") if " " in each).get(path, "")
    return {
        "path": path,
        "free_mib": int(free) if free.isdigit() else None,
        "write_ms": int(took) / 1000 if took.isdigit() else None,
    }


def rows(answers: Mapping[str, Answers]) -> Iterator[str]:
    """A table, a line per host."""
    cells = [_HEAD, *(_row(host, facts(said)) for host, said in answers.items())]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    for row in cells:
        yield "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()


def _row(host: str, known: Mapping[str, Any]) -> Sequence[str]:
    memory, clock = known["memory_mib"], known["clock_synchronised"]
    return (
        host,
        known["system"] or "?",
        known["interface"] or "?",
        _gib(memory),
        {True: "in sync", False: "free"}.get(clock, "?"),
        "; ".join(_shown(each) for each in known["data"]),
    )


def _shown(data: Mapping[str, Any]) -> str:
    took = "?" if data["write_ms"] is None else f"{data['write_ms']:.1f} ms"
    return f"{data['path']}: {_gib(data['free_mib'])}, {took}"


def _gib(mib: int | None) -> str:
    return "?" if mib is None else f"{mib / 1024:.1f} GiB"
