#!/usr/bin/env python3
"""Results of drills as the table of docs/how-to/drill.md.

pgha-build drill --all --rounds 3 --yes --json >one.json
.venv/bin/python bench/drill.py one.json [more.json …]
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = (
    "| drill | passed | no write: median | worst | no new connection: worst | promised | lost |"
    " whole again: worst |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def rows(drills: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One per fault, in the order in which they first occur."""
    for name in dict.fromkeys(drill["name"] for drill in drills):
        yield _row(name, [drill for drill in drills if drill["name"] == name])


def _row(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    paused = [drill["write_outage_seconds"] for drill in found]
    whole = [drill["recovery_seconds"] for drill in found]
    bound = found[0]["write_bound_seconds"]
    cells = (
        f"`{name}`",
        f"{sum(drill['passed'] for drill in found)} of {len(found)}",
        f"{statistics.median(paused):.1f} s",
        f"{max(paused):.1f} s",
        f"{max(drill['connect_outage_seconds'] for drill in found):.1f} s",
        "–" if bound is None else f"{bound:g} s",
        f"{_lost(found)} of {sum(drill['writes_acknowledged'] for drill in found)}",
        "never" if None in whole else f"{max(whole):.1f} s",
    )
    return f"| {' | '.join(cells)} |"


def _lost(found: Sequence[Mapping[str, Any]]) -> str:
    """None is one that was not read back."""
    lost = [drill["writes_lost"] for drill in found]
    unread = lost.count(None)
    return f"{sum(map(len, filter(None, lost)))}" + (f" (unread: {unread})" if unread else "")


def main(files: Sequence[str]) -> None:
    drills = [d for file in files for d in json.loads(Path(file).read_text())["drills"]]
    print(HEAD, *rows(drills), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
