"""cluster.lock.yml: the exact versions of packages, by host, each with the checksum of its file.

With it, a host that is set up in a year gets what its neighbours have. `packages: versions` in
cluster.yml goes before it; `pgha-build lock` writes it, and nothing else does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from builder import debian
from builder.errors import PghaError
from builder.resources.package import Lock, Locked
from builder.resources.python_environment import PREFIX, PythonEnvironment

VERSION = 1
_HEAD = """\
# Written by pgha-build lock: exact versions of packages, by host, and the SHA-256 of each file.
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(rf"({PREFIX})?[a-z0-9][a-z0-9+.-]+")
_RELEASE = re.compile(r"([0-9]+:)?[0-9][A-Za-z0-9.+~-]*")


def beside(spec_path: Path) -> Path:
    return spec_path.with_name(f"{spec_path.stem}.lock.yml")


def read(path: Path) -> Lock:
    """Empty where there is no such file. Raises PghaError for one that is damaged or unreadable."""
    try:
        document = yaml.safe_load(path.read_text())
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']}")
        return {
            str(host): {str(name): _locked(str(name), entry) for name, entry in packages.items()}
            for host, packages in document["hosts"].items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PghaError(
            f"{path} cannot be read: {error.strerror}",
            why="It says which versions of packages the hosts get.",
            do="Let yourself read it, or bring it back from version control.",
        ) from None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise PghaError(
            f"{path} is damaged: {str(error).splitlines()[0]}",
            do="Bring it back from version control, or write it anew: pgha-build lock",
        ) from None


def _locked(name: str, entry: Mapping[str, str]) -> Locked:
    found = Locked(version=entry["version"], sha256=entry["sha256"])
    for pattern, text in (
        (_NAME, name),
        (_RELEASE, found.version),
        (_SHA256, found.sha256),
    ):
        if not pattern.fullmatch(text):
            raise ValueError(f"{name}: {text!r}")
    return found


def dump(lock: Lock) -> str:
    hosts = {
        host: {name: {"version": e.version, "sha256": e.sha256} for name, e in packages.items()}
        for host, packages in lock.items()
    }
    return _HEAD + yaml.safe_dump({"version": VERSION, "hosts": hosts}, sort_keys=False, width=200)


def write(path: Path, lock: Lock) -> None:
    """All or nothing."""
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as file:
        file.write(dump(lock))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def question(
    names: Sequence[str], environments: Sequence[PythonEnvironment], *, newest: bool
) -> str:
    """Shell: what is installed (or the newest, or what would be installed) and its checksum."""
    packages = debian.to_lock(names, newest=newest)
    others = (f"({item.locking(newest=newest)}) || exit 1\n" for item in environments)
    return f"{packages}{''.join(others)}"


def answer(host: str, output: str) -> Mapping[str, Locked]:
    """Raises PghaError for a package that no source of the host has in that version."""
    found = {}
    for line in output.splitlines():
        word, *rest = line.split(" ")
        if word != "package" or len(rest) != 3:
            continue
        name, version, sha256 = rest
        if "none" in {version, sha256}:
            what = name if version == "none" else f"{name} {version}"
            raise PghaError(
                f"{host}: no source has {what}",
                why="What cannot be fetched again cannot be locked.",
                do="pgha-build lock --update locks what the sources have now.",
            )
        found[name] = Locked(version=version, sha256=sha256)
    return found
