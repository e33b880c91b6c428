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
    `settled_by` names a path: once that
    exists, the content counts no more, for whoever reads the file has read it once and for all
    (etcd's bootstrap settings, after its data directory exists).
    """

    kind: ClassVar[str] = "file"

    content: bytes = field(default=b"", repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    check: tuple[str, ...] = ()
    sensitive: bool = False
    masked: str | None = field(default=None, repr=False)
    settled_by: str | None = None

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
        settled = [
            f"[ -e {quoted([file.settled_by])} ] && echo settled {quoted([file.name])}"
            for file in wanted
            if file.settled_by
        ]
        sums = f"sha256sum -- {quoted(paths)} 2>/dev/null"
        return "\n".join([stat_script(paths), sums, *settled])

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        entries = parse_stat(output)
        lines = output.splitlines()
        sums = {match["path"]: match["sum"] for line in lines if (match := _SUM.match(line))}
        settled = {line.removeprefix("settled ") for line in lines if line.startswith("settled ")}
        return {
            file.name: file._observed(entries.get(file.name), sums, file.name in settled)
            for file in wanted
        }

    def _observed(
        self, entry: Entry | Absent | Unknown | None, sums: Mapping[str, str], settled: bool
    ) -> Observed:
        if entry is None:
            return Unknown("stat said nothing about it")
        if not isinstance(entry, Entry):
            return entry
        content = (
            sums.get(self.name, "(unreadable)") if entry.type == "regular file" else entry.type
        )
        if settled:
            content = str(self.attributes()["content"])
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
