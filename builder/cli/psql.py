"""`pgha-build psql`: psql through the virtual IP, as the first user of the spec."""

from __future__ import annotations

import argparse
import signal
import subprocess

from builder.cli.connect import strings
from builder.connection_files import write_connection_files
from builder.errors import MachineError
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replica", action="store_true", help="the side that only reads")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- OPTIONS …",
        help="psql's own, after `--`: pgha-build psql -- -c 'select 1'",
    )


def run(arguments: argparse.Namespace) -> int:
    """The exit status is psql's. The password is in a file that the string names, never in argv."""
    workspace = Workspace.open(arguments.file)
    uri = strings(workspace)["replica" if arguments.replica else "primary"]
    write_connection_files(workspace)
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    before = signal.signal(signal.SIGINT, lambda *_: None)  # psql's own: it ends a query
    try:
        return subprocess.run(["psql", "-d", uri, *words], check=False).returncode
    except FileNotFoundError as error:
        raise MachineError(
            "there is no psql here", do="apt-get install postgresql-client"
        ) from error
    finally:
        signal.signal(signal.SIGINT, before)
