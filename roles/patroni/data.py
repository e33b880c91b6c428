"""The directory that holds the rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Observed, Present, quoted
from builder.resources.directory import Directory

_MARK = "@database "
_UNDER_WAY = "@recovering"
# Who is to ask a new etcd first, while `ops recover-etcd` is under way (roles/patroni/recovery.py).
RECOVERING = "/var/lib/pgha-build/recovering-etcd"


@dataclass(frozen=True)
class Filled(Present):
    """A database is in it; `recovering`: nobody but `ops recover-etcd` may start its Patroni."""

    recovering: bool = False


@dataclass(frozen=True, kw_only=True)
class DataDirectory(Directory):
    """A kind of its own, so that the role's guard sees when the spec turns its back on the data."""

    kind: ClassVar[str] = "data_directory"

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        names = quoted(directory.name for directory in wanted)
        filled = f'for d in {names}; do [ ! -e "$d/PG_VERSION" ] || echo "{_MARK}$d"; done'
        under_way = f"[ ! -e {RECOVERING} ] || echo {_UNDER_WAY}"
        return f"{super().probe(wanted)}\n{filled}\n{under_way}"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        lines = output.splitlines()
        filled = {line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)}
        recovering = _UNDER_WAY in lines
        return {
            name: Filled(attributes=said.attributes, recovering=recovering)
            if name in filled and isinstance(said, Present)
            else said
            for name, said in super().parse(wanted, output).items()
        }
