"""What a client on this machine needs: the CA and a password file, in `.pgha/NAME/`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from builder.workspace import Workspace

_AUTHORITY = "ca.crt"
_PASSWORDS = "pgpass"
_SERVICES = "pg_service.conf"


def write_connection_files(workspace: Workspace) -> None:
    """Write them anew, each at once: readers never see half a file."""
    if not workspace.connection_strings():
        return
    home = home_of(workspace)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(home / _AUTHORITY, workspace.store.authority("cluster").bundle_pem, 0o644)
    lines = "".join(sorted(set(_lines(workspace))))
    _write(home / _PASSWORDS, lines.encode(), 0o600)


def remove_connection_files(home: Path) -> None:
    """Of a cluster that is gone; folders with something else in them stay."""
    for name in (_AUTHORITY, _PASSWORDS, _SERVICES):
        (home / name).unlink(missing_ok=True)
    for folder in (home, home.parent):
        with suppress(OSError):
            folder.rmdir()


def home_of(workspace: Workspace) -> Path:
    return workspace.spec.path.parent / ".pgha" / workspace.spec.name


def write_service_file(workspace: Workspace) -> Path:
    """libpq's service file: `psql service=NAME`, and `service=NAME-replica`. Holds no password."""
    from psycopg.conninfo import conninfo_to_dict

    text = ""
    for side, uri in workspace.connection_strings().items():
        name = workspace.spec.name if side == "primary" else f"{workspace.spec.name}-{side}"
        lines = "".join(f"{key}={value}\n" for key, value in conninfo_to_dict(uri).items())
        text += f"[{name}]\n{lines}\n"
    path = home_of(workspace) / _SERVICES
    _write(path, text.encode(), 0o644)
    return path


def _lines(workspace: Workspace) -> Iterator[str]:
    """Of cluster.yml's users, and of those that Terraform has made."""
    users = [f"user-{user['name']}" for user in workspace.spec.sections["postgresql"]["users"]]
    known = [name for name in workspace.store.password_names if name.startswith("user-")]
    for name in {*users, *known}:
        password = workspace.store.password(name).reveal()
        yield f"*:*:*:{name.removeprefix('user-')}:{password}\n"


def _write(path: Path, content: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.replace(path)
