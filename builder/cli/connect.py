"""`pgha-build connect`: how applications reach the cluster: strings, and files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from shlex import quote

from builder.cli.output import show_json
from builder.connection_files import home_of, write_connection_files, write_service_file
from builder.errors import SpecError
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")


def run(arguments: argparse.Namespace) -> int:
    workspace = Workspace.open(arguments.file)
    uris = strings(workspace)
    write_connection_files(workspace)
    services = write_service_file(workspace)
    home = home_of(workspace)
    files = {
        "ca": str(home / "ca.crt"),
        "pgpass": str(home / "pgpass"),
        "service": str(services),
    }
    if arguments.json:
        show_json({"connection": dict(uris), "files": files})
        return 0
    for side, uri in uris.items():
        print(f"{side:<9} {uri}")
    service, passfile, ca = (quote(files[name]) for name in ("service", "pgpass", "ca"))
    print(f"\nPGSERVICEFILE={service} psql service={workspace.spec.name}")
    print(f"PGPASSFILE={passfile} PGSSLROOTCERT={ca} PGSSLMODE=verify-full")
    return 0


def strings(workspace: Workspace) -> Mapping[str, str]:
    """The connection strings; SpecError where the spec leads to none."""
    uris = workspace.connection_strings()
    if not uris:
        raise SpecError(("cluster.yml has no balancer, or no user under postgresql.users",))
    return uris
