"""A Debian package. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Self

from builder import debian
from builder.resources.base import (
    Absent,
    Action,
    Change,
    Observed,
    Present,
    Resource,
    Unknown,
    Value,
)
from builder.resources.steps import Shell, Step


@dataclass(frozen=True, kw_only=True)
class Locked:
    """What cluster.lock.yml says of a package; `sha256` of its .deb, as its source's lists say."""

    version: str
    sha256: str


Lock = Mapping[str, Mapping[str, Locked]]  # by host, by package


@dataclass(frozen=True, kw_only=True)
class Package(Resource):
    """An installed package; `version` pins it to that one, or to those that begin so (`17.5*`).

    `sha256` of the .deb must then be what the sources' lists say, before anything is installed; apt
    holds the file that it fetches against those lists. `bundled`: from the packages that were
    carried to the host (`builder.bundle`), and from nowhere else.
    """

    kind: ClassVar[str] = "package"

    version: str | None = None
    sha256: str = ""
    bundled: bool = False

    def attributes(self) -> Mapping[str, object]:
        return {"version": self.version or "any"}

    @property
    def carried(self) -> Mapping[str, Locked]:
        """What a bundle must hold for it."""
        return {self.name: Locked(version=self.version or "", sha256=self.sha256)}

    def ages(self, attribute: str) -> bool:
        """What was applied may have been a pattern, or any version: the one there is no drift."""
        return attribute == "version"

    def differs(self, attribute: str, desired: Value, observed: Value) -> bool:
        return self.version is not None and not fnmatchcase(observed or "", self.version)

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        return debian.installed(package.name for package in wanted)

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        lines = [line.split() for line in output.splitlines()]
        if ["looked"] not in lines:
            return {package.name: Unknown("dpkg-query did not finish") for package in wanted}
        versions = {
            words[0].partition(":")[0]: words[2]
            for words in lines
            if len(words) == 3 and words[1] == "installed"
        }
        return {
            package.name: Present(attributes={"version": versions[package.name]})
            if package.name in versions
            else Absent()
            for package in wanted
        }

    def steps(self, change: Change) -> Sequence[Step]:
        return _install([self])

    @classmethod
    def merge(cls, changes: Sequence[Change]) -> Sequence[tuple[Sequence[Change], Sequence[Step]]]:
        """All in one transaction: apt resolves dependencies once, dpkg runs its triggers once."""
        added = [change for change in changes if change.action is not Action.DELETE]
        dropped = [change for change in changes if change.action is Action.DELETE]
        together: list[tuple[Sequence[Change], Sequence[Step]]] = []
        if added:
            wanted = [change.resource for change in added]
            together.append((added, _install([p for p in wanted if isinstance(p, cls)])))
        if dropped:
            together.append((dropped, _remove([change.resource.name for change in dropped])))
        return together

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)

    def removal(self) -> Sequence[Step]:
        return _remove([self.name])

    def is_gone(self, observed: Present) -> bool:
        """One that stays after its removal was here before, or others need it."""
        return True


def _install(packages: Sequence[Package]) -> Sequence[Step]:
    script = debian.install(
        {package.name: package.version for package in packages},
        {package.name: package.sha256 for package in packages if package.sha256},
        bundled=packages[0].bundled,
    )
    return (Shell(script=script, timeout_seconds=1800),)


def _remove(names: Sequence[str]) -> Sequence[Step]:
    return (Shell(script=debian.remove(names), timeout_seconds=600),)
