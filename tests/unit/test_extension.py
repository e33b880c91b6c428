"""What is asked about an extension: the shell itself, with a psql of our own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from builder.resources.base import Absent, Observed, Present, Unknown
from builder.resources.database import Extension
from builder.resources.sql import Server

PSQL = """\
#!/bin/sh
case "$*" in
  *pg_extension*) {inside} ;;
  *) echo 'role primary'; {known} ;;
esac
"""
AS_POSTGRES = """\
#!/bin/sh
while [ "$1" != psql ]; do shift; done
exec "$@"
"""


@pytest.mark.parametrize(
    ("known", "inside", "answer"),
    [
        (
            "echo 'database|app'",
            "echo plpgsql; echo hstore",
            Present(attributes={"installed": True}),
        ),
        ("echo 'database|app'", "echo plpgsql", Absent()),
        (":", "exit 2", Absent()),
        (
            "echo 'database|app'",
            "echo 'FATAL: no' >&2; exit 2",
            Unknown("PostgreSQL does not answer: FATAL: no"),
        ),
    ],
    ids=["installed", "not installed", "no database yet", "the database cannot be asked"],
)
def test_it_is_there_absent_or_unknown(
    tmp_path: Path, known: str, inside: str, answer: Observed
) -> None:
    programs = {"psql": PSQL.format(known=known, inside=inside), "setpriv": AS_POSTGRES}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "PG_VERSION").touch()
    wanted = Extension(hosts=("a",), name="app/hstore", server=Server(data=str(tmp_path)))
    said = subprocess.run(
        ["sh", "-c", Extension.probe([wanted])],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Extension.parse([wanted], said.stdout) == {"app/hstore": answer}
