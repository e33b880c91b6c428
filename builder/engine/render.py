"""A plan as text for a person, and as JSON for a program; both from the same structure. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.engine.plan import Plan
from builder.engine.words import told
from builder.expiry import first_to_end
from builder.resources.base import (
    Action,
    AttributeChange,
    Change,
    Impact,
    Present,
    Unknown,
    shown,
)
from builder.security.secret import MASK

_SYMBOLS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.DELETE: "-",
    Action.DECIDE: "?",
    Action.WAIT: ".",
}
_VERBS = {
    Action.CREATE: "will be created",
    Action.UPDATE: "will be updated",
    Action.DELETE: "will be removed",
    Action.DECIDE: "is decided when what it needs is done",
}
_COLOURS = {"+": "32", "~": "33", "-": "31", "?": "36", "!": "31"}


def text(plan: Plan, *, colour: bool = False) -> str:
    """The whole plan. Colour only repeats what a symbol says."""
    lines = list(_lines(plan))
    return "\n".join(_coloured(line) for line in lines) if colour else "\n".join(lines)


def _coloured(line: str) -> str:
    code = _COLOURS.get(line.lstrip()[:1])
    return f"\x1b[{code}m{line}\x1b[0m" if code else line


def _lines(plan: Plan) -> Iterator[str]:
    for host, why in plan.unreachable.items():
        yield f"! {host} cannot be looked at: {why}"
    drift = [change for change in plan.differences if change.drift]
    wanted = [change for change in plan.differences if not change.drift]
    if drift:
        yield "Changed by others since the last apply (drift):"
        yield ""
        for change in drift:
            yield from _change(change)
    if wanted:
        yield "Changes:" if drift else f"pgha-build will change {plan.cluster}:"
        yield ""
        for change in wanted:
            yield from _change(change)
    yield from _blocked(plan)
    for note, hosts in plan.notes.items():
        yield f"Note: {note} ({', '.join(hosts)})"
    if words := first_to_end(plan.days_left):
        yield f"Certificates: {words}."
    if plan.promises and plan.differences:
        yield "Outage at worst: " + ", ".join(plan.promises) + "."
    yield summary(plan)


def _change(change: Change) -> Iterator[str]:
    head = f"  {_SYMBOLS[change.action]} {change.address} {_VERBS[change.action]}"
    why = _why(change)
    impact = f"   [{change.impact}]" if change.impact else ""
    yield head + (f": {why}" if why else "") + impact
    if change.action is not Action.CREATE or change.drift:
        for item in change.attributes:
            yield from _attribute(change, item)
    yield from (f"        {line}" for line in change.diff)


def _why(change: Change) -> str:
    if change.triggered and change.action is Action.UPDATE:
        act = "restarts" if change.trigger >= Impact.RESTART else "reloads"
        causes = ", ".join(address.partition("/")[2] for address in change.triggered[:3])
        more = len(change.triggered) - 3
        return f"{act} for {causes}" + (f" and {more} more" if more > 0 else "")
    if isinstance(change.observed, Unknown) and change.action is Action.DECIDE:
        return change.observed.reason
    return change.reason


def _attribute(change: Change, item: AttributeChange) -> Iterator[str]:
    if change.diff and item.name == "content":
        return
    yield f"        {told(change.resource, item)}"


def _blocked(plan: Plan) -> Iterator[str]:
    for address, cause in plan.blocked.items():
        if address == cause:
            change = plan.changes[address]
            if not any(host not in plan.unreachable for host in change.resource.hosts):
                continue
            yield f"  ! {address} is unknown: {change.reason}"
        elif plan.changes[address].resource.observed_in_plan:
            yield f"  ! {address} waits for {cause}"


def summary(plan: Plan) -> str:
    """The last line: counts, impact, and what stays as it is."""
    counts = {action: 0 for action in (Action.CREATE, Action.UPDATE, Action.DELETE, Action.DECIDE)}
    for change in plan.differences:
        counts[change.action] += 1
    unchanged = sum(change.action is Action.NONE for change in plan.changes.values())
    if not plan.differences:
        if plan.exit_code:
            return f"Incomplete: {len(plan.blocked)} unknown. {unchanged} unchanged."
        return f"No changes: {plan.cluster} is as its spec wants it. {unchanged} unchanged."
    words = {Action.CREATE: "create", Action.UPDATE: "update", Action.DELETE: "delete"}
    parts = [f"{counts[action]} to {word}" for action, word in words.items()]
    if counts[Action.DECIDE]:
        parts.append(f"{counts[Action.DECIDE]} to decide")
    cost = impact(plan.differences) + _pause(plan)
    return f"Plan: {', '.join(parts)}. Impact: {cost}. {unchanged} unchanged."


def _pause(plan: Plan) -> str:
    """How long writes pause at worst, where the lead has to move."""
    bound = next((p for p in plan.promises if p.startswith("switchover ")), "")
    if plan.impact is not Impact.SWITCHOVER or not bound:
        return ""
    return f" (writes pause {bound.removeprefix('switchover ')} at worst)"


def impact(changes: Sequence[Change]) -> str:
    """`reload of haproxy on lb1, lb2`, strongest first; `none`."""
    where: dict[tuple[Impact, str], list[str]] = {}
    for change in changes:
        if change.impact:
            name = change.resource.name.removesuffix(".service")
            where.setdefault((change.impact, name), []).append(change.resource.hosts[0])
    rows = sorted(where.items(), key=lambda row: (-row[0][0], row[0][1]))
    return "; ".join(f"{i} of {name} on {', '.join(hosts)}" for (i, name), hosts in rows) or "none"


def document(plan: Plan) -> Mapping[str, Any]:
    """The plan for a program. Its shape is an interface."""
    return {
        "cluster": plan.cluster,
        "fingerprint": plan.fingerprint(),
        "changes": [_record(change) for change in plan.differences],
        "unchanged": sum(change.action is Action.NONE for change in plan.changes.values()),
        "unreachable": dict(plan.unreachable),
        "blocked": dict(plan.blocked),
        "notes": {note: list(hosts) for note, hosts in plan.notes.items()},
        "certificates": plan.days_left,
        "impact": str(plan.impact),
        "outage_bounds": list(plan.promises),
        "exit_code": plan.exit_code,
    }


def _record(change: Change) -> Mapping[str, Any]:
    return {
        "address": change.address,
        "hosts": list(change.resource.hosts),
        "kind": change.resource.kind,
        "action": str(change.action),
        "drift": change.drift,
        "impact": str(change.impact),
        "triggered_by": list(change.triggered),
        "reason": _why(change),
        "attributes": {item.name: _pair(change, item) for item in change.attributes},
        "diff": list(change.diff),
        "before": "absent" if not isinstance(change.observed, Present) else "present",
    }


def _pair(change: Change, item: AttributeChange) -> Mapping[str, Any]:
    if change.resource.hides(item.name):
        return {"before": MASK, "after": MASK}
    return {"before": shown(item.before), "after": shown(item.after)}
