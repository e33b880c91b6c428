"""Can this machine run a lab? Everything that is missing is said at once.

`lacking` is pure; `refuse_if_unable` looks at this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.errors import MachineError

PACKAGE_OF = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, kw_only=True)
class Ability:
    """What matters about a machine; `finds` says whether it has a program."""

    root: bool
    finds: Callable[[str], bool]
    keyring: bool
    overlay: bool
    cgroup2: bool


def this_machine() -> Ability:
    return Ability(
        root=os.geteuid() == 0,
        finds=lambda program: shutil.which(program) is not None,
        keyring=KEYRING.exists(),
        overlay=_has_overlay(),
        cgroup2=" cgroup2 " in Path("/proc/mounts").read_text(),
    )


def refuse_if_unable(ability: Ability) -> None:
    """Raise MachineError with all reasons why no lab can run here, and what to do about each."""
    reasons = list(_reasons(ability))
    if not reasons:
        return
    raise MachineError(
        "this machine cannot run a lab: " + "; ".join(what for what, _ in reasons),
        why="A lab's hosts are systemd-nspawn containers with overlay file systems.",
        do=" ".join(do for _, do in reasons),
    )


def require_root(ability: Ability) -> None:
    """Raise MachineError unless we are root: all that taking a lab down needs."""
    if not ability.root:
        raise MachineError(
            "you are not root",
            why="A lab's hosts are containers with namespaces and mounts of their own.",
            do="Run it as root (sudo).",
        )


def _reasons(ability: Ability) -> Iterator[tuple[str, str]]:
    if not ability.root:
        yield "you are not root", "Run it as root (sudo)."
    programs = [program for program in PACKAGE_OF if not ability.finds(program)]
    packages = {PACKAGE_OF[program] for program in programs}
    if not ability.keyring:
        programs.append("Debian's archive keyring")
        packages.add("debian-archive-keyring")
    if programs:
        yield f"no {', no '.join(programs)}", f"apt-get install {' '.join(sorted(packages))}."
    if not ability.overlay:
        yield "its kernel has no overlay file system", "Use a kernel with CONFIG_OVERLAY_FS."
    if not ability.cgroup2:
        yield (
            "no cgroup v2 tree is mounted",
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified.",
        )


def _has_overlay() -> bool:
    def listed() -> bool:
        return "\toverlay\n" in Path("/proc/filesystems").read_text()

    if not listed() and os.geteuid() == 0 and shutil.which("modprobe"):
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
    return listed()
