"""Our lines in a file of others, by the shell that writes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builder.engine.diff import difference
from builder.resources.base import Absent
from builder.resources.block import Block
from builder.resources.steps import Shell

OURS = "# BEGIN pgha-build: managed, do not edit\n10.0.0.1 pg1\n# END pgha-build\n"


def carried_out(step: object) -> subprocess.CompletedProcess[bytes]:
    assert isinstance(step, Shell)
    return subprocess.run(
        ["dash", "-c", step.script], input=step.stdin, capture_output=True, check=False
    )


def block(file: Path) -> Block:
    return Block(hosts=("pg1",), name=str(file), content="10.0.0.1 pg1\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", OURS),
        ("127.0.0.1 localhost\n", "127.0.0.1 localhost\n" + OURS),
        ("127.0.0.1 localhost", "127.0.0.1 localhost\n" + OURS),
        (OURS.replace("0.1", "0.9") + "10.9.9.9 last\n", "10.9.9.9 last\n" + OURS),
        (OURS + "10.9.9.9 last", "10.9.9.9 last\n" + OURS),
    ],
)
def test_lines_of_others_stay_and_ours_come_once(before: str, after: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(before)
    for _ in range(2):
        (step,) = difference(block(file), Absent(), None).steps()
        assert carried_out(step).returncode == 0
        assert file.read_text() == after
    (step,) = block(file).removal()
    assert carried_out(step).returncode == 0
    assert file.read_text() == after.removesuffix(OURS)


def test_a_block_without_its_end_is_left_alone_and_told(tmp_path: Path) -> None:
    """All lines behind its begin would go with it."""
    file = tmp_path / "hosts"
    torn = OURS.replace("# END pgha-build\n", "") + "10.9.9.9 last\n"
    file.write_text(torn)
    (step,) = difference(block(file), Absent(), None).steps()
    done = carried_out(step)
    assert done.returncode
    assert b"mend it by hand" in done.stderr
    assert file.read_text() == torn
