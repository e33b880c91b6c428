"""A kernel parameter's live value. What makes it last over a reboot is a file of the role. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Change, Observed, Present, Resource, quoted
from builder.resources.steps import Shell, Step


@dataclass(frozen=True, kw_only=True)
class Sysctl(Resource):
    """`name` is the dotted key. Where a host cannot set it (a container), the plan warns."""

    kind: ClassVar[str] = "sysctl"

    value: str

    def attributes(self) -> Mapping[str, object]:
        return {"value": self.value}

    @property
    def _path(self) -> str:
        return "/proc/sys/" + self.name.replace(".", "/")

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """grep, because the kernel gives a value only to a reader that takes it at once.

        It says 2 where a key does not exist; beyond that it did not run.
        """
        paths = quoted(sysctl._path for sysctl in wanted)
        writable = f"for f in {paths}; do [ -w $f ] && echo writable $f; done"
        return f"grep -H '' -- {paths} 2>/dev/null; s=$?; {writable}; [ $s -gt 2 ] || echo looked"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        lines = output.splitlines()
        if "looked" not in lines:
            return {}
        values = {path: value for path, _, value in (line.partition(":") for line in lines)}
        writable = {line[len("writable ") :] for line in lines if line.startswith("writable ")}
        return {
            sysctl.name: sysctl._observed(values.get(sysctl._path, ""), sysctl._path in writable)
            for sysctl in wanted
        }

    def _observed(self, raw: str, writable: bool) -> Observed:
        value = " ".join(raw.split())
        if writable or value == self.value:
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
