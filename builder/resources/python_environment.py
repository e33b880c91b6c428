"""A virtual environment with programs from a Python package index. Pure.

It is made with the host's own python3 and shares no package with it. Programs are brought up to
date in place, as apt does it; what runs goes on with the old code until it is restarted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.debian import BUNDLE
from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown, quoted
from builder.resources.package import Locked
from builder.resources.steps import Shell, Step

PREFIX = "pypi/"  # of its packages' names in cluster.lock.yml
WHEELS = f"{BUNDLE}/packages/wheels"
# The authorities that the host itself trusts, a company's own among them; pip brings others along.
TRUST = "c=/etc/ssl/certs/ca-certificates.crt; [ ! -e $c ] || export PIP_CERT=$c\n"
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[a-z0-9,]+\])?==(\S+)")
_SECONDS = 900


@dataclass(frozen=True, kw_only=True)
class PythonEnvironment(Resource):
    """`name` is its folder; `requirements` are as pip takes them, each with its exact version.

    `locked` are all packages in it, with the checksum of each one's file; nothing else is then
    installed. `index` is where they come from, PyPI itself if empty. `bundled`: from the wheels
    that were carried to the host, and from nowhere else.
    """

    kind: ClassVar[str] = "python_environment"

    requirements: tuple[str, ...]
    index: str = ""
    locked: Mapping[str, Locked] | None = None
    bundled: bool = False

    def attributes(self) -> Mapping[str, object]:
        """Each wanted package's version, by its name."""
        locked = {name: entry.version for name, entry in (self.locked or {}).items()}
        return self._pinned | locked

    @property
    def _pinned(self) -> dict[str, str]:
        found = (_REQUIREMENT.fullmatch(item) for item in self.requirements)
        return {plain(match[1]): match[3] for match in found if match}

    def strays(self) -> Sequence[str]:
        """Requirements that the lock has in another version."""
        if self.locked is None:
            return []
        found = {name: entry.version for name, entry in self.locked.items()}
        return [
            f"{name} {found.get(name, 'not at all')}, not {version}"
            for name, version in self._pinned.items()
            if found.get(name) != version
        ]

    # ── how to look ─────────────────────────────────────────────────────────────────────────────
    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """What its interpreter would find: an upgrade of the host's python3 leaves it with none."""
        return f"for d in {quoted(item.name for item in wanted)}; do\n{_PROBE}done"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        versions: dict[str, dict[str, str]] = {}
        looked = set()
        for line in output.splitlines():
            word, _, rest = line.partition(" ")
            folder, _, what = rest.partition(" ")
            if word == "environment":
                looked.add(folder)
            elif word == "holds" and what:
                name, _, version = what.removesuffix(".dist-info").partition("-")
                versions.setdefault(folder, {})[plain(name)] = version
        return {
            item.name: item._observed(versions.get(item.name, {}))
            if item.name in looked
            else Unknown("the probe said nothing about it")
            for item in wanted
        }

    def _observed(self, versions: Mapping[str, str]) -> Observed:
        if not versions:
            return Absent()
        return Present(attributes={name: versions.get(name) for name in self.attributes()})

    # ── what to do ──────────────────────────────────────────────────────────────────────────────
    def steps(self, change: Change) -> Sequence[Step]:
        """Another interpreter than the host's is no use; else what is there stays, and is updated.

        With checksums, pip itself refuses whatever is not among them (its --require-hashes).
        """
        folder, install = quoted([self.name]), f"{self.name}/bin/python -m pip -q install"
        options = f"--no-index --find-links {WHEELS}" if self.bundled else self._from_index
        return (
            Shell(
                script=f"{TRUST}set -e; umask 022\n{_MAKE.format(folder=folder)}"
                f"{quoted(install.split())} --disable-pip-version-check --no-input {options} "
                f"--upgrade {self.what}",
                stdin=self.requirements_file.encode(),
                timeout_seconds=_SECONDS,
            ),
        )

    @property
    def _from_index(self) -> str:
        return f"--index-url {quoted([self.index])}" if self.index else ""

    @property
    def what(self) -> str:
        """pip's words; `requirements_file` is then its stdin."""
        return "-r /dev/stdin" if self._with_checksums else quoted(self.requirements)

    @property
    def _with_checksums(self) -> bool:
        return bool(self.locked) and not self.bundled  # a bundle's file has its own

    @property
    def requirements_file(self) -> str:
        """Every package with the checksum that its file must have; empty without a lock."""
        if not self._with_checksums:
            return ""
        return "".join(
            f"{name}=={entry.version} --hash=sha256:{entry.sha256}\n"
            for name, entry in sorted((self.locked or {}).items())
        )

    # ── elsewhere than in a plan ────────────────────────────────────────────────────────────────
    def locking(self, *, newest: bool) -> str:
        """Shell that prints all that belongs in it, each as `package NAME VERSION SHA256`."""
        pinned = "|".join(map(re.escape, self._pinned))
        known = (
            f'"$d/bin/python" -m pip list --format=freeze | grep -viE "^({pinned})==" >"$t/known"'
        )
        known = ":" if newest else f"{known} || :"
        return _LOCK.format(
            trust=TRUST,
            folder=quoted([self.name]),
            known=known,
            index=self._from_index,
            wanted=quoted(self.requirements),
            print=quoted([_PRINT.format(prefix=PREFIX)]),
        )

    @property
    def carried(self) -> Mapping[str, Locked]:
        """What a bundle must hold for it."""
        return {
            f"{PREFIX}{name}": Locked(version=str(version), sha256="")
            for name, version in self.attributes().items()
        }

    def collecting(self, into: str) -> str:
        """Shell that fetches all of it as wheels, built where there are none, with its own pip."""
        pip = f"{quoted([self.name])}/bin/python -m pip -q wheel --disable-pip-version-check"
        text = self.requirements_file
        return (
            f"{TRUST}{pip} --no-input {self._from_index} -w {into} {self.what} >&2 "
            f"<<'PGHA_WHEELS'\n{text}PGHA_WHEELS\n"
        )

    # ── when it has left the spec ───────────────────────────────────────────────────────────────
    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, requirements=())

    def removal(self) -> Sequence[Step]:
        return (Shell(script=f"rm -rf --one-file-system -- {quoted([self.name])}"),)


