"""Looking at many paths with one `stat` and one `sha256sum`. Pure; shared by file and directory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder.resources.base import Absent, Unknown, quoted

_LINE = re.compile(
    r"\A(?P<mode>[0-7]+) (?P<owner>\S+) (?P<group>\S+) (?P<type>[^/]+) (?P<path>/.*)\Z"
)
_GONE = re.compile(r"\Astat: .*'(?P<path>/[^']*)': (?P<reason>.+)\Z")
_NOT_THERE = frozenset({"No such file or directory", "Not a directory"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One path: `mode` as four octal digits, `type` in the words of stat(1)."""

    mode: str
    owner: str
    group: str
    type: str


def stat_script(paths: Iterable[str]) -> str:
    """Shell that prints one line per path, found or not."""
    return f"stat -c '%a %U %G %F %n' -- {quoted(paths)} 2>&1"


def parse_stat(output: str) -> Mapping[str, Entry | Absent | Unknown]:
    """Path → what stat said. Only the kernel's own «no such file» counts as absent."""
    found: dict[str, Entry | Absent | Unknown] = {}
    for line in output.splitlines():
        if match := _LINE.match(line):
            found[match["path"]] = Entry(
                mode=match["mode"].zfill(4),
                owner=match["owner"],
                group=match["group"],
                type=match["type"].replace("regular empty file", "regular file"),
            )
        elif match := _GONE.match(line):
            gone = match["reason"] in _NOT_THERE
            found[match["path"]] = Absent() if gone else Unknown(match["reason"])
    return found
