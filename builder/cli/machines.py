"""`pgha-build machines`: the machines that cluster.yml asks for, whoever provides them."""

from __future__ import annotations

import argparse
from typing import Any

from builder import registry
from builder.cli.output import ProgressLines, show_json
from builder.errors import MachineError
from builder.machines.vagrant.settings import document, machines
from builder.spec.model import ClusterSpec
from builder.spec.read import read_spec

_OF_ONE_HOST = {
    "kill": "cut the power of HOST",
    "start": "switch HOST on",
}


def configure(parser: argparse.ArgumentParser) -> None:
    what = "; ".join(f"{verb}: {text}" for verb, text in _OF_ONE_HOST.items())
    parser.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "up", *_OF_ONE_HOST),
        help=f"list (what is asked for); up: make and start them, without apply; {what}",
    )
    parser.add_argument("host", nargs="?", metavar="HOST")
    parser.add_argument("--json", action="store_true", help="list: what the Vagrantfile reads")


def run(arguments: argparse.Namespace) -> int:
    spec = read_spec(arguments.file)
    if arguments.host and arguments.action not in _OF_ONE_HOST:
        raise MachineError(
            f"machines {arguments.action} is for all machines, not for {arguments.host} alone",
            do=f"For one: pgha-build machines {' | '.join(_OF_ONE_HOST)} {arguments.host}",
        )
    if arguments.action == "list":
        return _list(spec, arguments)
    provider: Any = registry.provider(spec)
    if arguments.action == "up":
        provider.up(ProgressLines())
        return 0
    if arguments.host not in spec.hosts:
        raise MachineError(
            f"cluster.yml has no host {arguments.host or '(none was named)'}",
            do=f"Hosts: {', '.join(spec.hosts)}.",
        )
    if not hasattr(provider, arguments.action):
        raise MachineError(
            f"the machines of the provider {spec.machines.provider} have no power switch here"
        )
    getattr(provider, arguments.action)(arguments.host)
    return 0


def _list(spec: ClusterSpec, arguments: argparse.Namespace) -> int:
    if spec.machines.provider != "vagrant":
        if arguments.json:
            raise MachineError(
                f"{arguments.file} is not for Vagrant: its provider is {spec.machines.provider}",
                do="Set machines.provider to vagrant, or name another cluster.yml (PGHA_SPEC).",
            )
        for host in spec.hosts.values():
            print(f"{host.name:<12} {host.address:<15} {spec.machines.provider}")
        return 0
    if arguments.json:
        show_json(document(spec))
        return 0
    for machine in machines(spec):
        watchdog = ", watchdog" if machine.watchdog else ""
        print(
            f"{machine.name:<12} {machine.address:<15} {machine.box}, {machine.cpus} CPU, "
            f"{machine.memory_mib} MiB{watchdog}"
        )
    return 0
