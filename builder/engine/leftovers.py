"""What a manifest lists and the spec does not, and in which order it goes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.engine import diff
from builder.engine.graph import Graph, directories_above
from builder.engine.manifest import Entry
from builder.engine.observe import Look, merged
from builder.resources.base import Absent, Change, Resource
from builder.resources.unit import Unit

Kinds = Mapping[str, type[Resource]]


def leftovers(
    resources: Sequence[Resource], looks: Mapping[str, Look], kinds: Kinds
) -> Sequence[Resource]:
    """As resources that can be looked at."""
    known = _Wanted(resources)
    return [
        kinds[entry.kind].revive(entry.hosts, entry.name, entry.recall)
        for entry in _unlisted(known, looks)
        if entry.kind in kinds and not known.otherwise(entry)
    ]


def readdressed(resources: Sequence[Resource], looks: Mapping[str, Look]) -> tuple[str, ...]:
    """Addresses under which something is known that is wanted, and called otherwise by now.

    A role of the database is `pg1/role:app` while pg1 is alone, and `cluster/role:app` once it is
    not.
    """
    known = _Wanted(resources)
    return tuple(entry.address for entry in _unlisted(known, looks) if known.otherwise(entry))


class _Wanted:
    def __init__(self, resources: Sequence[Resource]) -> None:
        self.addresses = {resource.address for resource in resources}
        self._things = {(r.kind, r.name, host) for r in resources for host in r.hosts}

    def otherwise(self, entry: Entry) -> bool:
        return any((entry.kind, entry.name, host) in self._things for host in entry.hosts)


def _unlisted(known: _Wanted, looks: Mapping[str, Look]) -> Sequence[Entry]:
    found = {
        entry.address: entry
        for seen in looks.values()
        for entry in seen.manifest.entries.values()
        if entry.address not in known.addresses
    }
    return list(found.values())


def removals(
    gone: Sequence[Resource], looks: Mapping[str, Look]
) -> tuple[dict[str, Change], tuple[str, ...]]:
    """What has to be done about them, and the addresses that only have to be forgotten."""
    changes = {r.address: diff.removed(r, merged(r, looks)) for r in gone}
    forgotten = tuple(address for address, change in changes.items() if _is_forgotten(change))
    return {a: change for a, change in changes.items() if a not in forgotten}, forgotten


def _is_forgotten(change: Change) -> bool:
    """It is not there, or deleting it means leaving it alone."""
    return isinstance(change.observed, Absent) or not change.resource.removal()


def removal_edges(going: Mapping[str, Change], looks: Mapping[str, Look]) -> Graph:
    """What needed something goes before it (the recorded needs), what lies in a directory too."""
    edges: dict[str, set[str]] = {address: set() for address in going}
    entries = [e for seen in looks.values() for e in seen.manifest.entries.values()]
    for entry in entries:
        if entry.address in going:
            for need in edges.keys() & set(entry.needs):
                edges[need].add(entry.address)
    for address, change in going.items():
        for directory in directories_above(change.resource, edges):
            edges[directory].add(address)
    return {address: frozenset(first) for address, first in edges.items()}


def stopped_first(
    edges: Graph, going: Mapping[str, Change], changes: Mapping[str, Change]
) -> dict[str, frozenset[str]]:
    """Who leaves hands over and stops before other hosts are told, and close their ports to it."""
    stops = {a: c for a, c in going.items() if isinstance(c.resource, Unit)}
    return {
        address: needs
        | {
            stop
            for stop, leaving in stops.items()
            if address in changes and changes[address].resource.hosts != leaving.resource.hosts
        }
        for address, needs in edges.items()
    }
