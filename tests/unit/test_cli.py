"""The command as a person types it: words instead of tracebacks, and the exit status of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.cli.apply import apply
from builder.cli.main import main
from builder.connection_files import home_of
from builder.engine.manifest import Manifest
from builder.engine.observe import Look
from builder.errors import ConnectionLost
from builder.overview import status
from builder.resources.base import Present
from builder.transport.base import Connections, Endpoint
from builder.workspace import Workspace

SPEC = """
name: orders
machines: {provider: existing}
hosts:
  one: {address: 10.0.0.11, roles: [etcd, patroni, haproxy]}
postgresql: {users: [{name: app}]}
haproxy: {primary_port: 6432, replica_port: 6433}
"""
Said = tuple[int, str, str]


@pytest.fixture
def pgha(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Exit status, stdout and stderr of a command in a folder with a cluster.yml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yml").write_text(SPEC)

    def call(*words: str) -> Said:
        try:
            status: Any = main(words)
        except SystemExit as ended:
            status = ended.code
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


# ── exit status ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["plann"],
        ["--jsno", "plan"],
        ["plan", "--ony", "pg1"],
        ["apply", "--max-impact", "huge"],
        ["ops", "switchovr"],
        ["ops", "switchover", "--jsno"],
        ["state", "show"],
        ["lab", "cut", "pg1"],
        ["status", "--watch=-1"],
        ["status", "--watch", "0"],
        ["status", "--watch", "nan"],
        ["status", "--watch", "1e12"],
        ["status", "--watch", "often"],
    ],
)
def test_a_mistyped_command_is_an_error_and_no_difference(
    words: list[str], pgha: Callable[..., Said]
) -> None:
    status, out, err = pgha(*words)
    assert (status, out) == (1, "")
    assert "usage: pgha-build" in err
    assert "error: " in err


def test_help_is_no_error(pgha: Callable[..., Said]) -> None:
    status, out, _ = pgha("plan", "--help")
    assert status == 0
    assert "--only" in out


# ── files that are not there, or not what they should be ────────────────────────────────────────
def test_init_where_there_is_no_folder(pgha: Callable[..., Said]) -> None:
    status, _, err = pgha("init", "-f", "nodir/cluster.yml")
    assert (status, err) == (1, "nodir/cluster.yml: No such file or directory\n")


def test_init_where_a_folder_is_in_the_way(pgha: Callable[..., Said]) -> None:
    Path("taken").mkdir()
    status, _, err = pgha("init", "-f", "taken")
    assert status == 1
    assert "taken: this is not a file" in err
    assert Path("taken").is_dir()


def test_init_takes_away_only_what_it_wrote_itself(pgha: Callable[..., Said]) -> None:
    Path("mine.yml").write_text("name: -\n")
    assert pgha("init", "-f", "mine.yml")[0] == 1
    assert Path("mine.yml").exists()
    assert pgha("init", "-f", "new.yml", "--name", "Not A Name")[0] == 1
    assert not Path("new.yml").exists()


@pytest.mark.parametrize(
    ("words", "target", "why"),
    [
        (["plan", "--out"], "missing/p", "No such file or directory"),
        (["plan", "--out"], "folder", "Is a directory"),
        (["bundle", "-o"], "missing/dir/b.tar", "No such file or directory"),
        (["bundle", "-o"], "folder", "Is a directory"),
    ],
)
def test_a_result_that_could_not_be_written_is_refused_before_any_work(
    words: list[str], target: str, why: str, pgha: Callable[..., Said]
) -> None:
    Path("folder").mkdir()
    status, out, err = pgha(*words, target)
    assert (status, out, err) == (1, "", f"{target} cannot be written: {why}\n")


def test_that_look_leaves_nothing_and_changes_nothing(pgha: Callable[..., Said]) -> None:
    Path("old").write_text("of yesterday")
    before = set(Path().iterdir())
    for target in ("new", "old"):
        assert "cannot be written" not in pgha("bundle", "-f", "none.yml", "-o", target)[2]
    assert set(Path().iterdir()) == before
    assert Path("old").read_text() == "of yesterday"


def test_a_program_reads_such_an_error_too(pgha: Callable[..., Said]) -> None:
    status, out, _ = pgha("plan", "--json", "--out", "missing/p")
    assert status == 1
    assert json.loads(out)["error"] == "missing/p cannot be written: No such file or directory"


def test_a_reader_that_has_gone_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "cluster.yml").write_text(SPEC)
    end, start = os.pipe()
    os.close(end)
    command = [sys.executable, "-m", "builder", "render", "-f", str(tmp_path / "cluster.yml")]
    done = subprocess.run(command, stdout=start, stderr=subprocess.PIPE, text=True, check=False)
    os.close(start)
    assert (done.returncode, done.stderr) == (1, "")


# ── apply ───────────────────────────────────────────────────────────────────────────────────────
def test_a_saved_plan_is_not_narrowed(pgha: Callable[..., Said]) -> None:
    Path("p").write_text("{}")
    status, out, err = pgha("apply", "p", "--only", "one", "--yes")
    assert (status, out) == (1, "")
    assert "--only does not go with a saved plan" in err
    assert "plan --only" in err


class Silent:
    """A host that lets itself be locked, and on which nothing is to be done."""

    host, first_line, lost, reachable = "one", "ours", False, True

    def hold(self, script: str, *, timeout_seconds: float) -> Any:
        return self

    def release(self) -> None: ...


class Reached(Connections):
    def reach(self, endpoints: Mapping[str, Endpoint], timeout_seconds: float = 15) -> None: ...


class InSync(Workspace):
    """A workspace whose hosts are as they should be."""

    def look(self, connections: Connections) -> Mapping[str, Look]:
        return {host: self._as_wanted(host) for host in self.spec.hosts}

    def _as_wanted(self, host: str) -> Look:
        here = [r for r in self.desired.resources if host in r.hosts and r.observed_in_plan]
        addresses = {one.name: one.address for one in self.spec.hosts.values()}
        noted = replace(Manifest(), hosts=addresses, secrets=self.store.id)
        return Look(
            host=host,
            observed={r.address: Present(attributes=r.attributes()) for r in here},
            manifest=noted.settled(self.spec.name, here),
        )

    @contextmanager
    def connected(self) -> Iterator[Connections]:
        silent: Any = Silent()
        yield Reached({"one": silent})


@pytest.fixture
def in_sync(tmp_path: Path) -> InSync:
    opened = Workspace.open(tmp_path / "cluster.yml", SPEC.encode())
    return InSync(spec=opened.spec, store=opened.store)


def asked(*, as_json: bool) -> Namespace:
    return Namespace(
        only=[], bundle=None, check=True, max_impact=None, yes=True, json=as_json, plan=None
    )


class Breaks(Silent):
    """A host whose connection breaks when it is asked anything."""

    def run(self, script: str, **_: Any) -> Any:
        raise ConnectionLost("one", "the connection was lost")


def test_status_tells_of_a_host_that_is_lost_while_it_is_asked(in_sync: InSync) -> None:
    breaks: Any = Breaks()
    found = status(in_sync, Reached({"one": breaks}))
    assert found["unreachable"] == {"one": "one: the connection was lost"}
    assert "one: the connection was lost" in found["ailments"]


def test_apply_tells_clients_how_to_connect(in_sync: InSync) -> None:
    assert apply(in_sync, asked(as_json=False)) == 0
    assert "app" in (home_of(in_sync) / "pgpass").read_text()


def test_what_was_applied_is_told_also_where_clients_files_cannot_be_written(
    in_sync: InSync, capsys: pytest.CaptureFixture[str]
) -> None:
    home_of(in_sync).parent.write_text("in the way")
    assert apply(in_sync, asked(as_json=False)) == 1
    out, err = capsys.readouterr()
    assert out.endswith("Applied: nothing to do.\n")
    assert f"Error: {home_of(in_sync)} cannot be written: Not a directory" in err
    assert apply(in_sync, asked(as_json=True)) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["exit_code"], document["failed"]) == (1, [])
    assert document["error"].endswith("cannot be written: Not a directory")


@pytest.mark.parametrize("verb", ["up", "list"])
def test_what_is_for_all_machines_takes_no_host(verb: str, pgha: Callable[..., Said]) -> None:
    status, _, err = pgha("machines", verb, "one")
    assert status == 1
    assert f"machines {verb} is for all machines, not for one alone" in err
    assert "pgha-build machines kill | start one" in err
