"""All changes, ordered, with everything needed to apply exactly them. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter

from builder.engine import diff
from builder.engine.graph import Graph, ancestors, by_address, descendants, graph, reverse
from builder.engine.leftovers import (
    Kinds,
    leftovers,
    readdressed,
    removal_edges,
    removals,
    stopped_first,
)
from builder.engine.observe import Look, merged, recorded
from builder.engine.sooner import sooner
from builder.expiry import DaysLeft, days_left
from builder.resources.base import Action, Change, Impact, Present, Resource, digest


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `apply` would do.

    `changes` holds every resource, also those in sync; `blocked` maps an address to the host or
    resource that could not be looked at and that it depends on; `unreachable` maps a host to why.
    `edges` are needs, `order` says what comes first though it is not needed.
    `hosts` are those of the spec with their addresses, `departed` those that have left it. `owed`
    are units that are blocked, or that a narrowed plan leaves out, though what is changed asks them
    to act. `secrets` is the id of those that it was made with.
    """

    cluster: str
    changes: Mapping[str, Change]
    edges: Graph
    order: Graph = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)
    forgotten: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    departed: Mapping[str, str] = field(default_factory=dict)
    owed: tuple[Change, ...] = ()
    secrets: str = ""

    @property
    def pending(self) -> Sequence[Change]:
        """What would be carried out."""
        return [
            change
            for address, change in self.changes.items()
            if change.action is not Action.NONE and address not in self.blocked
        ]

    @property
    def differences(self) -> Sequence[Change]:
        """What a person calls a change: everything pending but the waiting."""
        return [change for change in self.pending if change.action is not Action.WAIT]

    @property
    def notes(self) -> Mapping[str, Sequence[str]]:
        """Warnings, each with the hosts that it holds for."""
        found: dict[str, list[str]] = {}
        for change in self.changes.values():
            if isinstance(change.observed, Present) and change.observed.note:
                resource = change.resource
                note = f"{resource.kind} {resource.name}: {change.observed.note}"
                found.setdefault(note, []).append(resource.hosts[0])
        return found

    @property
    def days_left(self) -> DaysLeft:
        """Of every certificate that is there."""
        changes = self.changes.values()
        return days_left((c.resource.hosts[0], c.resource.name, c.observed) for c in changes)

    @property
    def impact(self) -> Impact:
        return max((change.impact for change in self.pending), default=Impact.NONE)

    @property
    def exit_code(self) -> int:
        """0 in sync, 2 differences, 1 where a part could not be looked at."""
        if self.unreachable or self.blocked:
            return 1
        return 2 if self.differences else 0

    def fingerprint(self) -> str:
        """Changes with what they start from and lead to; equal where two plans do the same."""
        rows = [
            [
                change.address,
                change.action,
                str(change.trigger),
                [
                    [item.name, digest(item.before), digest(item.after)]
                    for item in change.attributes
                ],
                digest(change.resource.attributes()) if change.action is Action.DECIDE else "",
            ]
            for change in sorted(self.differences, key=lambda change: change.address)
        ]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def make_plan(
    cluster: str,
    resources: Sequence[Resource],
    looks: Mapping[str, Look],
    kinds: Kinds,
    *,
    promises: tuple[str, ...] = (),
    hosts: Mapping[str, str] | None = None,
    departed: Mapping[str, str] | None = None,
    secrets: str = "",
    guard: Callable[[Mapping[str, Change]], None] = lambda _: None,
    refine: Callable[[Mapping[str, Change]], Mapping[str, Change]] = lambda _: {},
) -> Plan:
    """Compare everything that is wanted, and everything that we once made, with what is there."""
    changes = _differences(resources, looks)
    needed, order = sooner(graph(resources), resources, changes)
    edges = dict(needed)
    changes |= refine(changes)
    changes = _with_triggers(changes, edges)
    going, forgotten = removals(leftovers(resources, looks, kinds), looks)
    edges |= removal_edges(going, looks)
    edges = stopped_first(edges, going, changes)
    changes |= going
    guard(changes)
    changes = _with_gates(changes, edges)
    blocked = _blocked(changes, edges, looks)
    return Plan(
        cluster=cluster,
        changes=changes,
        edges=edges,
        order=order,
        blocked=blocked,
        owed=tuple(changes[a] for a in blocked if {*changes[a].triggered} - blocked.keys()),
        unreachable={h: seen.error.what for h, seen in looks.items() if seen.error},
        forgotten=(*forgotten, *readdressed(resources, looks)),
        promises=promises,
        hosts=hosts or {},
        departed=departed or {},
        secrets=secrets,
    )


