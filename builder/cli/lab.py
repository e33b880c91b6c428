"""`pgha-build lab`: the local lab's hosts: up, down, what runs, and damage on purpose."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builder.cli.output import ProgressLines, show_json
from builder.errors import MachineError
from builder.machines.lab.provider import LabProvider
from builder.spec.model import ClusterSpec
from builder.spec.read import read_spec

_OF_ONE_HOST = {
    "stop": "shut a host down cleanly",
    "start": "switch a stopped host on",
    "kill": "cut a host's power",
    "wipe": "cut a host's power and throw its disk away; `up` then makes a blank one",
    "freeze": "hang a host",
    "thaw": "let a hung host go on",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add all that `pgha-build lab` can do."""
    verbs = parser.add_subparsers(dest="lab_verb", metavar="VERB", required=True)
    _verb(verbs, "up", "make and start what is missing")
    _verb(verbs, "down", "remove the lab; the cached root file system stays")
    status = _verb(verbs, "status", "list the hosts")
    status.add_argument("--json", action="store_true", help="for a program")
    for name, text in _OF_ONE_HOST.items():
        _verb(verbs, name, text).add_argument("host", metavar="HOST")
    execute = _verb(verbs, "exec", "run a command in a host, without SSH")
    execute.add_argument("host", metavar="HOST")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD …")
    _add_links(verbs)


def run(arguments: argparse.Namespace) -> int:
    """Do what `configure` parsed; the exit status."""
    lab = LabProvider(_spec(arguments.file))
    if arguments.lab_verb in _OF_ONE_HOST:
        getattr(lab, arguments.lab_verb)(arguments.host)
        return 0
    return _ACTIONS[arguments.lab_verb](lab, arguments)


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument(
        "-f", "--file", type=Path, default=argparse.SUPPRESS, help="default: ./cluster.yml"
    )
    return parser


def _add_links(verbs: Any) -> None:
    cut = _verb(verbs, "cut", "cut the link between two hosts")
    lossy = _verb(verbs, "lossy", "lose packets between two hosts at random")
    for parser in (cut, lossy):
        parser.add_argument("a", metavar="HOST", help='"gateway" stands for this machine')
        parser.add_argument("b", metavar="HOST")
        parser.add_argument("--one-way", action="store_true", help="only from the first host")
    lossy.add_argument("percent", type=int)
    _verb(verbs, "heal", "mend all links")


def _spec(file: Path) -> ClusterSpec:
    spec = read_spec(file)
    if spec.machines.provider != "lab":
        raise MachineError(
            f"the machines of {file} are not a lab but {spec.machines.provider!r}",
            do="pgha-build lab needs `machines: {provider: lab}`.",
        )
    return spec


def _up(lab: LabProvider, _: argparse.Namespace) -> int:
    tell = ProgressLines()
    started = lab.up(tell)
    tell("", "the lab is up" if started else "all hosts run already")
    return 0


def _down(lab: LabProvider, _: argparse.Namespace) -> int:
    lab.destroy(ProgressLines())
    return 0


def _status(lab: LabProvider, arguments: argparse.Namespace) -> int:
    rows = _states(lab)
    if arguments.json:
        show_json({"hosts": rows})
        return 0
    width = max((len(name) for name in rows), default=4)
    print(f"{'HOST':<{width}}  {'ADDRESS':<15}  STATE")
    for name, row in rows.items():
        print(f"{name:<{width}}  {row['address']:<15}  {row['state']}")
    return 0


def _states(lab: LabProvider) -> Mapping[str, Mapping[str, str]]:
    power, frozen = lab.power(), lab.frozen()
    return {
        name: {
            "address": endpoint.address,
            "state": "frozen" if name in frozen else power[name],
        }
        for name, endpoint in lab.endpoints().items()
    }


def _exec(lab: LabProvider, arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise MachineError("no command was given", do="pgha-build lab exec HOST -- CMD …")
    return lab.exec(arguments.host, command)


def _cut(lab: LabProvider, arguments: argparse.Namespace) -> int:
    lab.cut(arguments.a, arguments.b, both_ways=not arguments.one_way)
    return 0


def _lossy(lab: LabProvider, arguments: argparse.Namespace) -> int:
    lab.lossy(arguments.a, arguments.b, arguments.percent, both_ways=not arguments.one_way)
    return 0


def _heal(lab: LabProvider, _: argparse.Namespace) -> int:
    lab.heal()
    return 0


_ACTIONS: Mapping[str, Callable[[LabProvider, argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "exec": _exec,
    "cut": _cut,
    "lossy": _lossy,
    "heal": _heal,
}
