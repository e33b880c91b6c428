"""What comes before what. Pure.

Edges come from `needs`, from the triggers of a unit, and from two rules that nobody should have to
write down: a path needs the nearest managed directory above it, and what is owned by a managed
user needs that user.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

from builder.errors import PlanError
from builder.resources.base import Resource

Graph = Mapping[str, frozenset[str]]


def graph(resources: Sequence[Resource]) -> Graph:
    """Address → the addresses it needs. Raises PlanError for unknown needs and for cycles."""
    known = by_address(resources)
    edges = {
        resource.address: frozenset(
            {*resource.needs, *resource.triggers(), *_implied(resource, known)}
        )
        for resource in known.values()
    }
    _refuse_unknown(edges)
    _refuse_cycles(edges)
    return edges


def by_address(resources: Iterable[Resource]) -> dict[str, Resource]:
    """By address; what two roles both want is wanted once, with the needs of both.

    Raises PlanError where they want it in different ways.
    """
    known: dict[str, Resource] = {}
    for resource in resources:
        known[resource.address] = _joined(known.get(resource.address, resource), resource)
    return known


def _joined(one: Resource, other: Resource) -> Resource:
    needs = tuple(dict.fromkeys(one.needs + other.needs))
    if replace(one, needs=needs) != replace(other, needs=needs):
        raise PlanError(
            f"{one.address} is wanted twice, in different ways",
            do="Two roles on one host declare it; this is a defect of one of them.",
        )
    return replace(one, needs=needs)


def _implied(resource: Resource, known: Mapping[str, Resource]) -> Iterable[str]:
    yield from directories_above(resource, known)[:1]
    user = f"{resource.hosts[0]}/user:{getattr(resource, 'owner', '')}"
    if user in known:
        yield user


def directories_above(resource: Resource, known: Collection[str]) -> Sequence[str]:
    """The known directories that a path lies in, the nearest first."""
    if not resource.name.startswith("/"):
        return ()
    above = PurePosixPath(resource.name).parents
    addresses = [f"{resource.hosts[0]}/directory:{path}" for path in above]
    return [address for address in addresses if address in known]


def _refuse_unknown(edges: Graph) -> None:
    for address, needs in edges.items():
        for need in needs - edges.keys():
            near = difflib.get_close_matches(need, edges, 1)
            raise PlanError(
                f"{address} needs {need}, which nothing declares",
                do=f"Did you mean {near[0]}?" if near else "",
            )


def _refuse_cycles(edges: Graph) -> None:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        raise PlanError("resources need each other: " + " → ".join(error.args[1])) from error


def ancestors(edges: Graph, of: Collection[str]) -> set[str]:
    """Everything that these addresses need, directly or not."""
    found: set[str] = set()
    waiting = [need for address in of for need in edges[address]]
    while waiting:
        address = waiting.pop()
        if address not in found:
            found.add(address)
            waiting.extend(edges[address])
    return found


def descendants(edges: Graph, of: Collection[str]) -> set[str]:
    """Everything that needs one of these addresses, directly or not."""
    return ancestors(reverse(edges), of)


def reverse(edges: Graph) -> Graph:
    turned: dict[str, set[str]] = {address: set() for address in edges}
    for address, needs in edges.items():
        for need in needs:
            turned[need].add(address)
    return {address: frozenset(users) for address, users in turned.items()}
