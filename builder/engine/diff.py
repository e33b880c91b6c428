"""Desired, observed and manifest → change, for one resource at a time. Pure."""

from __future__ import annotations

from dataclasses import replace

from builder.engine.manifest import Entry, drifted
from builder.resources.base import (
    Absent,
    Action,
    AttributeChange,
    Change,
    Impact,
    Observed,
    Present,
    Resource,
    Unknown,
)


def difference(resource: Resource, observed: Observed, entry: Entry | None) -> Change:
    """What has to happen to `resource`, not yet counting what other changes trigger."""
    if not resource.observed_in_plan:
        return Change(resource=resource, action=Action.NONE, observed=observed)
    if isinstance(observed, Unknown):
        return Change(
            resource=resource, action=Action.DECIDE, observed=observed, reason=observed.reason
        )
    if isinstance(observed, Absent):
        return _priced(_created(resource, observed, entry))
    return _priced(_updated(resource, observed, entry))


def _created(resource: Resource, observed: Absent, entry: Entry | None) -> Change:
    attributes = tuple(
        AttributeChange(name=name, before=None, after=value)
        for name, value in resource.attributes().items()
    )
    settled = entry is not None and entry.pending is None and bool(entry.attributes)
    return Change(
        resource=resource,
        action=Action.CREATE,
        observed=observed,
        attributes=attributes,
        drift=settled,
        reason="it is gone" if settled else "",
    )


def _updated(resource: Resource, observed: Present, entry: Entry | None) -> Change:
    attributes = (*_wanted(resource, observed), *_no_longer_wanted(resource, observed, entry))
    owed = entry.pending if entry is not None and entry.pending else Impact.NONE
    change = Change(
        resource=resource,
        action=Action.UPDATE if attributes or owed else Action.NONE,
        observed=observed,
        attributes=attributes,
        trigger=owed,
        reason="an earlier apply did not finish" if owed else "",
    )
    return replace(change, drift=_is_drift(change, entry, observed))


def _wanted(resource: Resource, observed: Present) -> tuple[AttributeChange, ...]:
    return tuple(
        AttributeChange(name=name, before=observed.attributes.get(name), after=value)
        for name, value in resource.attributes().items()
        if resource.differs(name, value, observed.attributes.get(name))
    )


def _no_longer_wanted(
    resource: Resource, observed: Present, entry: Entry | None
) -> tuple[AttributeChange, ...]:
    """Attributes that we applied once, that the spec has dropped, and that are still there."""
    applied = entry.attributes.keys() if entry else ()
    return tuple(
        AttributeChange(name=name, before=observed.attributes[name], after=None)
        for name in applied
        if name not in resource.attributes() and name in observed.attributes
    )


def _is_drift(change: Change, entry: Entry | None, observed: Present) -> bool:
    """Whether somebody else changed it: what differs is not what we last applied."""
    if entry is None or not change.attributes:
        return False
    names = {item.name for item in change.attributes if not change.resource.ages(item.name)}
    return bool(names & drifted(entry, observed))


def _priced(change: Change) -> Change:
    return replace(change, impact=change.resource.impact(change))


def triggered(change: Change, causes: tuple[str, ...]) -> Change:
    """The same resource, made to act by changes of others (`causes`, of its triggers)."""
    if not causes:
        return change
    asked = max(change.resource.triggers()[cause] for cause in causes)
    if change.action is Action.DECIDE:
        return replace(change, trigger=asked, triggered=causes)
    action = Action.UPDATE if change.action is Action.NONE else change.action
    return _priced(
        replace(change, action=action, trigger=max(asked, change.trigger), triggered=causes)
    )


def removed(resource: Resource, observed: Observed) -> Change:
    """A resource that has left the spec."""
    if isinstance(observed, Unknown):
        return replace(difference(resource, observed, None), leaves=True)
    change = Change(
        resource=resource,
        action=Action.DELETE,
        observed=observed,
        leaves=True,
        reason="it has left the spec",
    )
    return _priced(change)
