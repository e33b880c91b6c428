"""Our own nftables table, live in the kernel. Its file and boot unit are the role's. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown, quoted
from builder.resources.steps import Run, Shell, Step

_LOADED = "/var/lib/pgha-build/nftables-{}.loaded"


@dataclass(frozen=True, kw_only=True)
class NftablesTable(Resource):
    """Table `inet NAME`, loaded from `path`, which replaces the whole table in one transaction.

    The kernel prints a table in words of its own, so what it printed right after loading is
    digested and kept: a later listing that digests to something else was changed by hand. It is
    listed in numbers, for names (vrrp) depend on whether /etc/protocols is there yet.
    """

    kind: ClassVar[str] = "nftables"

    path: str
    rules: str = field(default="", repr=False)

    def attributes(self) -> Mapping[str, object]:
        return {"ruleset": hashlib.sha256(self.rules.encode()).hexdigest(), "live": "as loaded"}

    @property
    def _listing(self) -> str:
        return f"nft -ns list table inet {quoted([self.name])}"

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        return "\n".join(table._probe() for table in wanted)

    def _probe(self) -> str:
        loaded = _LOADED.format(self.name)
        return (
            f"if ! command -v nft >/dev/null; then echo {self.name} absent; "
            f'elif l=$({self._listing} 2>&1); then set -- $(printf %s "$l" | sha256sum); s=$1; '
            f"r=; o=; {{ read -r r o <{loaded}; }} 2>/dev/null; "
            f'echo {self.name} present "${{r:-none}}" "${{o:-none}}" $s; '
            f"else case $l in *'No such file'*) echo {self.name} absent;; "
            f"*) echo {self.name} unknown $l;; esac; fi"
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        rows = {line.split(" ")[0]: line.split(" ")[1:] for line in output.splitlines() if line}
        return {table.name: _observed(rows.get(table.name, [])) for table in wanted}

    def steps(self, change: Change) -> Sequence[Step]:
        digest = self.attributes()["ruleset"]
        remember = (
            f'l=$({self._listing}) && set -- $(printf %s "$l" | sha256sum) && '
            f"mkdir -p /var/lib/pgha-build && echo {digest} $1 >{_LOADED.format(self.name)}"
        )
        return (Run(argv=("nft", "-f", self.path)), Shell(script=remember))

    def recall(self) -> Mapping[str, str]:
        return {"path": self.path}

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, path=recalled.get("path", ""))

    def removal(self) -> Sequence[Step]:
        loaded = _LOADED.format(self.name)
        table = f"table inet {quoted([self.name])}"
        gone = f"! nft list {table} >/dev/null 2>&1 || nft delete {table}; rm -f {loaded}"
        return (Shell(script=gone),)


def _observed(row: Sequence[str]) -> Observed:
    if row and row[0] == "absent":
        return Absent()
    if len(row) == 4 and row[0] == "present":
        _, ruleset, loaded, live = row
        as_loaded = "as loaded" if loaded == live else "changed by hand"
        return Present(attributes={"ruleset": ruleset, "live": as_loaded})
    return Unknown(" ".join(row[1:]) or "nft said nothing")
