"""Steps → one shell script, and what its output says. Pure.

Everything that one host has to do until it must wait for another travels in one script. The script
prints a marker line before and after each piece of work, so that progress shows while it runs and
a failure has an address. It stops at the first failure, and before a piece when asked to stop.
Markers carry a nonce, so no program's output can be taken for one.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from builder.resources.base import quoted
from builder.resources.steps import Await, Put, Run, Shell, Step

STATE = "/var/lib/pgha-build"
_TURN_SECONDS = 900  # that another script of ours may take
_TIMED_OUT = "124"  # timeout(1)'s exit status, and our own for a condition that never came

PREAMBLE = r"""
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
put() { # path mode owner:group check-command…; the content on stdin
  p=$1 m=$2 o=$3; shift 3
  d=${p%/*}; n=$d/.${p##*/}.pgha-new
  rm -f -- "$n" || return
  (umask 077; set -C; base64 -d >"$n") && chown "$o" -- "$n" && chmod "$m" -- "$n" || return
  if [ $# -gt 0 ]; then
    t=$(for w; do [ "$w" = '{}' ] && w=$n; printf '%s\n' "$w"; done)
    o=$(IFS='
'; set -f; exec $t 2>&1) || { printf '%s\n' "$o"; rm -f -- "$n"; return 1; }
  fi
  sync -- "$n" && mv -fT -- "$n" "$p" && sync -- "$d"
}
await() { # seconds interval command longest; prints the last answer
  b=$(date +%s) e=$(($(date +%s) + $1)) last=
  while :; do
    now=$(eval "$3" 2>&1) && return || s=$?
    [ "$now" = "$last" ] || printf '%s why %s\n' "$M" "$(printf %s "$now" | tr '\n' ' ')"
    last=$now t=$(date +%s)
    if [ $s = 75 ] && [ $t -lt $((b + $4)) ]; then e=$((t + $1)); [ ! -e "$STOP" ] || e=$t; fi
    if [ $t -ge $e ]; then printf '%s\n' "$now"; return 124; fi
    sleep "$2"
  done
}
piece() { # number; false when the run was asked to stop
  [ -e "$STOP" ] && { printf '%s stopped\n' "$M"; return 1; }
  printf '%s begin %s\n' "$M" "$1"
}
"""


ENVIRONMENT = "export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def in_place(host: str, script: str) -> str:
    """A fragment with what all fragments may rely on: the path, the language, the host's name."""
    return f"{ENVIRONMENT} PGHA_HOST={quoted([host])}\n{script}"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Work that belongs to one or more changes: `label` is for progress, `diagnose` for failure."""

    label: str
    steps: Sequence[Step]
    diagnose: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How far a script came: pieces done, the one that failed with what it said, and the tail.

    `tail` is what the script's last part (a probe) printed. `stopped` says that it was asked to.
    """

    done: int = 0
    failed: int | None = None
    said: str = ""
    stopped: bool = False
    tail: str = ""


@dataclass(kw_only=True)
class Script:
    """A script for one host and the reader of its output."""

    host: str
    pieces: Sequence[Piece]
    tail: str = ""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def marker(self) -> str:
        return f"@pgha-{self.nonce}"

    @property
    def stop_file(self) -> str:
        return f"/run/pgha-build-stop-{self.nonce}"

    @property
    def timeout_seconds(self) -> int:
        return (
            60 + _TURN_SECONDS + sum(_limit(step) for piece in self.pieces for step in piece.steps)
        )

    def text(self) -> str:
        """The whole script. Another script of ours that still runs here is waited for."""
        return "\n".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield f"M={self.marker} STOP={self.stop_file}; export PGHA_HOST={quoted([self.host])}"
        yield PREAMBLE
        yield f"mkdir -p -m 0755 {STATE}; exec 8>>{STATE}/running"
        yield "other='another script of pgha-build still runs here'"
        wait = f"flock -w {_TURN_SECONDS} 8"
        yield f'flock -n 8 || {{ printf \'%s why %s\\n\' "$M" "$other"; {wait}; }} || {{'
        yield '  echo "$other"; exit 1; }'
        yield "work() {"
        for number, piece in enumerate(self.pieces):
            yield from _piece(number, piece)
        yield '}\nwork; rm -f "$STOP"'
        yield f"printf '%s tail\\n' \"$M\"\n{self.tail}"

    def reader(self, progress: Callable[[str], None]) -> Callable[[str], None]:
        """For each line of output as it comes: tells `progress` what begins, and why it waits."""

        def line(text: str) -> None:
            word, _, rest = text.removeprefix(self.marker + " ").partition(" ")
            if not text.startswith(self.marker):
                return
            if word == "begin":
                progress(self.pieces[int(rest)].label)
            elif word == "why":
                progress(f"waiting: {rest}")

        return line

    def outcome(self, stdout: str) -> Outcome:
        """What the whole output says."""
        body, _, tail = stdout.partition(f"{self.marker} tail\n")
        done = len(re.findall(rf"^{self.marker} end \d+ 0$", body, re.MULTILINE))
        failure = re.search(rf"^{self.marker} end (\d+) ([1-9]\d*)$", body, re.MULTILINE)
        failed = int(failure[1]) if failure else None
        stopped = f"{self.marker} stopped\n" in body
        if failed is None and not stopped and done < len(self.pieces):
            failed = done
        said = self._said(body, failed) if failed is not None else ""
        if failure and failure[2] == _TIMED_OUT:
            said = f"{said}\nIt did not finish in time, and was ended.".strip()
        return Outcome(done=done, failed=failed, said=said, stopped=stopped, tail=tail)

    def _said(self, body: str, number: int) -> str:
        after = body.rpartition(f"{self.marker} begin {number}\n")[2] or body
        lines = [line for line in after.splitlines() if not line.startswith(self.marker)]
        return "\n".join(lines[-25:]).strip()


def _piece(number: int, piece: Piece) -> Iterator[str]:
    yield f"piece {number} || return"
    yield "( set -e"
    for step in piece.steps:
        yield _shell(step)
    yield ") </dev/null 2>&1; rc=$?"
    diagnosis = f"{{ {piece.diagnose}\n}} 2>&1; " if piece.diagnose else ""
    yield (
        f"[ $rc = 0 ] || {{ {diagnosis}printf '\\n%s end {number} %s\\n' \"$M\" $rc; return 1; }}"
    )
    yield f"printf '\\n%s end {number} 0\\n' \"$M\""  # what ran may have left a line open


def _limit(step: Step) -> int:
    if isinstance(step, Await):
        return step.timeout_seconds + step.longest_seconds
    return 60 if isinstance(step, Put) else step.timeout_seconds


def _shell(step: Step) -> str:
    match step:
        case Put():
            check = f" {quoted(step.check)}" if step.check else ""
            head = f"put {quoted([step.path, step.mode, f'{step.owner}:{step.group}'])}{check}"
            return f"{head} <<'PGHA_EOF'\n{_base64(step.content)}PGHA_EOF"
        case Run():
            command = f"timeout {step.timeout_seconds} {quoted(step.argv)}"
            return _accepting(_fed(command, step.stdin), step)
        case Shell():
            command = f"timeout {step.timeout_seconds} sh -c {quoted(['set -e; ' + step.script])}"
            return _fed(command, step.stdin)
        case Await():
            seconds, interval = str(step.timeout_seconds), str(step.interval_seconds)
            longest = str(step.longest_seconds)
            return f"await {quoted([seconds, interval, step.condition, longest])}"


def _accepting(command: str, step: Run) -> str:
    if step.accept == (0,):
        return command
    wanted = "|".join(str(status) for status in step.accept)
    head, newline, document = command.partition("\n")
    rest = f"{newline}{document}"
    return f"s=0; {head} || s=$?{rest}\ncase $s in {wanted}) ;; 0) exit 1;; *) exit $s;; esac"


def _fed(command: str, stdin: bytes) -> str:
    if not stdin:
        return command
    return f"{{ base64 -d | {command}; }} <<'PGHA_EOF'\n{_base64(stdin)}PGHA_EOF"


def _base64(content: bytes) -> str:
    return base64.encodebytes(content).decode()
