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

BUNDLE = "/var/lib/pgha-build/bundle"
_BUNDLED = (
    f"-o Dir::Etc::sourcelist={BUNDLE}/sources.list -o Dir::Etc::sourceparts=- "
    f"-o Dir::State::lists={BUNDLE}/lists -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "
    "-o APT::Sandbox::User=root"
)
_SAME_FILES = """\
differs() {{
  for f in {files}; do
    s=$(apt-cache show "${{f% *}}" 2>/dev/null | sed -n 's/^SHA256: //p' | head -n 1)
    [ "$s" = "${{f#* }}" ] || {{ echo "${{f% *}}: its sources have ${{s:-no such version}},"
      echo "and cluster.lock.yml says ${{f#* }}"; return 0; }}
  done
  return 1
}}
if differs >/dev/null; then apt-get -q update >/dev/null; differs && exit 1; fi
"""

# What was there before us stays when it leaves the spec.
_OURS = "/var/lib/pgha-build/packages"
_MISSING = """\
new=$(for n in {names}; do
  case $(dpkg-query -W -f '${{db:Status-Status}}' "$n" 2>/dev/null) in
    installed) ;;
    *) echo "$n" ;;
  esac
done)
"""
_NOTED = """
for n in $new; do grep -sqxF "$n" {ours} || echo "$n" >>{ours}; done
"""
_REMOVE = """\
ours=$(for n in {names}; do ! grep -sqxF "$n" {ours} || echo "$n"; done)
needs() {{
  apt-get -s -q remove "$@" | awk '$1 == "Remv" {{ print $2 }}' | while read -r p; do
    printf '%s\\n' "$ours" | grep -qxF "$p" || echo "$p"
  done
}}
set --
for n in $ours; do
  other=$(needs "$n")
  [ -z "$other" ] || {{ echo "$n stays: needed by" $other; continue; }}
  set -- "$@" "$n"
done
if [ $# -gt 0 ] && other=$(needs "$@") && [ -n "$other" ]; then
  echo "$* stay: needed by" $other; set --
fi
[ $# = 0 ] || {apt} remove "$@"
for n; do {{ grep -vxF "$n" {ours} || :; }} >{ours}.new; mv {ours}.new {ours}; done
"""


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
    """Install from the lists at hand; only where those are too old, fetch new ones first."""
    requirements = quoted(package._requirement for package in packages)
    apt, get = (f"{_APT} {_BUNDLED}", f"apt-get {_BUNDLED}") if packages[0].bundled else (_APT, "")
    install = f"{apt} install --no-install-recommends --allow-downgrades {requirements}"
    script = f"{install} || {{ {get or 'apt-get'} -q update && {install}; }}"
    missing = _MISSING.format(names=quoted(package.name for package in packages))
    noted = _NOTED.format(ours=_OURS)
    if get:
        script = f"{get} -q update >/dev/null && {install}"
    elif locked := [package for package in packages if package.sha256]:
        files = quoted(f"{p.name}={p.version} {p.sha256}" for p in locked)
        script = f"{_SAME_FILES.format(files=files)}\n{script}"
    return (Shell(script=f"{missing}{script}{noted}", timeout_seconds=1800),)


def _remove(names: Sequence[str]) -> Sequence[Step]:
    """Those that we installed and that nothing else needs; apt would take the others along."""
    script = _REMOVE.format(names=quoted(names), ours=_OURS, apt=_APT)
    return (Shell(script=script, timeout_seconds=600),)
