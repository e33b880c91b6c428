"""A plan that would leave clients without any balancer is refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from builder.errors import PlanError
from builder.resources.base import Action, Change, Present
from builder.spec.model import ClusterSpec
from roles.keepalived.desired import UNIT
from roles.keepalived.settings import NAME


def guard(spec: ClusterSpec, changes: Mapping[str, Change]) -> None:
    """Who leaves stops before a new host is told anything. Raises PlanError."""
    units = [c for c in changes.values() if c.resource.kind == "unit" and c.resource.name == UNIT]
    leaving = [c.resource.hosts[0] for c in units if c.action is Action.DELETE]
    stays = any(c.action is not Action.DELETE and isinstance(c.observed, Present) for c in units)
    if leaving and spec.with_role(NAME) and not stays:
        raise PlanError(
            f"every balancer would leave at once: {', '.join(leaving)}",
            why="They would be stopped before a new one has its packages, and nobody would hold "
            "the virtual IP. A host that cannot be looked at does not count.",
            do=f"Let {leaving[0]} stay beside the new ones, apply, and take it out after that.",
        )
