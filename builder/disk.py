"""How much room is left where a role keeps its data: shell that asks, and what it says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LITTLE_PERCENT = 10
FULL_PERCENT = 1


# What a host, and whoever comes to heal it, writes to as well.
_SYSTEM = "/ /etc /home /root /tmp /var /var/lib /var/lib/pgha-build /var/log /var/tmp"


def asks(path: str) -> str:
    """Shell that prints one line of its own: the mount point, bytes, and whether it is `shared`."""
    return (
        f"df -B1 --output=target,avail,size {path} 2>/dev/null | sed -n '2s/^/disk /p' | "
        "while read -r d m a s; do "
        f'echo "$d $m $a $s" $(df --output=target {_SYSTEM} 2>/dev/null | grep -qxF "$m" && '
        "echo shared); done"
    )


def said(answer: str) -> Mapping[str, Any] | None:
    """`mounted`, `free_bytes`, `free_percent` of the file system; None where nobody knows.

    `shared`: the system writes there, too.
    """
    words = next((line.split() for line in answer.splitlines() if line.startswith("disk ")), [])
    if len(words) not in {4, 5} or not int(words[3]):
        return None
    mounted, free, size = words[1], int(words[2]), int(words[3])
    return {
        "mounted": mounted,
        "free_bytes": free,
        "free_percent": round(100 * free / size, 1),
        "shared": words[4:] == ["shared"],
    }


def row(disk: Mapping[str, Any] | None) -> str:
    """A warning for a person; empty where there is room."""
    if disk is None or disk["free_percent"] >= LITTLE_PERCENT:
        return ""
    return f"{disk['free_percent']:g} % of {disk['mounted']} is free"


def full(disk: Mapping[str, Any] | None) -> bool:
    return disk is not None and disk["free_percent"] < FULL_PERCENT


def own(disk: Mapping[str, Any] | None) -> str:
    """Where the data is mounted by itself; empty where it shares the system's file system."""
    return "" if disk is None or disk["shared"] else str(disk["mounted"])
