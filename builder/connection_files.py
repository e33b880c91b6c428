"""What a client on this machine needs, in `.pgha/NAME/`: the CA, a password file, host keys."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from builder.errors import PghaError, SecretsError
from builder.ownership import keep_owner
from builder.workspace import Workspace

_AUTHORITY = "ca.crt"
_PASSWORDS = "pgpass"
_SERVICES = "pg_service.conf"
_HOST_KEYS = "known_hosts"


def write_connection_files(workspace: Workspace) -> None:
    """Write them anew, each at once: readers never see half a file.

    Raises SecretsError where the secrets are not on disk: others would be made at each call, which
    no host knows.
    """
    if not workspace.connection_strings():
        return
    _refuse_unkept(workspace)
    home = home_of(workspace)
    authority = workspace.store.authority("cluster").bundle_pem
    lines = "".join(sorted(_lines(workspace)))
    with _clear_errors(home):
        _make(workspace, home)
        _write(workspace, home / _AUTHORITY, authority, 0o644)
        _write(workspace, home / _PASSWORDS, lines.encode(), 0o600)


def remove_connection_files(home: Path) -> None:
    """Of a cluster that is gone; folders with something else in them stay."""
    for name in (_AUTHORITY, _PASSWORDS, _SERVICES, _HOST_KEYS):
        (home / name).unlink(missing_ok=True)
        for left in home.glob(f".{name}.*"):  # by a `_write` that was killed
            left.unlink(missing_ok=True)
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
    with _clear_errors(path.parent):
        _write(workspace, path, text.encode(), 0o644)
    return path


def write_known_hosts(workspace: Workspace, lines: str) -> Path:
    """The host keys that we accept, for OpenSSH."""
    path = home_of(workspace) / _HOST_KEYS
    with _clear_errors(path.parent, "A file for OpenSSH names the host keys that are there."):
        _make(workspace, path.parent)
        _write(workspace, path, lines.encode(), 0o644)
    return path


def _refuse_unkept(workspace: Workspace) -> None:
    store = workspace.store
    if "cluster" not in store.kept("authorities"):
        raise SecretsError(
            f"{store.path} is not there" if store.is_new else f"{store.path} holds no CA yet",
            why=f"What clients of {workspace.spec.name} need to connect follows from it.",
            do="Bring it back, from your copy. Where nothing was applied yet: pgha-build apply",
        )


def _lines(workspace: Workspace) -> Iterator[str]:
    """Of cluster.yml's users, and of those that Terraform has made; of none that is yet to come."""
    for name in workspace.store.kept("passwords"):
        if name.startswith("user-"):
            password = workspace.store.password(name).reveal()
            yield f"*:*:*:{name.removeprefix('user-')}:{password}\n"


@contextmanager
def _clear_errors(
    home: Path, why: str = "Clients on this machine find the CA and their passwords there."
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PghaError(
            f"{home} cannot be written: {error.strerror}",
            why=why,
            do="Mend that, and try again; pgha-build connect writes what clients need.",
        ) from error


def _make(workspace: Workspace, home: Path) -> None:
    for folder, mode in ((home.parent, 0o777), (home, 0o700)):
        with suppress(FileExistsError):
            folder.mkdir(mode)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                keep_owner(workspace.store.path, descriptor)
            finally:
                os.close(descriptor)


def _write(workspace: Workspace, path: Path, content: bytes, mode: int) -> None:
    """The new file has a name of its own: two processes may do so at once."""
    descriptor, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            keep_owner(path if path.exists() else workspace.store.path, file.fileno())
            os.fchmod(file.fileno(), mode)
            file.write(content)
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
