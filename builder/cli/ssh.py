"""`pgha-build ssh HOST`: a shell on a host, by OpenSSH, the way pgha-build itself goes there."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from builder import registry
from builder.errors import MachineError
from builder.spec.read import read_spec
from builder.transport import openssh


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD …")


def run(arguments: argparse.Namespace) -> int:
    """The exit status is that of the command there; 255 where ssh itself failed.

    A command gets a terminal there where one is here, and nothing else reads what it says.
    """
    spec = read_spec(arguments.file)
    if arguments.host not in spec.hosts:
        raise MachineError(
            f"cluster.yml has no host {arguments.host}", do=f"Hosts: {', '.join(spec.hosts)}."
        )
    endpoint = registry.provider(spec).endpoints()[arguments.host]
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    with tempfile.NamedTemporaryFile("w", prefix="pgha-known-hosts-") as pinned:
        pinned.write(openssh.known_hosts(endpoint))
        pinned.flush()
        line = openssh.command(
            endpoint,
            Path(pinned.name),
            [shlex.join(words)] if words else [],
            terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        )
        try:
            return subprocess.run(line, check=False).returncode
        except FileNotFoundError as error:
            raise MachineError(
                "there is no ssh here", do="apt-get install openssh-client"
            ) from error
