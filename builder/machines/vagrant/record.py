"""How the machines of a cluster are reached, kept from run to run beside the Vagrantfile's state.

Asking Vagrant takes seconds. A record counts for as long as Vagrant has that very machine; its
host keys are learned once, when it is new, and pinned from then on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Access:
    """How one machine is reached; `machine` is the identity that Vagrant gave it."""

    machine: str
    address: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    host_keys: tuple[str, ...]


def load(path: Path) -> Mapping[str, Access]:
    """By host; what cannot be read counts as not known, and is asked for again."""
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())
        return {name: _access(entry) for name, entry in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _access(entry: Mapping[str, Any]) -> Access:
    lists = {key: tuple(entry[key]) for key in ("identity_files", "host_keys")}
    return Access(**{**entry, **lists})


def save(path: Path, known: Mapping[str, Access]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps({name: asdict(access) for name, access in known.items()}, indent=1))
    new.replace(path)


def machine_id(root: Path, name: str) -> str:
    """What Vagrant calls a machine that it has made; "" where it has made none."""
    try:
        return (root / ".vagrant" / "machines" / name / "libvirt" / "id").read_text().strip()
    except OSError:
        return ""
