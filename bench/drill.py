#!/usr/bin/env python3
"""Results of drills as the table of docs/how-to/drill.md.

pgha-build drill --all --rounds 3 --yes --json >one.json
.venv/bin/python bench/drill.py one.json [more.json …]

With --keep FILE, what they measured is added to that file, a line per drill, each once, so that
rounds add up over days, and the table is of all that it has; bench/drills.jsonl has those since
2026-11-26:

.venv/bin/python bench/drill.py --keep bench/drills.jsonl one.json
.venv/bin/python bench/drill.py bench/drills.jsonl

The outages of all of a name are judged by the bounds of the latest; where answers were late or
rare, by those that it had then.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = (
    "| drill | passed | no write: median | worst | promised | no new connection: worst |"
    " no read: worst | lost | whole again: worst |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)

GROUPED = ("name", "preset", "synchronous")
OUTAGES = {"no write acknowledged": "write", "no new connection": "connect"}  # checks of bounds
KEPT = (
    "name",
    "at",
    "preset",
    "synchronous",
    "software",
    "passed",
    "targets",
    "writes_acknowledged",
    "writes_lost",
    "write_outage_seconds",
    "write_bound_seconds",
    "connect_bound_seconds",
    "connect_outage_seconds",
    "read_outage_seconds",
    "recovery_seconds",
    "timelines",
    "slowness",
    "lateness",
)


def rows(drills: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One per fault and kind of cluster, by name."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for drill in drills:
        groups[tuple(drill[key] for key in GROUPED)].append(drill)
    for key in sorted(groups):
        yield _row(sorted(groups[key], key=lambda drill: str(drill["at"])))


def _row(found: Sequence[Mapping[str, Any]]) -> str:
    paused = [drill["write_outage_seconds"] for drill in found]
    unread = [drill["read_outage_seconds"] for drill in found if drill["read_outage_seconds"]]
    whole = [drill["recovery_seconds"] for drill in found]
    first = found[0]
    today = _bounds(next((drill for drill in reversed(found) if _usual(drill)), found[-1]))
    what = [] if first["preset"] == "lan" else [f"preset {first['preset']}"]
    what += [] if first["synchronous"] else ["asynchronous"]
    cells = (
        ", ".join([f"`{first['name']}`", *what]),
        f"{sum(_passed(d, today if _usual(d) else _bounds(d)) for d in found)} of {len(found)}",
        f"{statistics.median(paused):.1f} s",
        f"{max(paused):.1f} s",
        _promised(today),
        f"{max(drill['connect_outage_seconds'] for drill in found):.1f} s",
        f"{max(unread):.1f} s" if unread else "–",
        f"{_lost(found)} of {sum(drill['writes_acknowledged'] for drill in found)}",
        "never" if None in whole else f"{max(whole):.1f} s",
    )
    return f"| {' | '.join(cells)} |"


def _usual(drill: Mapping[str, Any]) -> bool:
    """On machines that answer as usual; else a bound may have grown."""
    return bool(drill.get("slowness", 1) == drill.get("lateness", 1) == 1)


def _bounds(drill: Mapping[str, Any]) -> Mapping[str, float | None]:
    """Seconds. What was kept before connections had a bound of their own has one for both."""
    writes = drill["write_bound_seconds"]
    return {"write": writes, "connect": drill.get("connect_bound_seconds", writes)}


def _promised(bounds: Mapping[str, float | None]) -> str:
    said = ["–" if bound is None else f"{bound:g} s" for bound in bounds.values()]
    return said[0] if said[0] == said[1] else f"{said[0]}, to connect {said[1]}"


def _passed(drill: Mapping[str, Any], bounds: Mapping[str, float | None]) -> bool:
    failed = {check["name"] for check in _failed(drill)} - OUTAGES.keys()
    within = (
        bound is None or drill[f"{what}_outage_seconds"] <= bound for what, bound in bounds.items()
    )
    return not failed and all(within)


def _failed(drill: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    checks = drill.get("checks", drill.get("failed", []))
    return [check for check in checks if not check["passed"]]


def _lost(found: Sequence[Mapping[str, Any]]) -> str:
    """None is one that was not read back."""
    lost = [drill["writes_lost"] for drill in found]
    unread = lost.count(None)
    return f"{sum(map(len, filter(None, lost)))}" + (f" (unread: {unread})" if unread else "")


def _drills(file: Path) -> Sequence[Mapping[str, Any]]:
    """Of what `drill --json` printed, or of lines that were kept."""
    text = file.read_text()
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    said = json.loads(text)
    cluster = {key: said[key] for key in ("preset", "synchronous", "software")}
    return [cluster | drill for drill in said["drills"]]


def _keep(file: Path, drills: Sequence[Mapping[str, Any]]) -> None:
    """One line each; of the checks, those that failed."""
    there = set(file.read_text().splitlines()) if file.exists() else set()
    with file.open("a") as out:
        for drill in drills:
            kept = {name: drill[name] for name in KEPT if name in drill}
            line = json.dumps(kept | {"failed": _failed(drill)})
            if line not in there:
                print(line, file=out)
                there.add(line)


def main() -> None:
    parser = argparse.ArgumentParser(description="The results of drills as a table.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add them to it, a line each")
    said = parser.parse_args()
    drills = [drill for file in said.files for drill in _drills(file)]
    if said.keep:
        _keep(said.keep, drills)
        drills = _drills(said.keep)
    print(HEAD, *rows(drills), sep="\n")


if __name__ == "__main__":
    main()
