"""A directory: its mode and owner. Never its content. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Change, Observed, Present, Resource, Unknown
from builder.resources.stat import Entry, parse_stat, stat_script
from builder.resources.steps import Run, Step


@dataclass(frozen=True, kw_only=True)
class Directory(Resource):
    """A directory that must exist. `name` is its path. Deleting it spares one that is not empty."""

    kind: ClassVar[str] = "directory"

    mode: str = "0755"
    owner: str = "root"
    group: str = "root"

    def attributes(self) -> Mapping[str, object]:
        return {"type": "directory", "mode": self.mode, "owner": self.owner, "group": self.group}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        return stat_script(directory.name for directory in wanted)

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        found = parse_stat(output)
        return {directory.name: _observed(found.get(directory.name)) for directory in wanted}

    def steps(self, change: Change) -> Sequence[Step]:
        # Five digits: with fewer, install leaves a setgid bit that is there.
        ownership = ("-m", self.mode.zfill(5), "-o", self.owner, "-g", self.group)
        return (Run(argv=("install", "-d", *ownership, "--", self.name)),)

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)

    def removal(self) -> Sequence[Step]:
        return (Run(argv=("rmdir", "--ignore-fail-on-non-empty", "--", self.name)),)

    def is_gone(self, observed: Present) -> bool:
        return True  # it was not empty


def _observed(entry: Entry | Observed | None) -> Observed:
    if entry is None:
        return Unknown("stat said nothing about it")
    if not isinstance(entry, Entry):
        return entry
    return Present(
        attributes={
            "type": entry.type,
            "mode": entry.mode,
            "owner": entry.owner,
            "group": entry.group,
        }
    )
