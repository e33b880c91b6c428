"""`pgha-build plan`: what apply would change. 0: nothing, 2: changes, 1: incomplete or error."""

from __future__ import annotations

import argparse
from pathlib import Path

from builder.cli.output import refuse_unwritable, show_json, wants_colour
from builder.engine import render
from builder.engine.saved import save
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="save the plan for `apply FILE`")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="HOST|ROLE|ADDRESS",
        help="only this, and what it needs; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="for a program")


def run(arguments: argparse.Namespace) -> int:
    if arguments.out:
        refuse_unwritable(arguments.out)
    workspace = Workspace.open(arguments.file)
    with workspace.connected() as connections:
        plan = workspace.plan(connections, workspace.look(connections), arguments.only)
    if arguments.json:
        show_json(render.document(plan))
    else:
        print(render.text(plan, colour=wants_colour()))
    if arguments.out:
        save(arguments.out, plan, arguments.only)
    return plan.exit_code