def narrowed(plan: Plan, addresses: Collection[str]) -> Plan:
    """Only what is asked for by address, and what that needs.

    What differs and is left out is not in the plan at all: what is in it unchanged counts as in
    sync, and an apply would note it as settled, and forget a restart that is owed.
    """
    chosen = {*addresses, *ancestors(plan.edges, addresses)}
    changes = {
        a: change
        for a, change in plan.changes.items()
        if a in chosen or change.action is Action.NONE
    }
    concerned = {h for a in chosen if a in plan.changes for h in plan.changes[a].resource.hosts}
    left_out = {a: change for a, change in plan.changes.items() if a not in changes}
    owed = left_out | {change.address: change for change in plan.owed}
    return replace(
        plan,
        changes=changes,
        blocked={a: cause for a, cause in plan.blocked.items() if a in chosen},
        unreachable={h: why for h, why in plan.unreachable.items() if h in concerned},
        owed=tuple(change for change in owed.values() if chosen.intersection(change.triggered)),
    )


def _differences(resources: Sequence[Resource], looks: Mapping[str, Look]) -> dict[str, Change]:
    return {
        address: diff.difference(resource, merged(resource, looks), recorded(resource, looks))
        for address, resource in by_address(resources).items()
    }


def _with_triggers(changes: Mapping[str, Change], edges: Graph) -> dict[str, Change]:
    """Let changed files restart or reload their units; in order, for a trigger may be triggered."""
    done: dict[str, Change] = {}
    for address in _ordered(changes, edges):
        change = changes[address]
        causes = tuple(cause for cause in change.resource.triggers() if _acts(done.get(cause)))
        done[address] = diff.triggered(change, causes)
    return {address: done[address] for address in changes}


def _acts(change: Change | None) -> bool:
    return change is not None and change.action in {Action.CREATE, Action.UPDATE}


def _ordered(changes: Mapping[str, Change], edges: Graph) -> Sequence[str]:
    return [a for a in TopologicalSorter(edges).static_order() if a in changes]


def _with_gates(changes: Mapping[str, Change], edges: Graph) -> dict[str, Change]:
    """A gate is waited for where something before or behind it is not as wanted."""
    acting = {a for a, change in changes.items() if change.action is not Action.NONE}
    if not acting:
        return dict(changes)
    touched = descendants(edges, acting) | ancestors(edges, acting)
    return {
        address: replace(change, action=Action.WAIT)
        if not change.resource.observed_in_plan and address in touched
        else change
        for address, change in changes.items()
    }


def _blocked(
    changes: Mapping[str, Change], edges: Graph, looks: Mapping[str, Look]
) -> Mapping[str, str]:
    """What depends on a thing that cannot be looked at, and never will be in this run."""
    blocked: dict[str, str] = {}
    users = reverse(edges)
    for address, change in changes.items():
        if change.action is Action.DECIDE and _hopeless(change, changes, edges, looks):
            behind = ancestors(users, [address]) | {address}
            for dependent in changes:  # in the plan's order: the same plan reads the same
                if dependent in behind and changes[dependent].action is not Action.NONE:
                    blocked.setdefault(dependent, address)
    return blocked


def _hopeless(
    change: Change, changes: Mapping[str, Change], edges: Graph, looks: Mapping[str, Look]
) -> bool:
    """Unknown for good: no host can be reached, or nothing before it changes that could help."""
    hosts = [host for host in change.resource.hosts if host in looks]
    reachable = [host for host in hosts if looks[host].error is None]
    if not reachable or not change.resource.late:
        return True
    before = ancestors(edges, [change.address])
    return not any(changes[a].action is not Action.NONE for a in before)
