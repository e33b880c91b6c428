"""Packages for hosts that reach no repository: collected where there is one, and carried over.

The file is a tar archive of `manifest.json` and one tar archive per operating system, with every
package that the cluster needs there and all that those need, from an empty system on; so it does
not matter what a host has already. Checksums of all are in the manifest, and are compared before
anything is changed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from builder import debian
from builder.engine.script import in_place
from builder.errors import PghaError
from builder.resources.package import Locked
from builder.resources.python_environment import PREFIX, PythonEnvironment
from builder.transport.base import Connection

VERSION = 2
_MANIFEST = "manifest.json"
_CHUNK = 6 * 1024 * 1024  # bytes, per script: some of it in memory here and there
_COLLECT_SECONDS = 1800
_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class System:
    """The packages of one operating system: where in the bundle, and what they must be.

    `packages` are those that the cluster asks for by name; of what comes from PyPI no checksum is
    kept, for some of it is built on the host that collects it.
    """

    member: str
    sha256: str
    size: int
    packages: Mapping[str, Locked]


class Bundle:
    """A bundle's file, opened: its systems by name (`debian-13-amd64`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with tarfile.open(path) as archive:
                document = json.load(_member(archive, _MANIFEST))
                if document["version"] != VERSION:
                    raise ValueError(f"version {document['version']}")
                self.systems = {n: System(**_checked(s)) for n, s in document["systems"].items()}
                for system in self.systems.values():
                    with _member(archive, system.member) as stream:
                        _same(stream, system)
        except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
            raise PghaError(
                f"{path} is no bundle that could be used: {error}",
                do="Make one with pgha-build bundle, and copy it whole.",
            ) from None

    def chunks(self, system: System) -> Iterable[bytes]:
        with tarfile.open(self.path) as archive, _member(archive, system.member) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk


def _checked(record: Mapping[str, Any]) -> Mapping[str, Any]:
    packages = {name: Locked(**entry) for name, entry in record["packages"].items()}
    return {**record, "packages": packages}


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file in it")
    return found


def _same(stream: IO[bytes], system: System) -> None:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    if digest.hexdigest() != system.sha256:
        raise ValueError(f"{system.member} is damaged")


# ── collecting ──────────────────────────────────────────────────────────────────────────────────
def system_of(connection: Connection) -> str:
    return connection.run(in_place("", debian.SYSTEM), timeout_seconds=30).stdout.strip()