_PROBE = """\
  v=$(readlink -f "$d/bin/python")
  [ $? -lt 126 ] || continue
  echo "environment $d"
  [ -x "$v" ] || continue
  for f in "$d/lib/${v##*/}/site-packages"/*.dist-info; do
    [ ! -e "$f/RECORD" ] || echo "holds $d ${f##*/}"
  done
"""
_MAKE = """\
d={folder}
"$d/bin/python" -c 'import pip' 2>/dev/null ||
  {{ rm -rf --one-file-system "$d"; mkdir -p "${{d%/*}}"; python3 -m venv "$d"; }}
"""
# With pip's own answer to what it would install (its installation report, version 1).
_LOCK = """\
{trust}t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
d={folder}
"$d/bin/python" -c 'import pip' 2>/dev/null || {{ d=$t/new; python3 -m venv "$d" >&2 || exit 1; }}
: >"$t/known"
[ "$d" = "$t/new" ] || {known}
ask() {{
  "$d/bin/python" -m pip -q install --disable-pip-version-check --no-input --dry-run \\
    --ignore-installed --report "$t/report" {index} "$@" {wanted} >&2
}}
ask -c "$t/known" || ask || exit 1
"$d/bin/python" -c {print} "$t/report"
"""
_PRINT = """\
import json, re, sys
for item in json.load(open(sys.argv[1]))["install"]:
    name = re.sub("[-_.]+", "-", item["metadata"]["name"]).lower()
    digests = item["download_info"]["archive_info"].get("hashes", {{}})
    print("package", "{prefix}" + name, item["metadata"]["version"], digests.get("sha256", "none"))
"""


def plain(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
