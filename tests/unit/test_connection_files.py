"""The files of clients on this machine: what is in them, whose they are, and when they go."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from builder.cli.main import main
from builder.connection_files import home_of, remove_connection_files, write_connection_files
from builder.errors import PghaError, SecretsError
from builder.workspace import Workspace

SPEC = """
name: orders
machines: {{provider: existing}}
hosts:
  one: {{address: 10.0.0.11, roles: [etcd, patroni, haproxy]}}
postgresql: {{users: {users}}}
haproxy: {{primary_port: 6432, replica_port: 6433}}
"""
NAMES = ("ca.crt", "pgpass")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to somebody else")


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Workspace]:
    def make(*users: str) -> Workspace:
        text = SPEC.format(users=[{"name": user} for user in users])
        (tmp_path / "cluster.yml").write_text(text)
        return Workspace.open(tmp_path / "cluster.yml")

    return make


@pytest.fixture
def applied(opened: Callable[..., Workspace]) -> Workspace:
    """Its secrets are kept, and clients have their files."""
    workspace = opened("app")
    workspace.keep_secrets()
    write_connection_files(workspace)
    return workspace


def contents(home: Path) -> dict[str, bytes]:
    return {name: (home / name).read_bytes() for name in NAMES}


# ── what is in them ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("words", [["connect"], ["connect", "--json"], ["psql"]])
def test_without_the_secrets_file_nothing_that_clients_use_is_replaced(
    words: list[str], applied: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(home_of(applied))
    applied.store.path.unlink()
    assert main([words[0], "-f", str(applied.spec.path), *words[1:]]) == 1
    said = capsys.readouterr().err
    assert f"{applied.store.path} is not there" in said
    assert "from your copy" in said
    assert contents(home_of(applied)) == before


def test_a_secrets_file_without_the_authority_is_refused_too(
    opened: Callable[..., Workspace],
) -> None:
    workspace = opened("app")
    workspace.store.password("user-app")
    workspace.store.save()
    with pytest.raises(SecretsError, match="holds no CA"):
        write_connection_files(opened("app"))
    assert not home_of(workspace).exists()


def test_a_user_gets_a_line_once_the_password_is_kept(
    applied: Workspace, opened: Callable[..., Workspace]
) -> None:
    added = opened("app", "late")
    assert added.desired  # as whoever applies, or plans
    write_connection_files(added)
    passwords = home_of(added) / "pgpass"
    password = applied.store.password("user-app").reveal()
    assert passwords.read_text() == f"*:*:*:app:{password}\n"
    added.keep_secrets()
    write_connection_files(added)
    assert f":late:{added.store.password('user-late').reveal()}\n" in passwords.read_text()


def test_a_replaced_password_is_written(applied: Workspace) -> None:
    def change(content: Any) -> Any:
        return {**content, "passwords": {**content["passwords"], "user-app": "replaced12"}}

    applied.store.rotate(change)
    write_connection_files(applied)
    assert (home_of(applied) / "pgpass").read_text() == "*:*:*:app:replaced12\n"


# ── how they are written ────────────────────────────────────────────────────────────────────────
def test_nobody_else_reads_the_passwords(applied: Workspace) -> None:
    modes = [(home_of(applied) / name).stat().st_mode & 0o777 for name in NAMES]
    assert modes == [0o644, 0o600]
    assert home_of(applied).stat().st_mode & 0o777 == 0o700


def test_several_processes_at_once_do_not_disturb_each_other(applied: Workspace) -> None:
    before = contents(home_of(applied))
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda _: write_connection_files(applied), range(200)))
    assert contents(home_of(applied)) == before
    assert sorted(file.name for file in home_of(applied).iterdir()) == sorted(NAMES)


def test_a_folder_that_cannot_be_written_is_an_error_with_its_name(
    opened: Callable[..., Workspace],
) -> None:
    workspace = opened("app")
    workspace.keep_secrets()
    home_of(workspace).parent.write_text("in the way")
    with pytest.raises(PghaError, match=f"{home_of(workspace)} cannot be written: Not a dir"):
        write_connection_files(workspace)


@needs_root
def test_under_sudo_they_belong_to_whom_the_secrets_belong(
    opened: Callable[..., Workspace],
) -> None:
    workspace = opened("app")
    workspace.keep_secrets()
    os.chown(workspace.store.path, 65534, 65533)
    write_connection_files(workspace)
    home = home_of(workspace)
    owners = [path.stat() for path in (home.parent, home, *home.iterdir())]
    assert {(status.st_uid, status.st_gid) for status in owners} == {(65534, 65533)}


@needs_root
def test_under_sudo_a_file_stays_whose_it_is(applied: Workspace) -> None:
    os.chown(home_of(applied) / "pgpass", 65534, 65533)
    write_connection_files(applied)
    owners = [(home_of(applied) / name).stat().st_uid for name in NAMES]
    assert owners == [0, 65534]


# ── a cluster that is gone ──────────────────────────────────────────────────────────────────────
def test_the_files_of_a_cluster_that_is_gone_go_and_those_of_another_stay(tmp_path: Path) -> None:
    gone, other = tmp_path / ".pgha" / "orders", tmp_path / ".pgha" / "shop"
    for home in (gone, other):
        home.mkdir(parents=True)
        for name in ("ca.crt", "pgpass", "pg_service.conf"):
            (home / name).touch()
    (gone / ".pgpass.k3j9x2").touch()  # of a process that was killed
    remove_connection_files(gone)
    assert not gone.exists()
    assert len(list(other.iterdir())) == 3
    remove_connection_files(other)
    assert not (tmp_path / ".pgha").exists()
    remove_connection_files(other)


def test_what_somebody_else_put_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    (tmp_path / "pgpass").touch()
    remove_connection_files(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
