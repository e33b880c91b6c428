"""One host of a lab: an nspawn container with a cgroup, an overlay and a bridge port of its own.

The overlay, and disks for what the roles keep, are mounted in a mount namespace that only the
container's supervisor has, so the mounts end with the process and cannot be left behind. The disks
know no barriers: what a host has written is there after its power was cut, if not after ours. The
supervisor enters its cgroup before it does anything else; a process in the cgroup is what "the host
runs" means.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from builder.errors import MachineError
from builder.machines.base import Power
from builder.machines.lab.cgroup import Group
from builder.machines.lab.commands import run
from builder.machines.lab.files import NETWORK_FILE, HostFile, lasting_files
from builder.machines.lab.keys import ensure_key
from builder.machines.lab.layout import BRIDGE, Layout, Place

STOP_SECONDS = 90
BOOT_SECONDS = 60
DISK_BYTES = 8 << 30
_POWEROFF = signal.SIGRTMIN + 4  # systemd(1), "SIGNALS"

# Steps aside if the host runs. `setsid --fork` returns at once, when its child is in the cgroup.
_LAUNCH = """
grep -q "populated 0" "$GROUP/cgroup.events" && echo $$ >"$ENTRANCE/cgroup.procs" || exit 1
exec setsid --fork nsenter --net="$NAMESPACE" unshare --mount --propagation slave \\
sh -c "$SUPERVISE" supervise "$@"
"""
# nspawn ends with 133 when its host reboots, and wants an unused cgroup for each boot. The port of
# the boot before may outlive its container by a moment.
_SUPERVISE = """
mount -t overlay lab -o "lowerdir=$LOWER,upperdir=$PLACE/upper,workdir=$PLACE/work" "$PLACE/root" ||
exit 1
for disk in "$PLACE"/disks/*.img; do
  [ -e "$disk" ] || continue
  point=$PLACE/root/$(basename "$disk" .img | tr - /)
  mkdir -p "$point" && mount -o loop,noatime,nobarrier "$disk" "$point" || exit 1
done
boot=0
while boot=$((boot + 1)); mkdir "$GROUP/$boot"; ip link delete "$PORT" 2>/dev/null
  sh -c 'echo $$ >"$GROUP/$0/cgroup.procs" && exec systemd-nspawn "$@"' $boot "$@"
  [ $? = 133 ]
do :; done
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_LOCK": "0",  # our cgroup is the lock; nspawn's would outlive a SIGKILL
}


@dataclass(frozen=True, kw_only=True)
class LabHost:
    """A host by its place in a lab; everything else is looked up in the world."""

    layout: Layout
    place: Place

    @property
    def name(self) -> str:
        return self.place.host

    @property
    def group(self) -> Group:
        return Group.of(self.place.lab, self.name)

    def power(self) -> Power:
        if self.group.populated():
            return Power.RUNNING
        return Power.STOPPED if self.place.upper.is_dir() else Power.ABSENT

    def host_keys(self) -> tuple[str, ...]:
        public = self.place.upper / "etc/ssh/ssh_host_ed25519_key.pub"
        return (public.read_text(),) if public.exists() else ()

    def booted_with(self) -> str:
        """The network settings that the lab gave the host at its last start."""
        path = self.place.upper / NETWORK_FILE
        return path.read_text() if path.exists() else ""

    def complete(self) -> bool:
        """Was it made, to the end? Its record of the shared root file system is written last."""
        record = self.place.directory / "rootfs"
        return record.exists() and record.stat().st_size > 0

    def forget(self) -> None:
        """Before it is deleted: half of that must not count as a whole host."""
        (self.place.directory / "rootfs").unlink(missing_ok=True)

    def create(self, lower: Path, address: IPv4Address, disks: Sequence[str]) -> None:
        """Make the host's directory; one that was made only half is made over."""
        for name, mode in (("work", 0o700), ("root", 0o755), ("upper", 0o755), ("disks", 0o700)):
            (self.place.directory / name).mkdir(parents=True, exist_ok=True, mode=mode)
        for mounted in disks:
            _make_disk(self.place.disk(mounted))
        self._write(lasting_files(self.name, address, uuid.uuid4().hex))
        (self.place.upper / "etc/ssh").mkdir(exist_ok=True)
        ensure_key(self.place.upper / "etc/ssh/ssh_host_ed25519_key")
        (self.place.directory / "rootfs").write_text(f"{lower}\n")

    def start(self, files: Mapping[str, HostFile]) -> None:
        """Boot; returns at once. `files` are written first. The lab's network must exist."""
        self.group.make()
        self._write(files)
        with self.place.log.open("ab") as log:
            launched = subprocess.run(
                ["sh", "-c", _LAUNCH, "launch", *self._nspawn()],
                env=_ENVIRONMENT | self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                check=False,
            )
        if launched.returncode:
            raise self._failed("could not be launched")

    def answers(self, address: IPv4Address, *, seconds: float = BOOT_SECONDS) -> None:
        """Wait until sshd answers; MachineError with the log's end if it does not."""
        end = time.monotonic() + seconds
        while not _ssh_banner(str(address)):
            if not self.group.populated():
                raise self._failed("ended while it booted")
            if time.monotonic() > end:
                raise self._failed(f"has no sshd that answers after {seconds:g} s")
            time.sleep(0.05)  # until the next look

    def stop(self) -> None:
        """Shut down as an administrator would; the host ends its services in order."""
        self.thaw()
        self.group.signal_first(_POWEROFF)
        if not self.group.empties(seconds=STOP_SECONDS):
            raise self._failed(
                f"did not shut down in {STOP_SECONDS} s", do="pgha-build lab kill ends it."
            )
        self.group.remove()

    def kill(self) -> None:
        """Cut the power: nothing the host sends after this moment gets out, not even a FIN."""
        with contextlib.suppress(MachineError):  # the port may be gone with a dying host
            namespace = self.layout.namespace_path
            run(["ip", "link", "set", self.place.port, "down"], namespace=namespace)
        self.thaw_disks()
        self.group.signal_first(signal.SIGKILL)
        self.thaw()
        if not self.group.empties(seconds=10):
            self.group.kill()
        self.group.remove()

    def freeze(self) -> None:
        """Hang the machine: it keeps its connections and does nothing."""
        self._require_running()
        self.group.freeze(True)

    def thaw(self) -> None:
        if self.group.path.exists():
            self.group.freeze(False)
        self.thaw_disks()

    def thaw_disks(self) -> None:
        """A process that waits for a frozen file system cannot even be killed."""
        init = self.group.init()
        for image in self.place.disks.glob("*.img") if init is not None else ():
            mounted = "/" + image.stem.replace("-", "/")
            with contextlib.suppress(MachineError):  # it is not frozen, which is as good
                where = ["nsenter", f"--target={init}", "--mount", "--root"]
                run([*where, "fsfreeze", "--unfreeze", mounted])

    def exec(self, argv: Sequence[str]) -> int:
        """Run `argv` inside, on our own stdin, stdout and stderr; its exit status."""
        status = subprocess.run(self.entering(argv), check=False).returncode
        return status if status >= 0 else 128 - status  # as a shell says it

    def entering(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` as root in the host's namespaces.

        Not through nsenter's own fork: it stops itself when its child is stopped, as a host that
        shuts down does to all processes, and then never reaps the child for which the host waits.
        """
        pid = self.group.init()
        if pid is None:
            raise self._not_running()
        environment = ["env", "-i", "HOME=/root", f"PATH={_ENVIRONMENT['PATH']}"]
        terminal = os.environ.get("TERM", "dumb")
        where = ["nsenter", f"--target={pid}", "--all", "--no-fork", "--root", "--wd"]
        waiting = ["sh", "-c", '"$@"; exit $?', "sh"]
        return [*where, *environment, f"TERM={terminal}", *waiting, *argv]

    def _require_running(self) -> None:
        if self.power() is not Power.RUNNING:
            raise self._not_running()

    def _not_running(self) -> MachineError:
        return MachineError(
            f"{self.name} does not run, or only begins to boot",
            do=f"Start it: pgha-build lab start {self.name}",
        )

    def _variables(self) -> dict[str, str]:
        return {
            "GROUP": str(self.group.path),
            "ENTRANCE": str(self.group.entrance),
            "NAMESPACE": str(self.layout.namespace_path),
            "LOWER": (self.place.directory / "rootfs").read_text().strip(),
            "PLACE": str(self.place.directory),
            "PORT": self.place.port,
            "SUPERVISE": _SUPERVISE,
        }

    def _nspawn(self) -> list[str]:
        return [
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--settings=no",
            f"--directory={self.place.directory / 'root'}",
            f"--machine={self.place.machine}",
            f"--hostname={self.name}",
            f"--network-bridge={BRIDGE}",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--rlimit=RLIMIT_NOFILE=1024:524288",
            "--console=read-only",
            "systemd.show_status=1",  # to the log: what is read when a host does not come up
        ]

    def _write(self, files: Mapping[str, HostFile]) -> None:
        for path, file in files.items():
            target = self.place.upper / path
            for parent in reversed(target.relative_to(self.place.upper).parents):
                private = str(parent) in {"root", "root/.ssh"}
                (self.place.upper / parent).mkdir(exist_ok=True, mode=0o700 if private else 0o755)
            target.unlink(missing_ok=True)
            target.write_text(file.text)
            target.chmod(file.mode)

    def _failed(self, what: str, do: str = "") -> MachineError:
        tail = _tail(self.place.log)
        return MachineError(
            f"{self.name} {what}",
            why=f"Its console's last lines:\n{tail}" if tail else "",
            do=do or f"{self.place.log} holds its whole console.",
        )


def _make_disk(image: Path) -> None:
    """An empty file system that takes no space before it is written to.

    None where this machine cannot mount it: the data then shares the host's file system.
    """
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)])
    try:
        run(["unshare", "--mount", "mount", "-o", "loop", str(image), str(image.parent)])
    except MachineError:
        image.unlink()


def _ssh_banner(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-8:])
