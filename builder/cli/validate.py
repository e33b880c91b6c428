"""`pgha-build validate`: every mistake in cluster.yml, at once."""

from __future__ import annotations

import argparse

from builder.cli.output import show_json
from builder.spec.read import read_spec


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")


def run(arguments: argparse.Namespace) -> int:
    spec = read_spec(arguments.file)
    if arguments.json:
        show_json({"valid": True, "cluster": spec.name, "hosts": list(spec.hosts)})
    else:
        print(f"{arguments.file}: fine. {spec.name}: {len(spec.hosts)} hosts.")
    return 0
