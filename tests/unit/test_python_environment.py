"""Programs from PyPI: what is found, what is asked of pip, and what a lock does to it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder import lockfile, registry
from builder.engine.desired import desired, refuse_strays
from builder.engine.diff import difference
from builder.errors import PlanError
from builder.resources.base import Absent, Action, Present
from builder.resources.package import Locked
from builder.resources.python_environment import PREFIX, PythonEnvironment
from builder.resources.steps import Shell
from tests.unit.conftest import NOW

SHA, OTHER = "ab" * 32, "cd" * 32
WANTED = PythonEnvironment(hosts=("a",), name="/opt/x", requirements=("patroni[etcd3]==4.1.5",))
LOCKED = replace(
    WANTED,
    locked={
        "patroni": Locked(version="4.1.5", sha256=SHA),
        "python-dateutil": Locked(version="2.9.0.post0", sha256=OTHER),
    },
)


def seen(environment: PythonEnvironment) -> Any:
    """What its probe finds, carried out for real."""
    script = PythonEnvironment.probe([environment])
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return PythonEnvironment.parse([environment], said.stdout)[environment.name]


def made(environment: PythonEnvironment) -> Shell:
    (step,) = environment.steps(difference(environment, Absent(), None))
    assert isinstance(step, Shell)
    return step


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An environment that holds two packages, and the remains of a third."""
    folder = tmp_path / "environment"
    interpreter = tmp_path / "python3.13"
    interpreter.write_text("#!/bin/sh\n")
    interpreter.chmod(0o755)
    packages = folder / "lib" / interpreter.name / "site-packages"
    for name in ("patroni-4.1.4", "python_dateutil-2.9.0.post0"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
        (packages / f"{name}.dist-info" / "RECORD").touch()
    (packages / "psycopg-3.2.dist-info").mkdir()
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(interpreter)
    return folder


def test_another_version_is_an_update_and_the_same_is_nothing(there: Path) -> None:
    assert isinstance(seen(replace(WANTED, name=str(there / "nothing"))), Absent)
    here = replace(LOCKED, name=str(there))
    found = seen(here)
    assert found == Present(attributes={"patroni": "4.1.4", "python-dateutil": "2.9.0.post0"})
    change = difference(here, found, None)
    assert change.action is Action.UPDATE
    assert [(c.name, c.before, c.after) for c in change.attributes] == [
        ("patroni", "4.1.4", "4.1.5")
    ]


def test_one_whose_interpreter_the_host_has_replaced_is_absent(there: Path) -> None:
    old = (there / "bin" / "python").readlink()
    old.rename(old.with_name("python3.14"))
    assert isinstance(seen(replace(WANTED, name=str(there))), Absent)


def test_with_a_lock_pip_gets_a_checksum_for_everything_and_nothing_else() -> None:
    step = made(LOCKED)
    assert "-r /dev/stdin" in step.script
    assert "patroni[etcd3]" not in step.script
    assert step.stdin.decode().splitlines() == [
        f"patroni==4.1.5 --hash=sha256:{SHA}",
        f"python-dateutil==2.9.0.post0 --hash=sha256:{OTHER}",
    ]


def test_out_of_a_bundle_it_asks_no_index() -> None:
    step = made(replace(LOCKED, bundled=True, index="https://example.org/simple"))
    assert "--no-index" in step.script
    assert "example.org" not in step.script
    assert step.stdin == b""


def test_its_scripts_parse() -> None:
    for environment in (WANTED, LOCKED, replace(WANTED, index="https://example.org/a b")):
        for script in (
            made(environment).script,
            environment.locking(newest=True),
            environment.locking(newest=False),
            environment.collecting("wheels"),
        ):
            done = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
            assert done.returncode == 0, script


def environment(world: Any, host: str, **by_host: dict[str, Locked]) -> PythonEnvironment:
    """A database host's, with a lock. Raises PlanError where that is refused."""
    ten = world("ten")
    lock = {name: {PREFIX + n: e for n, e in found.items()} for name, found in by_host.items()}
    for entries in lock.values():
        entries["curl"] = Locked(version="8", sha256=SHA)
    found = desired(ten.spec, registry.roles(), ten.secrets, NOW, locked=lock).resources
    own = [r for r in found if isinstance(r, PythonEnvironment) and r.hosts == (host,)]
    refuse_strays(own, lock)
    return own[0]


PATRONI = Locked(version="4.1.5", sha256=SHA)


def test_what_the_lock_has_in_another_version_is_refused_until_it_is_locked_anew(
    world: Any,
) -> None:
    assert environment(world, "p1", p1={"patroni": PATRONI}).locked
    for wrong in ({"patroni": replace(PATRONI, version="4.1.4")}, {}):
        with pytest.raises(PlanError, match=r"cluster\.lock\.yml locks .*p1/python_environment"):
            environment(world, "p1", p1=wrong)


def test_a_host_that_the_lock_does_not_know_gets_what_all_others_have_or_nothing(
    world: Any,
) -> None:
    alike = {"patroni": PATRONI, "psutil": Locked(version="7.1.0", sha256=OTHER)}
    assert environment(world, "p3", p1=alike, p2=alike).locked == alike
    with pytest.raises(PlanError, match=r"locks patroni not at all, .*p3/python_environment"):
        environment(world, "p3", p1=alike, p2={"patroni": PATRONI})
    with pytest.raises(PlanError, match="locks patroni not at all"):
        environment(world, "p3", e1={})


def test_what_pip_says_is_locked() -> None:
    said = f"package {PREFIX}patroni 4.1.5 {SHA}\npackage {PREFIX}psutil 7.1.0 {OTHER}\n"
    assert lockfile.answer("a", said) == {
        "pypi/patroni": Locked(version="4.1.5", sha256=SHA),
        "pypi/psutil": Locked(version="7.1.0", sha256=OTHER),
    }


@pytest.mark.parametrize("newest", [True, False])
def test_locking_asks_pip_for_what_is_there_but_the_version_that_is_wanted(
    tmp_path: Path, newest: bool
) -> None:
    """Carried out, with a pip that writes down what it is asked."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(
        f"""#!/bin/sh
case "$*" in
  *'pip list'*) printf 'patroni==4.1.4\\nurllib3==2.0\\n' ;;
  *'pip -q install'*)
    echo "$*" >{tmp_path}/asked
    while [ $# -gt 0 ]; do case $1 in -c) cat "$2" >{tmp_path}/known ;; esac; shift; done ;;
  *'import pip'*) ;;
  *) echo 'package pypi/patroni 4.1.5 {SHA}' ;;
esac
"""
    )
    python.chmod(0o755)
    script = replace(WANTED, name=str(folder)).locking(newest=newest)
    said = subprocess.run(
        ["dash", "-c", f"set -e\n{script}"], capture_output=True, text=True, check=False
    )
    assert said.stdout == f"package pypi/patroni 4.1.5 {SHA}\n", said.stderr
    assert "patroni[etcd3]==4.1.5" in (tmp_path / "asked").read_text()
    assert (tmp_path / "known").read_text() == ("" if newest else "urllib3==2.0\n")
