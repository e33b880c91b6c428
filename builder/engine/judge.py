"""From changes to pieces of work, and from a second look to what came of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from builder.engine import diff
from builder.engine.observe import Look
from builder.engine.script import Piece
from builder.resources.base import Action, Change, Present, Resource, Unknown
from builder.resources.steps import Step


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a change did not come about: the step's own words, and its unit's telling lines."""

    address: str
    said: str


def decided(old: Change, new: Change) -> Change:
    """A removal stays one; otherwise what the second look says."""
    if old.action is Action.DELETE or old.reason == "it has left the spec":
        return replace(old, action=Action.DELETE)
    return new


def pieces(batch: Sequence[Change]) -> Iterator[tuple[Piece, Sequence[Change]]]:
    """Runs of one kind, merged where the type can, each with the changes it carries out."""
    start = 0
    for end in range(1, len(batch) + 1):
        if end == len(batch) or _breaks(batch[end - 1], batch[end]):
            for changes, steps in type(batch[start].resource).merge(batch[start:end]):
                yield _piece(changes, steps), changes
            start = end


def _breaks(one: Change, other: Change) -> bool:
    return one.resource.kind != other.resource.kind


def _piece(changes: Sequence[Change], steps: Sequence[Step]) -> Piece:
    verbs = {Action.WAIT: "waiting for", Action.DELETE: "removing"}
    names = [f"{change.resource.kind}:{change.resource.name}" for change in changes]
    verb = verbs.get(changes[0].action, "")
    label = " ".join(filter(None, (verb, ", ".join(names))))
    return Piece(label=label, steps=steps, diagnose=changes[0].resource.diagnose())


def judged(done: Sequence[Change], seen: Look) -> tuple[list[Change], list[Failure]]:
    """Each finished change, by what the second look says of it."""
    held: list[Change] = []
    failures: list[Failure] = []
    for change in done:
        if complaint := _complaint(change, seen):
            failures.append(Failure(address=change.address, said=complaint))
        else:
            held.append(change)
    return held, failures


def _complaint(change: Change, seen: Look) -> str:
    resource: Resource = change.resource
    if not resource.observed_in_plan:
        return ""
    observed = seen.observed.get(resource.address, Unknown("not looked at"))
    if change.action is Action.DELETE:
        stays = isinstance(observed, Present) and not resource.is_gone(observed)
        return "it is still there" if stays else ""
    after = diff.difference(resource, observed, None)
    if after.action is Action.NONE:
        return ""
    if isinstance(observed, Unknown):
        return f"it could not be looked at again: {observed.reason}"
    left = ", ".join(item.name for item in after.attributes)
    return f"its steps ran without an error, and it still differs: {left}"


def failed(work: Sequence[Sequence[Change]], number: int, said: str) -> list[Failure]:
    """Piece 0 is the manifest; if that fails nothing has begun."""
    changes = work[number - 1] if number else [change for group in work for change in group]
    return [
        Failure(address=change.address, said=said or "it failed silently") for change in changes
    ]
