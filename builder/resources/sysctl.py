"""A kernel parameter's live value. What makes it last over a reboot is a file of the role. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Change, Observed, Present, Resource, Unknown, quoted
from builder.resources.steps import Shell, Step


@dataclass(frozen=True, kw_only=True)
class Sysctl(Resource):
    """`name` is the dotted key. A host that cannot set it (a container) is warned of, not failed."""

    kind: ClassVar[str] = "sysctl"

    value: str

    def attributes(self) -> Mapping[str, object]:
        return {"value": self.value}

    @property
    def _path(self) -> str:
        return "/proc/sys/" + self.name.replace(".", "/")

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        paths = quoted(sysctl._path for sysctl in wanted)
        return (
            f"for f in {paths}; do v=; w=no; [ -w $f ] && w=yes; "
            '{ read -r v <$f; } 2>/dev/null; echo "$f $w $v"; done'
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        rows = (line.split(" ", 2) for line in output.splitlines())
        found = {row[0]: row for row in rows if len(row) == 3}
        return {sysctl.name: sysctl._observed(found.get(sysctl._path)) for sysctl in wanted}

    def _observed(self, row: Sequence[str] | None) -> Observed:
        if row is None:
            return Unknown("the probe said nothing about it")
        _, writable, raw = row
        value = " ".join(raw.split())
        if writable == "yes" or value == self.value:
            return Present(attributes={"value": value})
        there = f"stays {value}" if value else "does not exist"
        return Present(
            attributes={"value": self.value},
            note=f"{there}: this host cannot set it to {self.value}",
        )

    def steps(self, change: Change) -> Sequence[Step]:
        return (Shell(script=f"printf '%s\\n' {quoted([self.value])} >{quoted([self._path])}"),)

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, value="")
