"""Whose turn it is: who leads, and who holds the address, is asked at the moment it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from builder.engine.script import in_place
from builder.errors import TransportError
from builder.resources.base import Change
from builder.transport.base import Connection


def in_turn(connections: Mapping[str, Connection], places: Mapping[str, Change]) -> Sequence[str]:
    """Hosts in the order of what their change's `turn` prints now; else in the order given."""
    if len(places) < 2:
        return list(places)
    with ThreadPoolExecutor(max_workers=len(places)) as pool:
        turns = pool.map(lambda host: _turn(connections[host], places[host]), places)
        order = dict(zip(places, turns, strict=True))
    return sorted(places, key=lambda host: order[host])


def _turn(connection: Connection, change: Change) -> int:
    script = change.resource.turn()
    if not script:
        return 0
    try:
        said = connection.run(in_place(connection.host, script), timeout_seconds=20).stdout.strip()
    except TransportError:
        return 0  # carrying the change out will say so
    return int(said) if said.isdigit() else 0
