"""cluster.lock.yml and pins: what is asked for them, what is in them, what comes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder import lockfile, registry
from builder.engine.desired import desired, refuse_idle_pins, refuse_strays
from builder.errors import PghaError, PlanError
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


def test_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cluster.lock.yml"
    path.write_bytes(b"version: 1 # \xff")
    with pytest.raises(PghaError, match=f"{path} is damaged"):
        lockfile.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(PghaError, match=f"{path} cannot be read: Is a directory"):
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


def locked_whole(seven: Any) -> dict[str, dict[str, Locked]]:
    """A lock as `pgha-build lock` writes it, of every host."""
    lock: dict[str, dict[str, Locked]] = {host: {} for host in seven.spec.hosts}
    for package in (r for r in seven.resources if isinstance(r, Package)):
        lock[package.hosts[0]][package.name] = Locked(version="1.0-1", sha256=SHA)
    return lock


def packages(seven: Any, lock: Any, host: str) -> dict[str, tuple[str | None, str]]:
    """Version and checksum of what a host installs. Raises PlanError where that is refused."""
    found = desired(seven.spec, registry.roles(), seven.secrets, NOW, locked=lock).resources
    refuse_strays(found, lock)
    here = [item for item in found if isinstance(item, Package) and item.hosts == (host,)]
    return {item.name: (item.version, item.sha256) for item in here}


def test_a_host_that_the_lock_does_not_know_gets_what_all_others_have(seven: Any) -> None:
    lock = locked_whole(seven)
    del lock["pg2"]
    there = packages(seven, lock, "pg2")
    assert there.keys() == packages(seven, lock, "pg1").keys()
    assert set(there.values()) == {("1.0-1", SHA)}


def test_what_is_not_locked_is_not_installed(seven: Any) -> None:
    lock = locked_whole(seven)
    del lock["pg1"]["patroni"], lock["pg2"]["patroni"]
    with pytest.raises(
        PlanError, match=r"lock patroni on pg1; patroni on pg2\n(.|\n)*pgha-build lock "
    ):
        packages(seven, lock, "pg1")
    assert packages(seven, {}, "pg1")["patroni"] == (None, "")


@pytest.mark.parametrize(("version", "sha256"), [("1.1-1", SHA), ("1.0-1", "cd" * 32)])
def test_where_neighbours_differ_none_is_taken_as_an_example(
    seven: Any, version: str, sha256: str
) -> None:
    lock = locked_whole(seven)
    lock["etcd1"]["etcd-server"] = Locked(version=version, sha256=sha256)
    del lock["etcd3"]["etcd-server"]
    with pytest.raises(PlanError, match="does not lock etcd-server on etcd3"):
        packages(seven, lock, "etcd3")


def test_what_is_pinned_need_not_be_locked(seven: Any) -> None:
    lock = locked_whole(seven)
    del lock["pg1"]["patroni"], lock["pg2"]["patroni"]
    pinned = replace(seven, spec=_pinning(seven, {"patroni": "4.0*"}))
    assert packages(pinned, lock, "pg1")["patroni"] == ("4.0*", "")


def _pinning(seven: Any, versions: dict[str, str]) -> Any:
    packages = {**seven.spec.sections["packages"], "versions": versions}
    return replace(seven.spec, sections={**seven.spec.sections, "packages": packages})


def test_a_pin_of_no_package_is_refused_with_the_nearest_name(seven: Any) -> None:
    resources = desired(seven.spec, registry.roles(), seven.secrets, NOW).resources
    refuse_idle_pins(["haproxy"], resources)
    with pytest.raises(PlanError) as refused:
        refuse_idle_pins(["postgresql17", "haproxy"], resources)
    assert refused.value.what.endswith("needs a package postgresql17")
    assert refused.value.do.startswith("Did you mean postgresql-17? There are: chrony, curl, ")
    with pytest.raises(PlanError) as refused:
        refuse_idle_pins(["zzz"], resources)
    assert refused.value.do.startswith("There are: chrony, ")


def test_the_files_are_compared_before_anything_is_installed() -> None:
    package = Package(hosts=("a",), name="etcd-server", version="3.5.16-4", sha256=SHA)
    change = Change(resource=package, action=Action.CREATE, observed=Absent())
    (step,) = package.steps(change)
    script = str(step)
    assert f"etcd-server=3.5.16-4 {SHA}" in script
    assert script.index("cluster.lock.yml says") < script.index("--allow-downgrades")
    plain = Package(hosts=("a",), name="etcd-server")
    assert "cluster.lock.yml" not in str(plain.steps(change))
