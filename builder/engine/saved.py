"""A saved plan: what was agreed to, to be applied exactly or not at all.

It holds no desired state and no secret: the plan is made again under the lock, and must have the
same fingerprint, so neither the spec nor the hosts can have moved on in between.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.engine.plan import Plan
from builder.errors import PlanError, StalePlanError

_FORMAT = "pgha-build plan 1"


@dataclass(frozen=True, kw_only=True)
class SavedPlan:
    """The cluster it is for, what was narrowed down to, and what the changes amount to."""

    cluster: str
    only: tuple[str, ...]
    fingerprint: str


def save(path: Path, plan: Plan, only: Sequence[str]) -> None:
    record = {
        "format": _FORMAT,
        "cluster": plan.cluster,
        "only": list(only),
        "fingerprint": plan.fingerprint(),
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file, indent=2)
        file.write("\n")


def load(path: Path) -> SavedPlan:
    """Raises PlanError for what is not a plan."""
    try:
        record = json.loads(path.read_text())
        if record["format"] != _FORMAT:
            raise ValueError(record["format"])
        return SavedPlan(
            cluster=record["cluster"],
            only=tuple(record["only"]),
            fingerprint=record["fingerprint"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanError(
            f"{path} is not a saved plan: {error}", do="Make one: pgha-build plan --out FILE."
        ) from error


def refuse_stale(saved: SavedPlan, plan: Plan) -> None:
    if (saved.cluster, saved.fingerprint) != (plan.cluster, plan.fingerprint()):
        raise StalePlanError(
            "the saved plan no longer holds",
            why="The spec, the secrets or a host has changed since it was made.",
            do="Make a new one with `pgha-build plan --out FILE`, and read it.",
        )
