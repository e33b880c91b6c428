"""Run one of the machine's programs and say what it said when it fails."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from builder.errors import MachineError


def run(argv: Sequence[str], *, stdin: str = "", namespace: Path | None = None) -> str:
    """The output of `argv`, run in the network namespace `namespace` or in the machine's own."""
    enter = ["nsenter", f"--net={namespace}"] if namespace else []
    whole = [*enter, *argv]
    done = subprocess.run(whole, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(
            f"`{shlex.join(argv)}` failed: {done.stderr.strip() or f'status {done.returncode}'}",
            why="The lab is built with this program.",
        )
    return done.stdout
