"""`pgha-build render`: every file of a host, secrets masked; no connection needed."""

from __future__ import annotations

import argparse

from builder.cli.output import show_json
from builder.errors import PlanError
from builder.resources.file import File
from builder.security.secret import MASK
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", nargs="?", help="one host; default: all")
    parser.add_argument("--json", action="store_true", help="for a program")


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    hosts = [arguments.host] if arguments.host else list(workspace.spec.hosts)
    if unknown := [host for host in hosts if host not in workspace.spec.hosts]:
        raise PlanError(
            f"no host is named {unknown[0]}", do=f"Hosts: {', '.join(workspace.spec.hosts)}"
        )
    files = {
        host: {
            resource.name: _text(resource)
            for resource in workspace.desired.resources
            if isinstance(resource, File) and resource.hosts == (host,)
        }
        for host in hosts
    }
    if arguments.json:
        show_json(files)
        return 0
    for host, texts in files.items():
        for path, text in texts.items():
            print(f"──── {host}:{path}\n{text}")
    return 0


def _text(file: File) -> str:
    return file.text() or file.masked or MASK