def collect(
    connection: Connection,
    packages: Sequence[str],
    environments: Sequence[PythonEnvironment],
    into: IO[bytes],
) -> tuple[str, int, Mapping[str, Locked]]:
    """Have a host that reaches its sources fetch `packages` with all that they need.

    What comes from PyPI is fetched by the environments that the host has. Returns the checksum and
    the size of the archive that was written `into`, and all that is in it.
    """
    wheels = "\n".join(item.collecting("wheels") for item in environments)
    script = debian.collect(packages, wheels, PREFIX)
    said = connection.run(in_place(connection.host, script), timeout_seconds=_COLLECT_SECONDS)
    last = said.stdout.splitlines()[-1:] or [""]
    word, *rest = last[0].split()
    if said.status or word != "collected":
        raise PghaError(
            f"{connection.host} could not fetch all packages: {said.stderr.strip()[-400:]}",
            why="A bundle is collected by a host that reaches its repositories.",
            do="pgha-build check says what apt does not know.",
        )
    sha256, size = rest[0], int(rest[1])
    digest = hashlib.sha256()
    for number in range(-(-size // _CHUNK)):
        part = f"dd if=/var/tmp/pgha-bundle/all.tar bs={_CHUNK} skip={number} count=1 2>/dev/null"
        text = connection.run(in_place("", f"{part} | base64 -w0"), timeout_seconds=_SECONDS).stdout
        chunk = base64.b64decode(text)
        digest.update(chunk)
        into.write(chunk)
    connection.run(in_place("", "rm -rf /var/tmp/pgha-bundle"), timeout_seconds=_SECONDS)
    if digest.hexdigest() != sha256:
        raise PghaError(f"{connection.host}: what arrived is not what was collected")
    lines = (line.split() for line in said.stdout.splitlines())
    held = {
        w[1]: Locked(version=w[2], sha256=w[3]) for w in lines if len(w) == 4 and w[0] == "holds"
    }
    return sha256, size, held


def write(path: Path, systems: Mapping[str, tuple[System, Path]]) -> None:
    """Put the archives of all systems into one file; all or nothing."""
    new = path.with_name(f".{path.name}.new")
    document = {
        "version": VERSION,
        "systems": {
            name: {
                "member": system.member,
                "sha256": system.sha256,
                "size": system.size,
                "packages": {name: vars(entry) for name, entry in system.packages.items()},
            }
            for name, (system, _) in systems.items()
        },
    }
    head = json.dumps(document, indent=1).encode()
    with tarfile.open(new, "w") as archive:
        info = tarfile.TarInfo(_MANIFEST)
        info.size = len(head)
        archive.addfile(info, io.BytesIO(head))
        for system, file in systems.values():
            archive.add(file, arcname=system.member)
    new.replace(path)


# ── carrying over ───────────────────────────────────────────────────────────────────────────────
def bring(
    connection: Connection,
    bundle: Bundle,
    needed: Mapping[str, Locked],
    tell: Callable[[str], None],
) -> None:
    """Put a host's packages on it, unless they are there. Raises PghaError before any change."""
    system = _fitting(connection, bundle, needed)
    there = f"cat {debian.BUNDLE}/sha256 2>/dev/null || :"
    if connection.run(in_place("", there), timeout_seconds=30).stdout.strip() == system.sha256:
        return
    _run(connection, f"mkdir -p -m 755 {debian.BUNDLE} && : >{debian.BUNDLE}/new.tar")
    sent = 0
    for chunk in bundle.chunks(system):
        text = base64.b64encode(chunk).decode()
        _run(connection, f"base64 -d >>{debian.BUNDLE}/new.tar <<'PGHA_CHUNK'\n{text}\nPGHA_CHUNK")
        sent += len(chunk)
        tell(f"packages, {100 * sent // system.size} %")
    _run(connection, debian.unpack(system.sha256))


def _fitting(connection: Connection, bundle: Bundle, needed: Mapping[str, Locked]) -> System:
    """The bundle's part for a host. Raises PghaError where it is not what the host needs."""
    name = system_of(connection)
    system = bundle.systems.get(name)
    if system is None:
        known = ", ".join(bundle.systems)
        raise PghaError(
            f"{connection.host} runs {name}, and {bundle.path} holds packages for {known}",
            do="Make a bundle with a host of that system.",
        )
    if missing := sorted(set(needed) - set(system.packages)):
        raise PghaError(
            f"{bundle.path} lacks {', '.join(missing)}, which {connection.host} needs",
            do="cluster.yml has changed since: make the bundle anew.",
        )
    others = [
        f"{name} {found.version}"
        for name, wanted in needed.items()
        if not _fits(wanted, found := system.packages[name])
    ]
    if others:
        raise PghaError(
            f"{bundle.path} holds {', '.join(others)}, and {connection.host} is to have others",
            why="What cluster.yml or cluster.lock.yml pins has changed since.",
            do="Make the bundle anew.",
        )
    return system


def _fits(wanted: Locked, found: Locked) -> bool:
    """An empty version is any; an empty checksum is any of that version."""
    version = not wanted.version or fnmatchcase(found.version, wanted.version)
    return version and (not wanted.sha256 or found.sha256 in {wanted.sha256, "-"})


def _run(connection: Connection, script: str) -> None:
    said = connection.run(in_place(connection.host, script), timeout_seconds=_SECONDS)
    if said.status:
        raise PghaError(f"{connection.host}: {said.stderr.strip() or said.stdout.strip()}")
