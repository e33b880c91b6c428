"""A condition that the run waits for: quorum, a leader, a replica that streams. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Change, Observed, Resource
from builder.resources.steps import Await, Step


@dataclass(frozen=True, kw_only=True)
class Gate(Resource):
    """Nothing that needs a gate starts before its `condition` (shell, exit status 0) holds.

    A gate is passed silently unless something before it changes, or something behind it is not as
    wanted. `what` completes the sentence «waiting until …»; the condition prints why not yet.
    `units` are looked at when it never comes. The times are those of `Await`.
    """

    kind: ClassVar[str] = "gate"
    observed_in_plan: ClassVar[bool] = False

    what: str
    condition: str
    timeout_seconds: int = 120
    longest_seconds: int = 0
    units: tuple[str, ...] = ()

    def attributes(self) -> Mapping[str, object]:
        return {}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        return ""

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        return {}

    def steps(self, change: Change) -> Sequence[Step]:
        return (
            Await(
                what=self.what,
                condition=self.condition,
                timeout_seconds=self.timeout_seconds,
                longest_seconds=self.longest_seconds,
            ),
        )

    def diagnose(self) -> str:
        return journal(self.units)


def journal(units: Sequence[str]) -> str:
    """Shell that prints each unit's state and its last telling lines."""
    return "\n".join(
        f"echo '{unit}: '\"$(systemctl show -P ActiveState {unit}), "
        f'$(systemctl show -P SubState {unit})"; '
        f"journalctl -u {unit} -n 200 -o cat --no-pager 2>/dev/null"
        " | grep -iE 'error|fatal|panic|fail|denied|refused|invalid|cannot|unable|mismatch|alert'"
        " | tail -n 8"
        for unit in units
    )
