"""A difference in words, for a person: in a plan, and where an apply did not come about. Pure."""

from __future__ import annotations

from builder.resources.base import AttributeChange, Resource, Value, shown
from builder.security.secret import MASK

_DIGEST_LENGTH = 64


def told(resource: Resource, item: AttributeChange) -> str:
    """One attribute's difference for a person; no secret is in it."""
    if resource.hides(item.name):
        return f"{item.name}: {MASK}"
    if _is_digest(item.after):
        return f"{item.name} differs"
    return f"{item.name}: {_value(item.before)} → {_value(item.after)}"


def _is_digest(value: Value) -> bool:
    return isinstance(value, str) and len(value) == _DIGEST_LENGTH and value.isalnum()


def _value(value: Value) -> str:
    value = shown(value)
    if value is None:
        return "(none)"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "(empty)"
    return str(value)
