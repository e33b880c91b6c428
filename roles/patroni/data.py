"""The directory that holds the rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Observed, Present, quoted
from builder.resources.directory import Directory

_MARK = "@database "


@dataclass(frozen=True)
class Filled(Present):
    """A database is in it."""


@dataclass(frozen=True, kw_only=True)
class DataDirectory(Directory):
    """A kind of its own, so that the role's guard sees when the spec turns its back on the data."""

    kind: ClassVar[str] = "data_directory"

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        names = quoted(directory.name for directory in wanted)
        filled = f'for d in {names}; do [ ! -e "$d/PG_VERSION" ] || echo "{_MARK}$d"; done'
        return f"{super().probe(wanted)}\n{filled}"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        lines = output.splitlines()
        filled = {line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)}
        found = super().parse(wanted, output)
        return {name: _observed(said, filled=name in filled) for name, said in found.items()}


def _observed(said: Observed, *, filled: bool) -> Observed:
    if filled and isinstance(said, Present):
        return Filled(attributes=said.attributes)
    return said
