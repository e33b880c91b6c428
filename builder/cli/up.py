"""`pgha-build up`: machines, then apply."""

from __future__ import annotations

import argparse

from builder.cli.apply import add_options, apply, in_waves
from builder.cli.output import ProgressLines
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    workspace.provider.up(ProgressLines())
    return in_waves(workspace, arguments) if arguments.waves else apply(workspace, arguments)
