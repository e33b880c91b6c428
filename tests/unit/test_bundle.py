"""A bundle's file: what is refused, and what a host is asked and sent."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder import bundle, debian
from builder.bundle import Bundle, System
from builder.debian import BUNDLE
from builder.engine.desired import desired
from builder.errors import PghaError
from builder.registry import roles
from builder.resources.base import Absent, Action, Change
from builder.resources.package import Locked, Package
from builder.transport.base import Completed
from tests.unit.conftest import NOW

NAME = "debian-13-amd64"
ANY = {"etcd-server": Locked(version="", sha256="")}
CONTENT = b"all packages" * 1000


class Host:
    """A connection that knows its answers and keeps what it was sent."""

    host = "e1"

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.sent: list[str] = []

    def run(self, script: str, *, timeout_seconds: float, on_line: Any = None) -> Completed:
        self.sent.append(script)
        said = next((text for word, text in self.answers.items() if word in script), "")
        return Completed(status=0, stdout=said, stderr="", seconds=0)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    file = tmp_path / "packages"
    file.write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    packages = {
        name: Locked(version="3.5.16-4", sha256="ab") for name in ("etcd-client", "etcd-server")
    }
    system = System(member=f"{NAME}.tar", sha256=sha256, size=len(CONTENT), packages=packages)
    path = tmp_path / "all.bundle"
    bundle.write(path, {NAME: (system, file)})
    return path


def test_it_is_read_as_it_was_written(whole: Path) -> None:
    read = Bundle(whole)
    assert list(read.systems[NAME].packages) == ["etcd-client", "etcd-server"]
    assert b"".join(read.chunks(read.systems[NAME])) == CONTENT


def _with_manifest(path: Path, document: Any) -> None:
    with tarfile.open(path, "w") as archive:
        text = json.dumps(document).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))


@pytest.mark.parametrize(
    "document",
    [[], {}, {"version": 1, "systems": {}}, {"version": 2, "systems": {"a": {}}}],
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "odd"
    _with_manifest(path, document)
    with pytest.raises(PghaError, match="is no bundle that could be used"):
        Bundle(path)


@pytest.mark.parametrize("cut", [0, 100, 5000])
def test_a_bundle_that_was_cut_short_is_refused(whole: Path, cut: int) -> None:
    whole.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(PghaError, match="is no bundle that could be used"):
        Bundle(whole)


def test_a_host_of_another_system_is_told_so(whole: Path) -> None:
    host: Any = Host(**{"os-release": "ubuntu-24.04-amd64\n"})
    with pytest.raises(PghaError, match=f"runs ubuntu-24.04-amd64, and .* for {NAME}"):
        bundle.bring(host, Bundle(whole), ANY, print)
    assert len(host.sent) == 1, "nothing was changed"


@pytest.mark.parametrize(
    ("version", "sha256", "fits"),
    [("3.5.16-4", "ab", True), ("3.5*", "", True), ("3.6*", "", False), ("3.5.16-4", "cd", False)],
)
def test_what_the_lock_has_otherwise_is_refused_before_anything_is_sent(
    whole: Path, version: str, sha256: str, fits: bool
) -> None:
    host: Any = Host(**{"os-release": NAME})
    needed = {"etcd-server": Locked(version=version, sha256=sha256)}
    if fits:
        bundle.bring(host, Bundle(whole), needed, print)
        return
    with pytest.raises(PghaError, match=r"holds etcd-server 3\.5\.16-4, and e1 is to have others"):
        bundle.bring(host, Bundle(whole), needed, print)
    assert len(host.sent) == 1


def test_all_of_it_arrives_once(whole: Path) -> None:
    read = Bundle(whole)
    host: Any = Host(**{"os-release": NAME})
    told: list[str] = []
    bundle.bring(host, read, ANY, told.append)
    arrived = b"".join(
        base64.b64decode(script.split("PGHA_CHUNK'\n")[1].split("\n")[0])
        for script in host.sent
        if "PGHA_CHUNK" in script
    )
    assert arrived == CONTENT
    assert told[-1] == "packages, 100 %"
    there: Any = Host(**{"os-release": NAME, "/sha256": read.systems[NAME].sha256})
    bundle.bring(there, read, ANY, told.append)
    assert not [script for script in there.sent if "PGHA_CHUNK" in script]


def test_scripts_are_shell_that_parses() -> None:
    for script in (
        debian.collect(["a", "b"], "c", "p/"),
        debian.unpack("0" * 64),
        debian.SYSTEM,
    ):
        done = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
        assert done.returncode == 0


def test_packages_then_come_from_the_bundle_and_from_nowhere_else(seven: Any) -> None:
    found = desired(seven.spec, roles(), seven.secrets, NOW, bundled=True)
    packages = [resource for resource in found.resources if isinstance(resource, Package)]
    assert packages
    for package in packages:
        change = Change(resource=package, action=Action.CREATE, observed=Absent())
        (step,) = package.steps(change)
        assert str(step).count(f"sourcelist={BUNDLE}/sources.list") == 2
