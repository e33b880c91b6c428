"""A marked block of lines inside a file that others own (/etc/hosts). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown, quoted
from builder.resources.steps import Shell, Step

_BEGIN = "# BEGIN pgha-build: managed, do not edit"
_END = "# END pgha-build"


@dataclass(frozen=True, kw_only=True)
class Block(Resource):
    """Lines between our markers in the file `name`; every other line of it stays untouched."""

    kind: ClassVar[str] = "block"

    content: str = field(default="")

    def attributes(self) -> Mapping[str, object]:
        return {"content": hashlib.sha256(self.content.encode()).hexdigest()}

    def text(self) -> str | None:
        return self.content

    def text_probe(self) -> str:
        return _between(self.name)

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """grep says 1 where the file has no such line; a file that cannot be read is unknown."""
        return "\n".join(block._probe() for block in wanted)

    def _probe(self) -> str:
        path, absent = quoted([self.name]), f"echo absent - {quoted([self.name])}"
        return (
            f"if [ ! -e {path} ]; then {absent}; else "
            f"grep -qxF {quoted([_BEGIN])} {path} 2>/dev/null; case $? in "
            f'0) echo "$({_between(self.name)} | sha256sum)" {path};; 1) {absent};; esac; fi'
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        rows = (line.split(maxsplit=2) for line in output.splitlines())
        found = {row[2]: row[0] for row in rows if len(row) == 3}
        return {block.name: _observed(found.get(block.name)) for block in wanted}

    def steps(self, change: Change) -> Sequence[Step]:
        return (Shell(script=self._rewrite("cat"), stdin=self._lines().encode()),)

    def _lines(self) -> str:
        return f"{_BEGIN}\n{self.content}{_END}\n"

    def _rewrite(self, addition: str) -> str:
        """The file without our block, then what `addition` prints; in place of the old one."""
        path, new = quoted([self.name]), quoted([self.name + ".pgha-new"])
        keep = f"sed -e '/^{_BEGIN}$/,/^{_END}$/d' -e '$a\\' {path}"  # with a last line's end
        ours = f"grep -qxF {quoted([_BEGIN])} {path} && ! grep -qxF {quoted([_END])} {path}"
        torn = (
            f'"{self.name} has our first line, {_BEGIN}, and not our last, {_END}: mend it by hand"'
        )
        return (
            f"[ -e {path} ] || : >{path}; if {ours}; then echo {torn} >&2; exit 1; fi\n"
            f"cp -p {path} {new} && "
            f"{{ {keep}; {addition}; }} >{new} && sync {new} && mv -fT {new} {path}"
        )

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)

    def removal(self) -> Sequence[Step]:
        return (Shell(script=self._rewrite(":")),)


def _between(path: str) -> str:
    return f"sed -n '/^{_BEGIN}$/,/^{_END}$/{{/^{_BEGIN}$/d;/^{_END}$/d;p}}' {quoted([path])}"


def _observed(content: str | None) -> Observed:
    if content is None:
        return Unknown("the probe said nothing about it")
    return Absent() if content == "absent" else Present(attributes={"content": content})
