"""What a fault does to a host, and how it is undone: values, and the shell that carries them out.

Every script leaves its undoing on the host and has systemd carry it out after some minutes, so a
fault ends even when the controller's power does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from builder.resources.base import quoted

STATE = "/run/pgha-drill"
UNIT = "pgha-drill-undo"
LAST_RESORT_SECONDS = 900
# Healing that comes while harm is still being done waits for its end: else it would find nothing.
_HEALED = (
    f"sh {STATE}/undo || exit 1\nrm -rf {STATE}\nsystemctl stop {UNIT}.timer 2>/dev/null || true\n"
)
_ALONE = "exec 9>>/run/pgha-drill.lock; flock -w 60 9 || exit 1\n"
# Says so where a drill that was killed has left something, and heals it.
LEFTOVER = f"{_ALONE}[ -e {STATE}/undo ] || exit 0\n{_HEALED}echo healed\n"


@dataclass(frozen=True, kw_only=True)
class Script:
    """Shell on a host: `before` only looks, `do` harms, `undo` heals.

    `undo` may use what `before` put into shell variables named in `keeps`. `still`: holds while the
    harm is there, where nothing but healing may end it. Not `strikes`: it only sets the scene, and
    its host stays as well as it was. `silences`: nothing is heard of the host until it is healed.
    `outlives_boot`: it is to be undone also on a host that has started anew.
    """

    host: str
    do: str
    before: str = ""
    undo: str = ""
    still: str = ""
    keeps: tuple[str, ...] = ()
    seconds: float = 30
    strikes: bool = True
    silences: bool = False
    outlives_boot: bool = False

    def text(self) -> str:
        if not self.undo:
            return f"set -eu\n{self.before}\n{self.do}\n"
        keeps = "".join(f'printf "{name}=%s\\n" "${name}"; ' for name in self.keeps)
        return (
            f"{_ALONE}({self._healing})\n"  # what a drill that was killed has left
            f"set -eu\n{self.before}\n"
            f"mkdir -p -m 0700 {STATE}\n"
            f"{{ {keeps}cat <<'PGHA_UNDO'\n{self.undo}\nPGHA_UNDO\n}} >{STATE}/undo\n"
            f"systemd-run --quiet --collect --unit={UNIT} --on-active={LAST_RESORT_SECONDS} "
            f"sh {STATE}/undo\n{self.do}\n"
        )

    def undo_text(self) -> str:
        """Safe to run twice, and on a host that has rebooted since."""
        return f"{_ALONE}{self._healing}"

    @property
    def _healing(self) -> str:
        forgotten = f"{{ {self.undo}\nexit 0; }}" if self.outlives_boot else "exit 0"
        return f"[ -e {STATE}/undo ] || {forgotten}\n{_HEALED}"


@dataclass(frozen=True, kw_only=True)
class PowerOff:
    """The host's power is cut, and comes back. Needs a provider with power."""

    host: str
    strikes: ClassVar[bool] = True
    silences: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """The host hangs, and goes on. Needs a provider that can."""

    host: str
    strikes: ClassVar[bool] = True
    silences: ClassVar[bool] = True


Step = Script | PowerOff | Freeze

# What a provider of machines must offer (methods that take a host), and what it says if not.
_NEEDS: Mapping[type[Step], tuple[tuple[str, str], str]] = {
    PowerOff: (("kill", "start"), "these machines' power cannot be cut from here"),
    Freeze: (("freeze", "thaw"), "these machines cannot be frozen from here"),
}


def lacks(step: Step, provider: object) -> str:
    """What the provider of machines cannot do; empty where it can."""
    methods, reason = _NEEDS.get(type(step), ((), ""))
    return "" if all(hasattr(provider, method) for method in methods) else reason


# ── processes ───────────────────────────────────────────────────────────────────────────────────
def main_pid(unit: str) -> str:
    return f'pid=$(systemctl show -P MainPID {unit})\n[ "$pid" -gt 1 ]'


def kill_main(host: str, unit: str) -> Script:
    return Script(host=host, before=main_pid(unit), do='kill -KILL "$pid"')


def stop_main(host: str, unit: str, *, lasting: bool = False) -> Script:
    """SIGSTOP: it is there, and does nothing. `lasting`: nothing but healing may end that."""
    state = f"/proc/$(systemctl show -P MainPID {unit})/status"
    return Script(
        host=host,
        before=main_pid(unit),
        do='kill -STOP "$pid"',
        undo='kill -CONT "$pid" 2>/dev/null || true',
        keeps=("pid",),
        still=f"grep -q '^State:.T' {state}" if lasting else "",
    )


def kill_for_good(host: str, unit: str) -> Script:
    """Nothing brings it back: systemd is told not to. Fails where it comes back nevertheless."""
    folder = f"/run/systemd/system/{unit}.d"
    failed = f'[ "$(systemctl show -P ActiveState {unit})" = failed ]'
    return Script(
        host=host,
        before=main_pid(unit),
        do=f"mkdir -p {folder}\nprintf '[Service]\\nRestart=no\\n' >{folder}/pgha-drill.conf\n"
        'systemctl daemon-reload\nkill -KILL "$pid"\n' + _until(failed, seconds=10),
        undo=f"rm -f {folder}/pgha-drill.conf\nsystemctl daemon-reload\nsystemctl start {unit}",
        still=failed,
        seconds=60,
    )


