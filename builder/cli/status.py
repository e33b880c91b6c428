"""`pgha-build status`: etcd, Patroni, HAProxy, virtual IP and connection strings at a glance.

Exit status 1 where something ails, so that it can be alarmed on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from typing import Any

from builder import registry
from builder.cli.output import show_json
from builder.expiry import first_to_end
from builder.overview import status
from builder.workspace import Workspace

_LONGEST_SECONDS = 86400


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument(
        "--watch",
        type=_interval,
        nargs="?",
        const=2.0,
        metavar="SECONDS",
        help="again and again, until Ctrl-C",
    )


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds above 0 and up to {_LONGEST_SECONDS}"
        )
    return seconds


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    with workspace.connected() as connections:
        while True:
            document = status(workspace, connections)
            if arguments.json:
                show_json(document)
            else:
                clear = "\x1b[H\x1b[2J" if arguments.watch else ""
                print(clear + "\n".join(_text(document)))
            if not arguments.watch:
                return 1 if document["ailments"] else 0
            time.sleep(arguments.watch)  # the interval that was asked for


def _text(document: Mapping[str, Any]) -> Iterator[str]:
    yield document["cluster"]
    yield from (f"  ! {ailment}" for ailment in document["ailments"])
    for name, role in registry.roles().items():
        if role.status and name in document:
            yield ""
            first, *rest = role.status.rows(document[name]) or [""]
            yield f"{name:<11} {first}"
            yield from (f"{'':<11} {row}" for row in rest)
    if words := first_to_end(document["certificates"]):
        yield from ("", f"{'certificates':<11} {words}")
    if document["connection"]:
        yield ""
        for side, uri in document["connection"].items():
            yield f"{side:<11} {uri}"
