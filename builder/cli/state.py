"""`pgha-build state`: what is managed, and changing that without touching the thing itself."""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builder.cli.output import show_json
from builder.engine.lock import locked
from builder.engine.manifest import Manifest
from builder.operations.state import State, write
from builder.transport.base import Connections
from builder.workspace import Workspace

_VERBS = {
    "list": "what pgha-build manages, by address",
    "show": "one resource: what is there now, and whether that is what was applied",
    "forget": "manage a resource no longer, or forget a host that is gone; nothing is removed",
    "import": "count what is there already as ours; nothing is changed",
}


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="state_verb", metavar="VERB", required=True)
    for name, text in _VERBS.items():
        child = verbs.add_parser(name, help=text, description=text)
        child.add_argument("-f", "--file", type=Path, default=argparse.SUPPRESS)
        child.add_argument("--json", action="store_true", help="for a program")
        if name == "list":
            child.add_argument("pattern", nargs="?", default="*", help="such as 'pg1/*'")
        else:
            label = "ADDRESS|HOST" if name == "forget" else "ADDRESS"
            child.add_argument("address", metavar=label)


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    with workspace.connected() as connections:
        return _ACTIONS[arguments.state_verb](workspace, connections, arguments)


def _state(workspace: Workspace, connections: Connections) -> State:
    wanted = {resource.address: resource for resource in workspace.desired.resources}
    looks = workspace.look(connections)
    return State(cluster=workspace.spec.name, looks=looks, wanted=wanted)


def _list(workspace: Workspace, connections: Connections, arguments: argparse.Namespace) -> int:
    state = _state(workspace, connections)
    found = fnmatch.filter(state.entries, arguments.pattern)
    silent = {h: seen.error.what for h, seen in state.looks.items() if seen.error}
    if arguments.json:
        show_json({"managed": found, "unreachable": silent})
    else:
        print("\n".join([*found, *(f"! {host}: {why}" for host, why in silent.items())]))
    return 1 if silent else 0


def _show(workspace: Workspace, connections: Connections, arguments: argparse.Namespace) -> int:
    record = _state(workspace, connections).record(arguments.address)
    if arguments.json:
        show_json(record)
    else:
        print("\n".join(_lines(record)))
    return 0


def _lines(record: Mapping[str, Any]) -> list[str]:
    lines = [record["address"]]
    for key, said in record["attributes"].items():
        text = json.dumps(said["now"], default=str)
        if len(text) > 100:
            text = text[:97] + "…"
        lines.append(f"    {key}: {text}{'' if said['as_applied'] else '   (not as applied)'}")
    lines += [f"    needs {need}" for need in record["needs"]]
    if record["unfinished"]:
        lines.append(f"    an earlier apply did not finish: {record['unfinished']}")
    return lines


def _forget(workspace: Workspace, connections: Connections, arguments: argparse.Namespace) -> int:
    return _change(workspace, connections, arguments, State.without)


def _import(workspace: Workspace, connections: Connections, arguments: argparse.Namespace) -> int:
    return _change(workspace, connections, arguments, State.with_imported)


def _change(
    workspace: Workspace,
    connections: Connections,
    arguments: argparse.Namespace,
    compute: Callable[[State, str], Mapping[str, Manifest]],
) -> int:
    _state(workspace, connections)  # from now on hosts that have left the spec are connected, too
    reachable = connections.reached()
    with locked(reachable, f"state {arguments.state_verb}") as lock:
        changed = compute(_state(workspace, connections), arguments.address)
        lock.refuse_lost()
        written = write(reachable, changed)
    if arguments.json:
        show_json({"written": list(written)})
    else:
        print(f"{arguments.address}: noted on {', '.join(written) or 'no host: nothing to do'}.")
    return 0


_ACTIONS = {"list": _list, "show": _show, "forget": _forget, "import": _import}
