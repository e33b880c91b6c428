"""The texts that a plan changes, as unified diffs: read from the hosts, masked for a person."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from builder.engine.plan import Plan
from builder.errors import PghaError, TransportError
from builder.resources.base import Change, Present
from builder.security.masking import masked_diff
from builder.transport.base import Connection

_DIFF_LINES = 200


def with_diffs(plan: Plan, connections: Mapping[str, Connection | TransportError]) -> Plan:
    """Fetch the texts that differ (one more round trip, only to hosts where some do)."""
    wanted: dict[str, list[Change]] = {}
    for change in plan.pending:
        there = isinstance(change.observed, Present)
        if there and change.changes("content") and change.resource.text() is not None:
            wanted.setdefault(change.resource.hosts[0], []).append(change)
    if not wanted:
        return plan
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        found = pool.map(lambda pair: _diffs(connections[pair[0]], pair[1]), wanted.items())
    shown = {change.address: change for changes in found for change in changes}
    return replace(plan, changes={**plan.changes, **shown})


def _diffs(connection: Connection | TransportError, changes: Sequence[Change]) -> list[Change]:
    if isinstance(connection, TransportError):
        return []
    mark = "@pgha-text-end"
    probes = [f"{change.resource.text_probe()}\nprintf '\\n{mark}\\n'" for change in changes]
    try:
        said = connection.run("\n".join(probes), timeout_seconds=30).stdout
    except PghaError:
        return []
    texts = [text.removeprefix("\n") for text in said.split(f"\n{mark}")]
    return [
        replace(change, diff=unified(text, change.resource.text() or ""))
        for change, text in zip(changes, texts, strict=False)
    ]


def unified(before: str, after: str) -> tuple[str, ...]:
    """What a plan shows of a text that differs; secrets in what goes are masked."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))
    body = list(masked_diff(lines[2:]))
    if len(body) > _DIFF_LINES:
        body = [*body[:_DIFF_LINES], f"… {len(body) - _DIFF_LINES} more lines"]
    return tuple(body)
