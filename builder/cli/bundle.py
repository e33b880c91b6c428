"""`pgha-build bundle`: collect all packages of the cluster into one file."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder import bundle
from builder.bundle import System
from builder.cli.output import ProgressLines, refuse_unwritable
from builder.errors import PghaError
from builder.resources.package import Package
from builder.resources.python_environment import PythonEnvironment
from builder.transport.base import Connection
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="the file to write"
    )


def run(arguments: argparse.Namespace) -> int:
    refuse_unwritable(arguments.out, beside=True)
    workspace = Workspace.open(arguments.file)
    progress = ProgressLines()
    with workspace.connected() as connections, tempfile.TemporaryDirectory() as folder:
        reached = connections.reached()
        if not reached:
            raise PghaError(
                "no host can be reached",
                why="A host of each operating system collects the packages.",
                do="Use hosts that reach their repositories: the lab (pgha-build lab up) will do.",
            )
        made: dict[str, tuple[System, Path]] = {}
        for name, hosts in _by_system(reached).items():
            wanted = _requirements(workspace, hosts)
            collector, environments = _environments(workspace, hosts)
            progress(collector, f"collects {len(wanted)} packages for {name}, and what they need")
            file = Path(folder) / name
            with file.open("wb") as into:
                sha256, size, found = bundle.collect(
                    reached[collector], sorted(wanted.values()), environments, into
                )
            names = [*wanted, *(name for item in environments for name in item.carried)]
            held = {name: found[name] for name in sorted(names)}
            system = System(member=f"{name}.tar", sha256=sha256, size=size, packages=held)
            made[name] = (system, file)
        bundle.write(arguments.out, made)
    megabytes = arguments.out.stat().st_size / 1e6
    print(f"written: {arguments.out}, {megabytes:.0f} MB, for {', '.join(made)}.")
    return 0


def _by_system(reached: Mapping[str, Connection]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for host, connection in reached.items():
        found.setdefault(bundle.system_of(connection), []).append(host)
    return found


def _requirements(workspace: Workspace, hosts: list[str]) -> Mapping[str, str]:
    """Of all packages that hosts of the cluster need: as apt wants them, by name.

    Also those of hosts that this one is not: which of them run this system is known later.
    """
    found: dict[str, str] = {}
    for resource in workspace.desired.resources:
        if isinstance(resource, Package):
            pinned = resource.version if resource.hosts[0] in hosts else None
            words = f"{resource.name}={pinned}" if pinned else resource.name
            if "=" in (before := found.get(resource.name, words)) and pinned and before != words:
                raise PghaError(
                    f"hosts of one system are to have both {before} and {words}",
                    why="A bundle holds one version of a package for each system.",
                    do="pgha-build lock --update brings all of them to one.",
                )
            if pinned or resource.name not in found:
                found[resource.name] = words
    return found


def _environments(
    workspace: Workspace, hosts: list[str]
) -> tuple[str, Sequence[PythonEnvironment]]:
    """Who collects: a host with what comes from PyPI, whose own pip then fetches it, if any."""
    for host in hosts:
        found = [
            resource
            for resource in workspace.desired.resources
            if isinstance(resource, PythonEnvironment) and resource.hosts == (host,)
        ]
        if found:
            return host, found
    return hosts[0], ()
