"""cluster.lock.yml: what is asked for it, what is in it, what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder import lockfile, registry
from builder.engine.desired import desired
from builder.errors import PghaError
from builder.resources.base import Absent, Action, Change
from builder.resources.package import Locked, Package
from tests.unit.conftest import NOW

SHA = "ab" * 32
LOCK = {"etcd1": {"etcd-server": Locked(version="3.5.16-4", sha256=SHA)}}


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = lockfile.beside(tmp_path / "cluster.yml")
    assert path.name == "cluster.lock.yml"
    assert lockfile.read(path) == {}
    lockfile.write(path, LOCK)
    assert lockfile.read(path) == LOCK
    assert path.read_text().startswith("# Written by pgha-build lock")
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "version: 2\nhosts: {}",
        "version: 1",
        "version: 1\nhosts: {a: {etcd: {version: 1}}}",
        'version: 1\nhosts: {a: {etcd: {version: "1; reboot", sha256: "' + SHA + '"}}}',
        'version: 1\nhosts: {a: {"-o x": {version: "1", sha256: "' + SHA + '"}}}',
        'version: 1\nhosts: {a: {etcd: {version: "1", sha256: "$(reboot)"}}}',
        "{",
    ],
)
def test_a_damaged_one_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cluster.lock.yml"
    path.write_text(text)
    with pytest.raises(PghaError, match="is damaged"):
        lockfile.read(path)


def test_what_hosts_answer_is_locked_and_what_cannot_be_fetched_again_is_not() -> None:
    said = f"Get:1 something\npackage etcd-server 3.5.16-4 {SHA}\n"
    assert lockfile.answer("etcd1", said) == LOCK["etcd1"]
    with pytest.raises(PghaError, match="etcd1: no source has etcd-server 3"):
        lockfile.answer("etcd1", "package etcd-server 3.5.16-4 none\n")
    with pytest.raises(PghaError, match="etcd1: no source has etcd-server"):
        lockfile.answer("etcd1", "package etcd-server none none\n")


def test_a_pin_goes_before_the_lock_and_an_update_before_both(seven: Any) -> None:
    def version(**more: Any) -> tuple[str | None, str]:
        found = desired(seven.spec, registry.roles(), seven.secrets, NOW, **more)
        package = next(r for r in found.resources if r.address == "etcd1/package:etcd-server")
        assert isinstance(package, Package)
        return package.version, package.sha256

    assert version() == (None, "")
    assert version(locked=LOCK) == ("3.5.16-4", SHA)
    newer = {"etcd1": {"etcd-server": "3.5.17"}}
    assert version(locked=LOCK, versions=newer) == ("3.5.17", "")


def test_the_files_are_compared_before_anything_is_installed() -> None:
    package = Package(hosts=("a",), name="etcd-server", version="3.5.16-4", sha256=SHA)
    change = Change(resource=package, action=Action.CREATE, observed=Absent())
    (step,) = package.steps(change)
    script = str(step)
    assert f"etcd-server=3.5.16-4 {SHA}" in script
    assert script.index("cluster.lock.yml says") < script.index("--allow-downgrades")
    plain = Package(hosts=("a",), name="etcd-server")
    assert "cluster.lock.yml" not in str(plain.steps(change))
