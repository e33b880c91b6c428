"""What need not wait for a gate. Pure.

A gate is for what cannot be done yet: no role in a database that nobody leads. Where a resource
that is `at_once` could be looked at, it can be changed as well, and does not wait; it may be what
the gate, or a restart before it, waits for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter

from builder.engine.graph import Graph, by_address
from builder.resources.base import Absent, Change, Observed, Present, Resource


def sooner(
    edges: Graph, resources: Sequence[Resource], changes: Mapping[str, Change]
) -> tuple[Graph, Graph]:
    """The same edges, without those from a gate to what can be changed at once.

    And of each that wants it `mended_first`, an order: what comes before it where both are carried
    out, and whether that fails or not.
    """
    known = by_address(resources)
    free: dict[str, frozenset[str]] = {}
    for address in TopologicalSorter(edges).static_order():
        if known[address].at_once and _was_seen(changes[address].observed):
            others = frozenset(a for a in edges[address] if known[a].observed_in_plan)
            if others <= free.keys():
                free[address] = others
    firsts = {a: free.keys() & resource.mended_first for a, resource in known.items()}
    order = {a: frozenset(first) for a, first in firsts.items() if first}
    return {**edges, **free}, order


def _was_seen(observed: Observed) -> bool:
    """By who can change it, too: not where there is nothing yet to hold it."""
    if isinstance(observed, Absent):
        return not observed.elsewhere
    return isinstance(observed, Present)
