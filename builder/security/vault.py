"""The secrets file itself: read and written whole, atomically, plain (0600) or encrypted (age).

A plain file becomes an encrypted one by listing recipients, and the other way round by removing
the list: the next `write` puts the new file there and takes the old one away. Until then the old
one is read, so that a list which comes or goes never looks like a cluster without secrets.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builder.errors import SecretsError
from builder.ownership import keep_owner
from builder.security.age import decrypted, encrypted
from builder.security.content import includes

_HEADER = (
    "# Secrets of the cluster beside this file. Made by pgha-build; keep a copy, show nobody.\n"
)


@dataclass(frozen=True, kw_only=True)
class Vault:
    """`path` ends in `.yml` or `.age`; `recipients` decides which, and who can read it."""

    path: Path
    recipients: tuple[str, ...] = ()

    @classmethod
    def beside(cls, spec_path: Path) -> Vault:
        recipients = _listed(spec_path.with_suffix(".secrets.recipients"))
        suffix = ".secrets.age" if recipients else ".secrets.yml"
        return cls(path=spec_path.with_suffix(suffix), recipients=recipients)

    @property
    def former(self) -> Path:
        """Where the secrets were before recipients were listed, or the list removed."""
        return self.path.with_suffix(".yml" if self.path.suffix == ".age" else ".age")

    def exists(self) -> bool:
        """Whether the file is there, and nothing remains of the other form."""
        return self.path.exists() and not self.former.exists()

    def read(self) -> dict[str, Any] | None:
        """The content, or None where there is no file. Raises SecretsError."""
        found = [_read(path) for path in (self.path, self.former) if path.exists()]
        if len(found) == 2 and not includes(*found):  # else a `write` was killed before its end
            raise SecretsError(
                f"{self.path} and {self.former.name} hold different secrets",
                why="Only one of them is what the cluster uses.",
                do="Move the other one away.",
            )
        return found[0] if found else None

    def write(self, content: dict[str, Any]) -> None:
        """All of it or nothing: beside its target, to the disk, renamed over it."""
        text = _HEADER + yaml.safe_dump(content, sort_keys=True, width=1000)
        data = encrypted(text, self.recipients) if self.recipients else text.encode()
        try:
            _replace(self.path.resolve(), data)
            self.former.unlink(missing_ok=True)
        except OSError as error:
            raise SecretsError(
                f"cannot write {self.path}: {error.strerror}",
                why="Nothing is applied with secrets that would be lost.",
            ) from error


def _listed(file: Path) -> tuple[str, ...]:
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsError(
            f"{file} cannot be read: {getattr(error, 'strerror', 'this is not UTF-8 text')}",
            why="It lists to whom the secrets are encrypted.",
            do="Bring it back from version control.",
        ) from None
    lines = (line.strip() for line in text.splitlines())
    found = tuple(line for line in lines if line and not line.startswith("#"))
    if not found:
        raise SecretsError(f"{file} lists nobody", do="Add a recipient, or remove the file.")
    return found


def _read(path: Path) -> dict[str, Any]:
    raw = _bytes(path)
    try:
        text = (decrypted(raw, path) if path.suffix == ".age" else raw).decode()
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        content = None  # the parser's message would quote the file
    if not isinstance(content, dict):
        raise SecretsError(f"{path} is damaged", do="Restore it from your copy.")
    return content


def _bytes(path: Path) -> bytes:
    """What is asked about and what is read is the same open file."""
    try:
        with path.open("rb") as file:
            _refuse_open_file(path, os.fstat(file.fileno()))
            return file.read()
    except OSError as error:
        raise SecretsError(
            f"cannot read {path}: {error.strerror}",
            do="Run this as the user to whom the file belongs, or use your own copy.",
        ) from error


def _refuse_open_file(path: Path, status: os.stat_result) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077 and path.suffix == ".yml":
        raise SecretsError(
            f"{path} can be read by others",
            why="It holds every password and the private keys of the cluster.",
            do=f"chmod 600 {path}; and if others had access, rotate what is in it.",
        )
    if os.geteuid() not in {0, status.st_uid}:
        raise SecretsError(f"{path} belongs to somebody else", do="chown it, or use your own copy.")


def _replace(path: Path, data: bytes) -> None:
    """The new file's name ends like the target's, so that the same .gitignore line covers it."""
    new = path.with_name(f".new.{path.name}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        keep_owner(path, file.fileno())
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
