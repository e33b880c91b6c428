"""A file: its content, mode and owner. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown, quoted
from builder.resources.stat import Entry, parse_stat, stat_script
from builder.resources.steps import Put, Run, Step

_SUM = re.compile(r"\A(?P<sum>[0-9a-f]{64})  (?P<path>/.*)\Z")
_TEXT_LIMIT_BYTES = 65536


@dataclass(frozen=True, kw_only=True)
class File(Resource):
    """A file we write. `name` is its path.

    `check` is the program that will read it, asked before the file takes its place (`{}` is the new
    file). `sensitive` keeps the content out of every plan; `masked` is then what `render` shows.
    """

    kind: ClassVar[str] = "file"

    content: bytes = field(default=b"", repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    check: tuple[str, ...] = ()
    sensitive: bool = False
    masked: str | None = field(default=None, repr=False)

    def attributes(self) -> Mapping[str, object]:
        return {
            "content": hashlib.sha256(self.content).hexdigest(),
            "mode": self.mode,
            "owner": self.owner,
            "group": self.group,
        }

    def hides(self, attribute: str) -> bool:
        return attribute == "content" and self.sensitive

    def text(self) -> str | None:
        return None if self.sensitive else self.content.decode("utf-8", "replace")

    def text_probe(self) -> str:
        return f"head -c {_TEXT_LIMIT_BYTES} -- {quoted([self.name])} 2>/dev/null"

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        paths = [file.name for file in wanted]
        sums = f"sha256sum -- {quoted(paths)} 2>/dev/null"
        return f"{stat_script(paths)}\n{sums}"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        entries = parse_stat(output)
        lines = output.splitlines()
        sums = {match["path"]: match["sum"] for line in lines if (match := _SUM.match(line))}
        return {file.name: file._observed(entries.get(file.name), sums) for file in wanted}

    def _observed(
        self, entry: Entry | Absent | Unknown | None, sums: Mapping[str, str]
    ) -> Observed:
        if entry is None:
            return Unknown("stat said nothing about it")
        if not isinstance(entry, Entry):
            return entry
        content = (
            sums.get(self.name, "(unreadable)") if entry.type == "regular file" else entry.type
        )
        return Present(
            attributes={
                "content": content,
                "mode": entry.mode,
                "owner": entry.owner,
                "group": entry.group,
            }
        )

    def steps(self, change: Change) -> Sequence[Step]:
        if isinstance(change.observed, Present) and not change.changes("content"):
            path = self.name
            return (
                Run(argv=("chown", f"{self.owner}:{self.group}", "--", path)),
                Run(argv=("chmod", self.mode, "--", path)),
            )
        return (
            Put(
                path=self.name,
                content=self.content,
                mode=self.mode,
                owner=self.owner,
                group=self.group,
                check=self.check,
            ),
        )

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, sensitive=True)

    def removal(self) -> Sequence[Step]:
        return (Run(argv=("rm", "-f", "--", self.name)),)
