"""`pgha-build destroy`: unmake the machines that we made, after naming the cluster."""

from __future__ import annotations

import argparse
import sys

from builder.cli.output import ProgressLines, confirmed
from builder.connection_files import home_of, remove_connection_files
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    name = workspace.spec.name
    question = f"This unmakes all machines of {name} and every row in its databases."
    if not arguments.yes and not confirmed(question, expected=name):
        print("Nothing was destroyed.", file=sys.stderr)
        return 1
    workspace.provider.destroy(ProgressLines())
    remove_connection_files(home_of(workspace))
    print(f"{name} is gone. Its cluster.yml and its secrets are kept.")
    return 0
