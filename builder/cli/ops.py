"""`pgha-build ops`: what an operator does to a running cluster, guarded."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder import registry
from builder.cli.output import ProgressLines, confirmed, show_json, wants_colour
from builder.connection_files import write_connection_files
from builder.engine import render
from builder.engine.desired import present
from builder.engine.lock import Lock, locked
from builder.engine.plan import Plan
from builder.fault import after_script
from builder.operations.core import OPERATIONS
from builder.operations.course import Operation, Target
from builder.operations.run import Declined, Runner
from builder.overview import status
from builder.resources.package import Package
from builder.transport.base import Connections
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="operation", metavar="OPERATION", required=True)
    for operation in operations().values():
        child = verbs.add_parser(operation.name, help=operation.doc, description=operation.doc)
        child.add_argument("-f", "--file", type=Path, default=argparse.SUPPRESS)
        _add_argument(child, operation.argument)
        for name, text in operation.options:
            child.add_argument(f"--{name}", action="store_true", help=text)
        child.add_argument("--yes", action="store_true", help="do not ask")
        child.add_argument("--json", action="store_true", help="for a program")


def _add_argument(parser: argparse.ArgumentParser, argument: str) -> None:
    if not argument:
        return
    name = argument.strip("[].")
    if argument.endswith("...]"):
        parser.add_argument("words", nargs="*", metavar=name)
    elif argument.startswith("["):
        parser.add_argument("words", nargs="?", metavar=name)
    else:
        parser.add_argument("words", metavar=name)


def operations() -> Mapping[str, Operation]:
    """Those of the roles, and those of the cluster as a whole."""
    found = [*OPERATIONS, *(op for role in registry.roles().values() for op in role.operations)]
    return {operation.name: operation for operation in found}


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    operation = operations()[arguments.operation]
    with (
        workspace.connected() as connections,
        locked(connections.reached(), f"ops {operation.name}") as lock,
    ):
        runner = _runner(workspace, connections, lock, arguments, operation)
        try:
            runner.run(operation.begin(_target(workspace, operation, arguments)))
        except Declined:
            print("Nothing more was done.", file=sys.stderr)
            return 1
    return _report(operation, runner, as_json=arguments.json)


def _target(workspace: Workspace, operation: Operation, arguments: argparse.Namespace) -> Target:
    given = getattr(arguments, "words", None) or ()
    chosen = (name for name, _ in operation.options if getattr(arguments, name.replace("-", "_")))
    return Target(
        spec=workspace.spec,
        secrets=workspace.store,
        packages=_packages(workspace),
        sizes=_sizes(workspace),
        refusals=tuple(r.needed for r in present(workspace.spec, registry.roles()) if r.needed),
        words=(given,) if isinstance(given, str) else tuple(given),
        options=frozenset(chosen),
        locked=bool(workspace.locked),
    )


def _packages(workspace: Workspace) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for resource in workspace.desired.resources:
        if isinstance(resource, Package):
            found.setdefault(resource.hosts[0], []).append(resource.name)
    return found


def _sizes(workspace: Workspace) -> Mapping[str, int]:
    own = (r for r in workspace.desired.resources if len(r.hosts) == 1 and r.observed_in_plan)
    return Counter(resource.hosts[0] for resource in own)


def _runner(
    workspace: Workspace,
    connections: Connections,
    lock: Lock,
    arguments: argparse.Namespace,
    operation: Operation,
) -> Runner:
    def show(plan: Plan) -> None:
        if plan.differences and not arguments.json:
            print(render.text(plan, colour=wants_colour()), flush=True)

    return Runner(
        workspace=workspace,
        connections=connections,
        reachable=connections.reached(),
        lock=lock,
        status=lambda: status(workspace, connections),
        confirm=lambda question: arguments.yes or confirmed(question),
        show=show,
        progress=ProgressLines(),
        after_script=after_script(),
        tell=lambda lines: None if arguments.json else print("\n".join(lines), flush=True),
        tell_clients=write_connection_files,
        takes_over=operation.takes_over,
    )


def _report(operation: Operation, runner: Runner, *, as_json: bool) -> int:
    if as_json:
        show_json({"operation": operation.name, "did": runner.did, "said": runner.said})
    else:
        print(f"{operation.name}: done." if runner.did else f"{operation.name}: nothing to do.")
    return 0
