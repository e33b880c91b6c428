"""`pgha-build lock`: write down the exact versions of all packages, with their checksums."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from builder import lockfile
from builder.cli.output import ProgressLines
from builder.engine.script import in_place
from builder.errors import PghaError, TransportError
from builder.resources.package import Lock, Locked, Package
from builder.resources.python_environment import PythonEnvironment
from builder.transport.base import Connections
from builder.workspace import Workspace

_SECONDS = 600


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--update",
        action="store_true",
        help="what the hosts' sources have now, rather than what is installed",
    )


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    path = lockfile.beside(workspace.spec.path)
    bare = workspace.anew(locked={})  # whatever is locked: it is about to be locked anew
    with bare.connected() as connections:
        lock = _asked(bare, connections, newest=arguments.update)
    lines = list(_differences(workspace.locked, lock))
    lockfile.write(path, lock)
    print("\n".join(lines) or "As it was.")
    print(f"written: {path.name}. The next apply brings hosts to it.")
    return 0


def _asked(workspace: Workspace, connections: Connections, *, newest: bool) -> Lock:
    """Of every host, for each package that cluster.yml leads to and does not pin."""
    progress = ProgressLines()
    pins = workspace.spec.sections["packages"]["versions"]
    names: dict[str, list[str]] = {host: [] for host in workspace.spec.hosts}
    environments: dict[str, list[PythonEnvironment]] = {host: [] for host in names}
    for resource in workspace.desired.resources:
        if isinstance(resource, Package) and resource.name not in pins:
            names[resource.hosts[0]].append(resource.name)
        if isinstance(resource, PythonEnvironment):
            environments[resource.hosts[0]].append(resource)

    def one(host: str) -> Mapping[str, Locked]:
        connection = connections[host]
        if isinstance(connection, TransportError):
            raise connection
        progress(host, "asks its sources")
        question = lockfile.question(names[host], environments[host], newest=newest)
        script = in_place(host, question)
        said = connection.run(script, timeout_seconds=_SECONDS)
        if said.status:
            raise PghaError(f"{host}: {said.stderr.strip() or said.stdout.strip()}")
        return lockfile.answer(host, said.stdout)

    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def _differences(before: Lock, after: Lock) -> Iterator[str]:
    for host, packages in after.items():
        for name, entry in packages.items():
            old = before.get(host, {}).get(name)
            if old is None:
                yield f"{host}  {name}  {entry.version}"
            elif old.version != entry.version:
                yield f"{host}  {name}  {old.version}  →  {entry.version}"
            elif old.sha256 != entry.sha256:
                yield f"{host}  {name}  {entry.version}: another file"
