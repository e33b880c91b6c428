"""The watches beside PostgreSQL, carried out with a Patroni that is played."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import Environment, StrictUndefined

TEMPLATES = Path(__file__).parents[2] / "templates/patroni"
LEADS = '{"state": "running", "role": "primary"}'
FOLLOWS = '{"state": "running", "role": "replica"}'
PAUSED = '{"state": "running", "role": "primary", "pause": true}'


@dataclass
class Stage:
    """A data directory with a process that stands for the postmaster, and the script beside it."""

    folder: Path
    postmaster: subprocess.Popen[bytes]

    def says(self, answer: str) -> None:
        """What Patroni answers from now on; empty: nothing."""
        new = self.folder / "answer.new"
        new.write_text(answer)
        new.rename(self.folder / "answer")

    def asked(self, times: int) -> None:
        """Wait until the watch has asked so often again."""
        log = self.folder / "asked"
        wanted = len(log.read_text()) + times if log.exists() else times
        end = time.monotonic() + 120
        while not log.exists() or len(log.read_text()) < wanted:
            assert time.monotonic() < end, "the watch does not ask"
            time.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    data, bin_ = tmp_path / "data", tmp_path / "bin"
    data.mkdir()
    bin_.mkdir()
    for name, text in (
        ("curl", f"printf x >>{tmp_path}/asked; cat {tmp_path}/answer"),
        ("sleep", "exec /bin/sleep 0.05"),
    ):
        (bin_ / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_ / name).chmod(0o755)
    postmaster = subprocess.Popen(["/bin/sleep", "60"], cwd=data)
    (data / "postmaster.pid").write_text(f"{postmaster.pid}\n")
    made = Stage(tmp_path, postmaster)
    made.says("")
    text = (TEMPLATES / "lease-watch.j2").read_text()
    values = {"data": data, "ca": "ca", "url": "url", "timings": SimpleNamespace(patroni_silent=1)}
    script = Environment(undefined=StrictUndefined).from_string(text).render(values)  # noqa: S701
    environment = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"}
    watch = subprocess.Popen(["sh", "-c", script], env=environment)
    yield made
    for process in (watch, postmaster):
        process.kill()
        process.wait()


def test_a_leader_whose_patroni_falls_silent_is_ended(stage: Stage) -> None:
    stage.says(LEADS)
    stage.asked(2)
    stage.says("")
    assert stage.postmaster.wait(20) == -9


@pytest.mark.parametrize("last", ["", FOLLOWS, PAUSED])
def test_who_was_not_called_a_leader_or_is_paused_is_left_alone(stage: Stage, last: str) -> None:
    """Also where it was one before; and where Patroni was never heard, as while it is adopted."""
    if last:
        stage.says(LEADS)
        stage.asked(2)
    stage.says(last)
    stage.asked(2)
    stage.says("")
    stage.asked(40)
    assert stage.postmaster.poll() is None


def test_a_leader_that_was_started_since_is_left_to_patroni(stage: Stage) -> None:
    stage.says(LEADS)
    stage.asked(2)
    (stage.folder / "data/postmaster.pid").write_text(f"{os.getpid()}\n")
    stage.says("")
    stage.asked(40)
    assert stage.postmaster.poll() is None
