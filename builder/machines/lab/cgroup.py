"""A host's cgroup (v2): which processes are its own, frozen or not, and the end of all of them.

The cgroup is also what tells whose a process is: no process is ever looked for by its name.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from builder.errors import MachineError

CONTROLLERS = ("cpu", "io", "memory", "pids")


@cache
def tree() -> Path:
    """Where the machine has its cgroup v2 tree: at the top, or beside the older ones."""
    for place, kind, _ in _mounts():
        if kind == "cgroup2":
            return Path(place)
    raise MachineError("no cgroup v2 tree is mounted", why="Every lab host needs one.")


@cache
def _systemd_tree() -> tuple[Path, ...]:
    return tuple(Path(place) for place, _, options in _mounts() if "name=systemd" in options)


def _mounts() -> Iterator[tuple[str, str, str]]:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        yield place, kind, options


@dataclass(frozen=True)
class Group:
    """One cgroup, which may not exist."""

    path: Path

    @classmethod
    def of(cls, lab: str, member: str = "") -> Group:
        return cls(tree() / f"pgha-{lab}" / member)

    @property
    def entrance(self) -> Path:
        """Where a process enters: a cgroup that hands controllers down may hold none itself."""
        return self.path / "entrance"

    def make(self) -> None:
        """Make it anew; a leftover without processes goes first."""
        self.remove()
        self.entrance.mkdir(parents=True)
        _delegate(self.path.parent)
        _delegate(self.path)

    def populated(self) -> bool:
        """Does any process live in it?"""
        return self._events().get("populated") == "1"

    def frozen(self) -> bool:
        return self._events().get("frozen") == "1"

    def freeze(self, wanted: bool) -> None:
        """Stop all its processes where they stand, or let them go on; waits until it is so."""
        (self.path / "cgroup.freeze").write_text("1" if wanted else "0")
        if not self._becomes(lambda: self.frozen() == wanted, seconds=10):
            raise MachineError(f"{self.path.name}: the kernel did not change its freezer in 10 s")

    def first_process(self) -> int | None:
        """The pid of the container's own process 1, as the machine counts."""
        for pid in self.pids():
            if _pid_in_its_namespace(pid) == "1":
                return pid
        return None

    def init(self) -> int | None:
        """Process 1 once it is systemd, which puts itself in `init.scope` as it begins.

        Before that moment it is nspawn's, with the container's file systems only half in place.
        """
        pid = self.first_process()
        try:
            scopes = Path(f"/proc/{pid}/cgroup").read_text().split()
        except OSError:
            return None
        return pid if any(scope.endswith("/init.scope") for scope in scopes) else None

    def pids(self) -> Iterator[int]:
        for procs in self.path.glob("**/cgroup.procs"):
            try:
                yield from (int(word) for word in procs.read_text().split())
            except OSError:  # vanished meanwhile
                continue

    def signal_first(self, number: signal.Signals | int) -> None:
        """Send a signal to the container's process 1; a reused pid is never hit."""
        pid = self.first_process()
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if pid == self.first_process():
                signal.pidfd_send_signal(handle, int(number))
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def kill(self) -> None:
        """SIGKILL to all that live in it or below, also when frozen; waits until they are gone."""
        if not self.path.exists():
            return
        (self.path / "cgroup.kill").write_text("1")
        if not self.empties(seconds=20):
            left = " ".join(map(str, self.pids()))
            raise MachineError(
                f"processes of {self.path.name} survive SIGKILL: {left}",
                why="They wait in the kernel, as on a hanging disk.",
            )

    def empties(self, *, seconds: float) -> bool:
        """Wait until no process is left; False when that takes longer than `seconds`."""
        return self._becomes(lambda: not self.populated(), seconds=seconds)

    def remove(self) -> None:
        """Remove it with all below; all processes must be gone.

        Beside cgroup v1, nspawn makes the same directories in systemd's own v1 tree too.
        """
        for top in (tree(), *_systemd_tree()):
            for directory, _, _ in os.walk(top / self.path.relative_to(tree()), topdown=False):
                Path(directory).rmdir()

    def _events(self) -> dict[str, str]:
        try:
            text = (self.path / "cgroup.events").read_text()
        except OSError:
            return {}
        return dict(line.split() for line in text.splitlines())

    def _becomes(self, condition: Callable[[], bool], *, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)  # until the next look
        return True


def _pid_in_its_namespace(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    columns = next((line.split() for line in status.splitlines() if line[:6] == "NSpid:"), [])
    return columns[2] if len(columns) == 3 else ""


def _delegate(path: Path) -> None:
    """Hand the controllers down that the machine's tree has to give (none beside cgroup v1)."""
    given = (path / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in given)
    if wanted:
        (path / "cgroup.subtree_control").write_text(wanted)
