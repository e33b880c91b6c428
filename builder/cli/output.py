"""What all verbs share in talking to people: colour, progress, questions, files that they name."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import PghaError


def wants_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def show_json(document: Mapping[str, Any]) -> None:
    print(json.dumps(document, indent=2, default=str))


def in_words(error: PghaError) -> str:
    return f"Error: {error}" if error.why or error.do else str(error)


def as_document(error: PghaError) -> Mapping[str, str]:
    """What a program reads of an error."""
    return {"error": error.what, "why": error.why, "do": error.do}


def refuse_unwritable(path: Path, *, beside: bool = False) -> None:
    """Raises PghaError at once, and leaves nothing, where a result could not be written at the end.

    `beside`: it is written as another file there first, and renamed.
    """
    from tempfile import TemporaryFile

    try:
        there = path.exists()
        if there:
            path.open("ab").close()
        if beside or not there:
            TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise PghaError(f"{path} cannot be written: {error.strerror}") from None


class ProgressLines:
    """One line per step on stderr, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, host: str, text: str) -> None:
        if not text:
            return
        seconds = time.monotonic() - self._start
        where = f"{host}: " if host else ""
        if len(text) > 160:
            text = text[:157] + "…"
        with self._lock:
            print(f"{seconds:6.1f}s  {where}{text}", file=sys.stderr, flush=True)


def confirmed(question: str, expected: str = "yes") -> bool:
    """Ask on the terminal; whoever has none must say --yes."""
    if not sys.stdin.isatty():
        print("No terminal to ask on: say --yes to go ahead.", file=sys.stderr)
        return False
    print(f"{question}\nOnly '{expected}' is accepted: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == expected
