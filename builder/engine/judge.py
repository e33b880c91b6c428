"""From changes to pieces of work, and from a look to what is to be done, or was. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from builder.engine import diff
from builder.engine.observe import Look, merged_with_host, recorded
from builder.engine.script import Outcome, Piece
from builder.engine.words import told
from builder.resources.base import Absent, Action, Change, Present, Resource, Unknown
from builder.resources.steps import Step


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a change did not come about: the step's own words, and its unit's telling lines."""

    address: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of a batch: what holds now, what failed, and by address what was not begun.

    `lost` are hosts whose connection broke.
    """

    held: Sequence[Change] = ()
    failures: Sequence[Failure] = ()
    left: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a look made of changes that could not be decided before; `work` is by host."""

    held: Sequence[Change]
    failures: Sequence[Failure]
    work: Mapping[str, Sequence[Change]]


def decided(late: Sequence[Change], looks: Mapping[str, Look]) -> Decided:
    """Each by what is there now, and on the host that said so."""
    held: list[Change] = []
    failures: list[Failure] = []
    work: dict[str, list[Change]] = {}
    for old in late:
        resource, leaves = old.resource, old.leaves
        observed, host = merged_with_host(resource, looks)
        change = (
            diff.removed(resource, observed)
            if leaves
            else diff.difference(resource, observed, recorded(resource, looks))
        )
        if isinstance(observed, Unknown):
            failures.append(Failure(address=old.address, said=observed.reason))
        elif change.action is Action.NONE or (leaves and isinstance(observed, Absent)):
            held.append(change)
        elif _is_dearer(old, change):
            said = f"it costs a {change.impact}, and the plan said {old.impact}: see a new plan"
            failures.append(Failure(address=old.address, said=said))
        else:
            work.setdefault(host, []).append(change)
    return Decided(held=held, failures=failures, work=work)


def _is_dearer(old: Change, new: Change) -> bool:
    """Than what was agreed to. What could not be looked at was agreed to unpriced."""
    priced = isinstance(old.observed, Present) and not old.leaves
    return priced and new.impact > old.impact


def pieces(batch: Sequence[Change]) -> Iterator[tuple[Piece, Sequence[Change]]]:
    """Runs of one kind, merged where the type can, each with the changes it carries out."""
    for _, run in groupby(batch, key=lambda change: change.resource.kind):
        alike = list(run)
        for changes, steps in type(alike[0].resource).merge(alike):
            yield _piece(changes, steps), changes


def _piece(changes: Sequence[Change], steps: Sequence[Step]) -> Piece:
    verbs = {Action.WAIT: "waiting for", Action.DELETE: "removing"}
    names = [f"{change.resource.kind}:{change.resource.name}" for change in changes]
    verb = verbs.get(changes[0].action, "")
    label = " ".join(filter(None, (verb, ", ".join(names))))
    return Piece(label=label, steps=steps, diagnose=changes[0].resource.diagnose())


def judged(work: Sequence[Sequence[Change]], outcome: Outcome, seen: Look) -> Ran:
    """What a script came to: each change of a finished piece by what the second look says of it.

    Piece 0 is the manifest; if that fails nothing has begun.
    """
    finished = max(0, outcome.done - 1)
    held: list[Change] = []
    failures: list[Failure] = []
    for change in chain(*work[:finished]):
        if complaint := _complaint(change, seen):
            failures.append(Failure(address=change.address, said=complaint))
        else:
            held.append(change)
    if outcome.failed is not None:
        broken = work[outcome.failed - 1] if outcome.failed else chain(*work)
        said = outcome.said or "it failed silently"
        failures += [Failure(address=change.address, said=said) for change in broken]
    left = {change.address for change in chain(*work[finished:])}
    left -= {failure.address for failure in failures}
    return Ran(held=held, failures=failures, left=frozenset(left))


def _complaint(change: Change, seen: Look) -> str:
    resource: Resource = change.resource
    if not resource.observed_in_plan:
        return ""
    observed = seen.observed.get(resource.address, Unknown("not looked at"))
    if isinstance(observed, Unknown):
        return f"it could not be looked at again: {observed.reason}"
    if change.action is Action.DELETE:
        stays = isinstance(observed, Present) and not resource.is_gone(observed)
        return "it is still there" if stays else ""
    after = diff.difference(resource, observed, None)
    if after.action is Action.NONE:
        return ""
    left = "; ".join(told(resource, item) for item in after.attributes)
    return f"its steps ran without an error, and it still differs: {left}"
