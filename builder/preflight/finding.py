"""What the preflight found. Values."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """An error keeps the cluster from working; a warning is for a person to weigh."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`host` is "" where it concerns the cluster as a whole."""

    level: Level
    host: str
    what: str
    do: str = ""


def error(host: str, what: str, do: str = "") -> Finding:
    return Finding(level=Level.ERROR, host=host, what=what, do=do)


def warning(host: str, what: str, do: str = "") -> Finding:
    return Finding(level=Level.WARNING, host=host, what=what, do=do)
