"""A Debian package. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Self

from builder.resources.base import (
    Absent,
    Action,
    Change,
    Observed,
    Present,
    Resource,
    Unknown,
    Value,
    quoted,
)
from builder.resources.steps import Shell, Step

_APT = (
    "apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef "
    "-o Dpkg::Options::=--force-confold"
)


@dataclass(frozen=True, kw_only=True)
class Package(Resource):
    """An installed package; `version` pins it to that one, or to those that begin so (`17.5*`)."""

    kind: ClassVar[str] = "package"

    version: str | None = None

    def attributes(self) -> Mapping[str, object]:
        return {"version": self.version or "any"}

    def ages(self, attribute: str) -> bool:
        """What was applied may have been a pattern, or any version: the one there is no drift."""
        return attribute == "version"

    def differs(self, attribute: str, desired: Value, observed: Value) -> bool:
        return self.version is not None and not fnmatchcase(observed or "", self.version)

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """dpkg-query says 1 for a package that it does not know, 2 where it could not look."""
        names = quoted(package.name for package in wanted)
        layout = "'${binary:Package} ${db:Status-Status} ${Version}\\n'"
        return f"dpkg-query -W -f {layout} -- {names} 2>&1; [ $? -gt 1 ] || echo looked"

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

    @property
    def _requirement(self) -> str:
        return f"{self.name}={self.version}" if self.version else self.name

    def steps(self, change: Change) -> Sequence[Step]:
        return _install([self._requirement])

    @classmethod
    def merge(cls, changes: Sequence[Change]) -> Sequence[tuple[Sequence[Change], Sequence[Step]]]:
        """All in one transaction: apt resolves dependencies once, dpkg runs its triggers once."""
        added = [change for change in changes if change.action is not Action.DELETE]
        dropped = [change for change in changes if change.action is Action.DELETE]
        together: list[tuple[Sequence[Change], Sequence[Step]]] = []
        if added:
            wanted = [change.resource for change in added]
            together.append(
                (added, _install([p._requirement for p in wanted if isinstance(p, cls)]))
            )
        if dropped:
            together.append((dropped, _remove([change.resource.name for change in dropped])))
        return together

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)

    def removal(self) -> Sequence[Step]:
        return _remove([self.name])


def _install(requirements: Sequence[str]) -> Sequence[Step]:
    """Install from the lists at hand; only where those are too old, fetch new ones first."""
    install = f"{_APT} install --no-install-recommends --allow-downgrades {quoted(requirements)}"
    script = f"{install} || {{ apt-get -q update && {install}; }}"
    return (Shell(script=script, timeout_seconds=1800),)


def _remove(names: Sequence[str]) -> Sequence[Step]:
    return (Shell(script=f"{_APT} remove {quoted(names)}", timeout_seconds=600),)
