"""`pgha-build ssh-config`: the way to all hosts, for whatever else goes there by OpenSSH."""

from __future__ import annotations

import argparse

from builder import registry
from builder.connection_files import write_known_hosts
from builder.transport import openssh
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    endpoints = registry.provider(workspace.spec).endpoints().values()
    keys = "".join(openssh.known_hosts(endpoint) for endpoint in endpoints)
    pinned = write_known_hosts(workspace, keys).absolute()
    print("\n".join(openssh.section(endpoint, pinned) for endpoint in endpoints), end="")
    return 0
