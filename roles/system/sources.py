"""Repositories of packages, with their keys, beside those that the hosts have anyway. Pure."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from builder import debian
from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown
from builder.resources.file import File
from builder.resources.steps import Shell, Step
from builder.role import Context

_STAMP = "/var/lib/pgha-build/apt-lists"
_ANSWER = re.compile(r"lists ([0-9a-f]{16})?\n?")


@dataclass(frozen=True, kw_only=True)
class AptLists(Resource):
    """The lists of what the sources have, fetched since the sources were last changed.

    `sources` is a digest of them: apt itself installs from old lists without a word. `bundled`:
    packages are carried over, and the sources may be out of reach.
    """

    kind: ClassVar[str] = "apt_lists"

    sources: str = ""
    bundled: bool = False

    def attributes(self) -> Mapping[str, object]:
        return {"sources": self.sources}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        there = f"f={_STAMP}; [ -e $f ] || f=/dev/null"
        return f'{there}; s=$(cat $f) && echo "lists $s"'

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        answer = _ANSWER.fullmatch(output)
        found: Observed = Unknown("the probe said nothing about it")
        if answer:
            found = Present(attributes={"sources": answer[1]}) if answer[1] else Absent()
        return {item.name: found for item in wanted}

    def steps(self, change: Change) -> Sequence[Step]:
        fetch = ":" if self.bundled else debian.REFRESH_ALL
        script = f"rm -f {_STAMP}; {fetch} && printf %s {self.sources} >{_STAMP}"
        return (Shell(script=script, timeout_seconds=600),)

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)

    def removal(self) -> Sequence[Step]:
        """Without the sources, lists of them are of no use."""
        return (Shell(script=f"rm -f {_STAMP}; {debian.REFRESH}", timeout_seconds=600),)


def sources(ctx: Context) -> Iterable[Resource]:
    """A file per repository, its key in it; and the lists, which every package then needs."""
    here = (ctx.host.name,)
    wanted: Mapping[str, Mapping[str, Any]] = ctx.section("packages")["sources"]
    files = [
        File(
            hosts=here,
            name=f"/etc/apt/sources.list.d/pgha-{name}.sources",
            content=_text(source).encode(),
        )
        for name, source in sorted(wanted.items())
    ]
    if files:
        yield from files
        yield AptLists(
            hosts=here,
            name="apt",
            sources=hashlib.sha256(b"".join(file.content for file in files)).hexdigest()[:16],
            needs=tuple(file.address for file in files),
        )


def _text(source: Mapping[str, Any]) -> str:
    """A `.sources` file (sources.list(5), deb822); the key is in it since apt 2.3.10."""
    lines = {
        "Types": "deb",
        "URIs": source["url"],
        "Suites": source["suite"],
        "Components": "" if source["suite"].endswith("/") else " ".join(source["components"]),
        "Signed-By": "\n" + "".join(f" {line}\n" for line in _armour(source["key"])),
    }
    body = "".join(f"{key}: {value}".rstrip() + "\n" for key, value in lines.items() if value)
    return f"# Managed by pgha-build: changes here are drift.\n{body}"


def _armour(key: str) -> Iterable[str]:
    """A binary key as ASCII armour (RFC 9580, 6.2; its checksum is optional); `.` is empty."""
    yield "-----BEGIN PGP PUBLIC KEY BLOCK-----"
    yield "."
    yield from textwrap.wrap(key, 64)
    yield "-----END PGP PUBLIC KEY BLOCK-----"
