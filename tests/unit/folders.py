"""Hosts that are folders: the shell is this machine's, below that folder.

What needs root is moved there too: our state, and `systemctl`, in whose place stands a short script
that keeps a unit's state in a file and writes down what it is told.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder import registry
from builder.engine.execute import Apply, Result
from builder.engine.leftovers import leftovers
from builder.engine.observe import Look, look
from builder.engine.plan import Plan, make_plan, narrowed
from builder.errors import ConnectionLost
from builder.resources.base import Resource
from builder.resources.file import File
from builder.resources.steps import Put, Run, Step
from builder.transport.base import Completed

USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name
OWN = {"owner": USER, "group": GROUP}


def by_hand(steps: Iterable[Step]) -> None:
    """What steps that only touch files come to, on this machine."""
    for step in steps:
        if isinstance(step, Put):
            Path(step.path).write_bytes(step.content)
            Path(step.path).chmod(int(step.mode, 8))
        else:
            assert isinstance(step, Run)
            subprocess.run(step.argv, check=True)


def played(
    folder: Path, curl: str, script: str, stdin: bytes = b"", host: str = "pg1"
) -> subprocess.CompletedProcess[str]:
    """Shell as `host` carries it out, with a curl that is the shell `curl`, in `folder`."""
    program = folder / "curl"
    program.write_text(f"#!/bin/sh\ncd {folder}\n{curl}\n")
    program.chmod(0o755)
    return subprocess.run(
        ["sh", "-c", f"set -e; {script}"],
        input=stdin.decode(),
        env={"PATH": f"{folder}:/usr/bin:/bin", "PGHA_HOST": host},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


SYSTEMCTL = """#!/bin/sh
verb=$1; shift
here={folder}/units; log={log}
for unit; do :; done
file=$here/$unit
case $verb in
  show)
    case "$1 $2" in "-P NeedDaemonReload") echo no; exit;; "-P "*) exit;; esac
    first=y
    while [ "$1" != -- ]; do shift; done; shift
    for unit; do
      [ $first = y ] || echo; first=
      [ -e $here/$unit ] || {{ echo "Id=$unit"; echo LoadState=not-found; continue; }}
      echo "Id=$unit"; echo LoadState=loaded; cat $here/$unit; echo NeedDaemonReload=no
      case $unit in  # what it will be at the next look
        late*) printf 'ActiveState=active\\nUnitFileState=enabled\\n' >$here/$unit;;
        fickle*) printf 'ActiveState=failed\\nUnitFileState=enabled\\n' >$here/$unit;;
      esac
    done;;
  start | restart | reload-or-restart)
    echo "{host} begin $verb $unit" >>$log
    sleep 0.05
    case $unit in
      broken*) ;;
      late*) printf 'ActiveState=activating\\nUnitFileState=enabled\\n' >$file; exit 1;;
      *) printf 'ActiveState=active\\nUnitFileState=enabled\\n' >$file;;
    esac
    echo "{host} end $verb $unit" >>$log;;
  stop | disable) echo "{host} $verb $unit" >>$log; rm -f $file;;
  *) echo "{host} $verb $unit" >>$log;;
esac
"""


class Folder:
    """A host that is a folder. `lost` makes its connection break at the next script."""

    def __init__(self, host: str, folder: Path, log: Path) -> None:
        self.host, self.folder = host, folder
        self.lost = False
        for name in ("bin", "units", "etc"):
            (folder / name).mkdir(parents=True)
        systemctl = folder / "bin" / "systemctl"
        systemctl.write_text(SYSTEMCTL.format(folder=folder, log=log, host=host))
        systemctl.chmod(0o755)

    def close(self) -> None:
        pass

    def run(
        self,
        script: str,
        *,
        timeout_seconds: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        if self.lost:
            raise ConnectionLost(self.host, "the connection broke")
        for there, here in (
            ("/var/lib/pgha-build", f"{self.folder}/state"),
            ("/run/pgha-build-stop-", f"{self.folder}/stop-"),
            ("root:root", f"{USER}:{GROUP}"),
            ("PATH=/usr/local/sbin", f"PATH={self.folder}/bin:/usr/local/sbin"),
        ):
            script = script.replace(there, here)
        said = subprocess.run(
            ["sh", "-s"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
        for line in said.stdout.splitlines():
            if on_line:
                on_line(line)
        return Completed(status=said.returncode, stdout=said.stdout, stderr=said.stderr, seconds=0)


class Site:
    """Hosts, and what is wanted of them: looked at, planned and applied as the program does."""

    def __init__(self, folder: Path, hosts: Sequence[str]) -> None:
        self.log = folder / "log"
        self.log.touch()
        self.hosts = {host: Folder(host, folder / host, self.log) for host in hosts}
        self.progress: list[str] = []
        self.kinds = dict(registry.kinds())
        self._telling = threading.Lock()

    def path(self, host: str, name: str) -> Path:
        return self.hosts[host].folder / "etc" / name

    def file(self, host: str, name: str, content: bytes = b"x\n", **more: Any) -> File:
        path = str(self.path(host, name))
        return File(hosts=(host,), name=path, content=content, **OWN, **more)

    def looks(self, wanted: Sequence[Resource]) -> Mapping[str, Look]:
        seen = look(self.hosts, wanted)
        extra = leftovers(wanted, seen, self.kinds)
        more = look(self.hosts, extra)
        return {
            host: Look(
                host=host,
                observed={**one.observed, **more[host].observed},
                manifest=one.manifest,
                error=one.error,
            )
            for host, one in seen.items()
        }

    def plan(self, wanted: Sequence[Resource]) -> Plan:
        return make_plan("c", wanted, self.looks(wanted), self.kinds)

    def apply(self, wanted: Sequence[Resource], *, only: Sequence[str] = (), **more: Any) -> Result:
        seen = self.looks(wanted)
        plan = make_plan("c", wanted, seen, self.kinds)
        if only:
            plan = narrowed(plan, only)
        reached = {h: c for h, c in self.hosts.items() if seen[h].error is None}
        run = Apply(plan=plan, connections=reached, looks=seen, progress=self._tell, **more)
        return run.run()

    def carry_out(self, wanted: Sequence[Resource], seen: Mapping[str, Look]) -> Result:
        """Apply what follows from `seen`, whatever is there."""
        plan = make_plan("c", wanted, seen, self.kinds)
        return Apply(plan=plan, connections=self.hosts, looks=seen, progress=self._tell).run()

    def _tell(self, host: str, text: str) -> None:
        with self._telling:
            self.progress.append(f"{host}: {text}")

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()
