"""`pgha-build machines`: the virtual machines of cluster.yml, for the Vagrantfile."""

from __future__ import annotations

import argparse

from builder.cli.output import show_json
from builder.errors import MachineError
from builder.machines.vagrant.settings import document, machines
from builder.spec.read import read_spec


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")


def run(arguments: argparse.Namespace) -> int:
    spec = read_spec(arguments.file)
    if spec.machines.provider != "vagrant":
        raise MachineError(
            f"{arguments.file} is not for Vagrant: machines.provider is {spec.machines.provider}",
            do="Set machines.provider to vagrant, or use another cluster.yml (-f, PGHA_SPEC).",
        )
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
