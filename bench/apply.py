#!/usr/bin/env python3
"""How long does a first `apply` take, beside a shell script that runs the same commands?

Run as root: `.venv/bin/python bench/apply.py`. Two blank labs in turn, packages in the lab's cache.
First `apply` runs, and every piece of work that it sends to a host is written down (without its
probes and its manifest). Then, on hosts as blank, plain `ssh host sh` runs each host's pieces, all
hosts in parallel: what remains is what the commands themselves cost. Promise: at most 1.3 times.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from builder.engine import hosts as engine_hosts
from builder.engine.execute import Apply
from builder.engine.lock import locked
from builder.engine.script import Script
from builder.errors import TransportError
from builder.workspace import Workspace

NETWORK = "10.99.0"
COMMAND = str(Path(sys.executable).parent / "pgha-build")
KEY = "/var/lib/pgha-build/lab/orders/id_ed25519"


def recording(into: dict[str, list[Script]]) -> type[Script]:
    """A Script that remembers itself; what it does stays the same."""

    class Recorded(Script):
        def text(self) -> str:
            into.setdefault(self.host, []).append(replace(self))
            return super().text()

    return Recorded


def bare(script: Script) -> str:
    """Only the work: without the manifest (the piece that has no name) and the second look."""
    pieces = [piece for piece in script.pieces if piece.label]
    return Script(host=script.host, pieces=pieces).text() if pieces else ""


def apply(folder: Path, record: dict[str, list[Script]]) -> None:
    workspace = Workspace.open(folder / "cluster.yml")
    _ = workspace.desired
    workspace.store.save()
    engine_hosts.Script = recording(record)  # type: ignore[misc]
    with workspace.connected() as connections:
        hosts = {h: c for h, c in connections.items() if not isinstance(c, TransportError)}
        with locked(hosts, "bench"):
            looks = workspace.look(connections)
            plan = workspace.plan(connections, looks)
            run = Apply(plan=plan, connections=hosts, looks=looks, progress=lambda *_: None)
            assert run.run().exit_code == 0


def replay(record: dict[str, list[Script]], addresses: dict[str, str]) -> None:
    def one(host: str) -> None:
        quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        for script in record[host]:
            if text := bare(script):
                line = ["ssh", "-F", "/dev/null", "-i", KEY, *quiet, f"root@{addresses[host]}"]
                subprocess.run(
                    [*line, "sh"], input=text, text=True, capture_output=True, check=False
                )

    threads = [threading.Thread(target=one, args=(host,)) for host in record]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def blank(folder: Path) -> None:
    subprocess.run([COMMAND, "lab", "down"], cwd=folder, check=False, capture_output=True)
    subprocess.run([COMMAND, "lab", "up"], cwd=folder, check=True, capture_output=True)


def seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([COMMAND, "init"], cwd=folder, check=True, capture_output=True)
        file = folder / "cluster.yml"
        file.write_text(file.read_text().replace("10.77.0", NETWORK))
        addresses = {h.name: h.address for h in Workspace.open(file).spec.hosts.values()}
        try:
            record: dict[str, list[Script]] = {}
            blank(folder)
            apply(folder, {})  # fills the cache of packages
            blank(folder)
            ours = seconds(lambda: apply(folder, record))
            blank(folder)
            shell = seconds(lambda: replay(record, addresses))
        finally:
            subprocess.run([COMMAND, "lab", "down"], cwd=folder, check=False, capture_output=True)
    print(f"apply {ours:.1f} s, the same commands by ssh {shell:.1f} s, {ours / shell:.2f} times")


if __name__ == "__main__":
    main()
