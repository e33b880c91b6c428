"""How much room is left: asked of a real file system, and what is made of the answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builder import disk


def ask(path: Path) -> str:
    argv = ["sh", "-c", disk.asks(str(path))]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_real_file_system_says_where_it_is_mounted_and_what_is_free(tmp_path: Path) -> None:
    said = disk.said(f'{{"a": 1}}\n{ask(tmp_path)}rest\n')
    assert said
    assert Path(said["mounted"]).is_mount()
    assert 0 <= said["free_percent"] <= 100
    assert said["free_bytes"] >= 0
    for shared in ("/", "/etc", "/var/log"):
        said = disk.said(ask(Path(shared)))
        assert said
        assert disk.own(said) == ""


def test_what_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert disk.said(ask(tmp_path / "gone")) is None
    assert disk.own(None) == disk.row(None) == ""
    assert not disk.full(None)


@pytest.mark.parametrize(
    ("line", "row", "full", "own"),
    [
        ("disk / 50 100 shared", "", False, ""),
        ("disk /var 50 100 shared", "", False, ""),
        ("disk /data 50 100", "", False, "/data"),
        ("disk /data 5 100", "5 % of /data is free", False, "/data"),
        ("disk / 4 1000 shared", "0.4 % of / is free", True, ""),
    ],
)
def test_little_room_is_a_warning_and_none_an_ailment(
    line: str, row: str, full: bool, own: str
) -> None:
    said = disk.said(line)
    assert (disk.row(said), disk.full(said), disk.own(said)) == (row, full, own)
