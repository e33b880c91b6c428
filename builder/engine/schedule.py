"""Which changes a host can carry out now, in one script. Pure.

A host goes on until it must wait for another: a batch is all that is ready on it, in order, where
what is ready includes what becomes ready within the batch itself. Hosts wait for each other only
where an edge says so, and members of a rolling group for their turn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from builder.engine.graph import Graph
from builder.resources.base import Action, Change, Impact
from builder.resources.unit import Unit


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`work` by address; `edges` between them; `places` says which host carries a change out.

    A change without a place is decided late, when what it needs is done. `order` says of a change
    what is to be over first, whether it came about or not.
    """

    work: Mapping[str, Change]
    edges: Graph
    places: Mapping[str, str]
    order: Graph = field(default_factory=dict)

    def batch(
        self,
        host: str,
        done: Collection[str],
        waiting: Collection[str],
        taken: Collection[str],
        ahead: Collection[str] = (),
    ) -> Sequence[Change]:
        """What `host` can do now of `waiting`, in order; `taken` are rolling groups at work.

        At most one rolling group is in it, so that a turn is given back soon. What is to come
        behind something that is still `ahead` is left for later.
        """
        mine = [a for a in self.work if a in waiting and self.places.get(a) == host]
        mine = [a for a in mine if group_of(self.work[a]) not in taken]
        mine = [a for a in mine if self.order.get(a, frozenset()).isdisjoint(ahead)]
        batch: list[Change] = []
        finished = set(done)
        while ready := [a for a in mine if self.edges[a] <= finished and a not in finished]:
            address = self._next(ready, batch)
            batch.append(self.work[address])
            finished.add(address)
        return _one_turn(batch)

    def members(self, group: str, waiting: Collection[str]) -> Mapping[str, Change]:
        """By host, what still waits of a rolling group."""
        return {
            self.places[address]: change
            for address, change in self.work.items()
            if address in waiting and address in self.places and group_of(change) == group
        }

    def _next(self, ready: Sequence[str], batch: Sequence[Change]) -> str:
        """Of the same kind as the last, so that packages come together in one transaction."""
        kind = batch[-1].resource.kind if batch else ""
        alike = (address for address in ready if self.work[address].resource.kind == kind)
        return next(alike, ready[0])

    def late(self, done: Collection[str], waiting: Collection[str]) -> Sequence[Change]:
        """What can be decided now. What takes turns comes alone, before the rest: it may move the
        lead, and where the rest is carried out depends on who leads.
        """
        ready = [
            change
            for address, change in self.work.items()
            if address in waiting
            and address not in self.places
            and self.edges[address] <= set(done)
        ]
        return [change for change in ready if change.resource.turn()] or ready


def make_schedule(
    work: Mapping[str, Change],
    edges: Graph,
    reachable: Collection[str],
    order: Graph | None = None,
) -> Schedule:
    """Contract the graph to what has to be done, and give each change its place."""
    places: dict[str, str] = {}
    for address, change in work.items():
        hosts = [host for host in change.resource.hosts if host in reachable]
        decided = change.action is not Action.DECIDE and not change.resource.late
        if hosts and (decided or change.action is Action.WAIT):
            places[address] = hosts[0]
    edges = contracted(edges, work)
    return Schedule(work=work, edges=edges, places=places, order=order or {})


def contracted(edges: Graph, work: Collection[str]) -> Graph:
    """Edges between the addresses of `work` only, seen through everything in between."""
    return {address: frozenset(_nearest(edges, address, work)) for address in work}


def _nearest(edges: Graph, address: str, work: Collection[str]) -> set[str]:
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(edges[address])
    while waiting:
        need = waiting.pop()
        if need in seen:
            continue
        seen.add(need)
        if need in work:
            found.add(need)
        else:
            waiting.extend(edges[need])
    return found


def turn_of(batch: Sequence[Change]) -> str | None:
    """The rolling group whose turn a batch needs."""
    return next((group for change in batch if (group := group_of(change))), None)


def _one_turn(batch: Sequence[Change]) -> Sequence[Change]:
    first, groups = turn_of(batch), [group_of(change) for change in batch]
    end = next((i for i, group in enumerate(groups) if group not in {None, first}), len(batch))
    return batch[:end]


def group_of(change: Change) -> str | None:
    """The rolling group that a change interrupts a member of, or None."""
    resource = change.resource
    if isinstance(resource, Unit) and change.impact >= Impact.RESTART:
        return resource.group
    return None