def _until(condition: str, *, seconds: int) -> str:
    """Wait for it, at most so long; the script fails where it does not come."""
    return f"for i in $(seq {seconds * 5}); do {condition} && exit 0; sleep 0.2; done\nexit 1"


def kill_unit(host: str, unit: str) -> Script:
    """All processes of a unit at once."""
    return Script(host=host, before=main_pid(unit), do=f"systemctl kill -s KILL {unit}")


def stop_unit(host: str, unit: str) -> Script:
    return Script(
        host=host,
        before=main_pid(unit),
        do=f"systemctl kill -s STOP {unit}",
        undo=f"systemctl kill -s CONT {unit} || true",
    )


def reset(host: str) -> Script:
    """Its kernel starts anew without a word to any process, and nothing is synced.

    In a container only that one starts anew. What heals it is that it boots: the undoing, which
    does not outlive that, says that it has not yet.
    """
    do = "systemd-run --quiet --collect sh -c 'sleep 3; reboot --force --no-sync'"
    undo = f'echo "it has not started anew: reboot it, or rm -r {STATE}" >&2; exit 1'
    return Script(host=host, do=do, undo=undo, silences=True)


# ── disks ───────────────────────────────────────────────────────────────────────────────────────
DISK = "pgha-drill-disk"  # a unit that keeps at it
_KEPT_UP = f"systemctl is-active --quiet {DISK}"


def fill(host: str, mounted: str) -> Script:
    """To the last byte, and again whenever something is given back."""
    file = f"{mounted}/.{DISK}"
    room = f"df -B1 --output=avail {mounted} | tail -n 1"
    write = f"dd if=/dev/zero of={file} oflag=append conv=notrunc status=none 2>/dev/null"
    loop = (
        f"fallocate -l $({room}) {file}\n"  # fast, where the file system can
        f"while :; do {write} bs=1M || {write} bs=512; sleep 0.1; done"
    )
    return Script(
        host=host,
        do=f"{_kept_up(loop)}\n" + _until(f'[ "$({room})" -eq 0 ]', seconds=100),
        undo=f"systemctl stop {DISK} 2>/dev/null || true\nrm -f {file}",
        still=_KEPT_UP,
        seconds=120,
        outlives_boot=True,
    )


def hang(host: str, mounted: str) -> Script:
    """Nothing that is written comes back: a disk, or the way to it, that does not answer."""
    return Script(
        host=host,
        do=f"fsfreeze --freeze {mounted}",
        undo=f"fsfreeze --unfreeze {mounted} 2>/dev/null || true",
    )


def slow(host: str, mounted: str) -> Script:
    """Whatever is written waits for up to half a second."""
    thaw = f"fsfreeze --unfreeze {mounted}"
    loop = f"while fsfreeze --freeze {mounted}; do sleep 0.5; {thaw}; sleep 0.05; done"
    return Script(
        host=host,
        do=f"fsfreeze --freeze {mounted}\n{thaw}\n{_kept_up(loop)}",  # once: it can be
        undo=f"systemctl stop {DISK} 2>/dev/null || true\n{thaw} 2>/dev/null || true",
        still=_KEPT_UP,
    )


def _kept_up(loop: str) -> str:
    return (
        f"systemd-run --quiet --collect --unit={DISK} -p RuntimeMaxSec={LAST_RESORT_SECONDS} "
        f"sh -c {quoted([loop])}"
    )


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────
def signal_postgresql(host: str, psql: str, select: str, name: str, undo: str = "") -> Script:
    """Send a signal to the process that the statement `select` names."""
    return Script(
        host=host,
        before=f'pid=$(echo {quoted([select])} | {psql})\n[ "$pid" -gt 1 ]',
        do=f"kill -{name} $pid",
        undo=undo,
        keeps=("pid",) if undo else (),
    )


def much_wal(host: str, psql: str, megabytes: int) -> Script:
    """Messages that nobody reads, in the stream that replicas receive."""
    text = "SELECT pg_logical_emit_message(false, 'pgha-drill', repeat('x', 1048576));"
    said = f"for i in $(seq {megabytes}); do echo {quoted([text])}; done"
    return Script(host=host, do=f"{said} | {psql} >/dev/null", strikes=False)


TRANSACTION = "pgha-drill-transaction"


def long_transaction(host: str, psql: str) -> Script:
    """Open, with a transaction's number, and at work when this ends."""
    text = "SET statement_timeout = 0; BEGIN; SELECT txid_current(); SELECT pg_sleep(3600);"
    unit = f"systemd-run --quiet --collect --unit={TRANSACTION}"
    seen = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE state = 'active' AND backend_xid IS NOT NULL AND query LIKE '%pg_sleep(3600)%'"
        " AND pid <> pg_backend_pid()"
    )
    return Script(
        host=host,
        do=f"{unit} -p RuntimeMaxSec={LAST_RESORT_SECONDS} "
        f"sh -c {quoted([f'echo {quoted([text])} | {psql}'])}\n"
        + _until(f'[ "$(echo {quoted([seen])} | {psql})" = 1 ]', seconds=10),
        undo=f"systemctl stop {TRANSACTION} 2>/dev/null || true",
    )
