"""The secrets file itself: read and written whole, atomically, plain (0600) or encrypted (age)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builder.errors import SecretsError

_IDENTITY = "PGHA_AGE_IDENTITY"
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
        list_file = spec_path.with_suffix(".secrets.recipients")
        if not list_file.is_file():
            return cls(path=spec_path.with_suffix(".secrets.yml"))
        lines = (line.strip() for line in list_file.read_text().splitlines())
        recipients = tuple(line for line in lines if line and not line.startswith("#"))
        return cls(path=spec_path.with_suffix(".secrets.age"), recipients=recipients)

    def exists(self) -> bool:
        return self.path.exists()

    def read(self) -> dict[str, Any] | None:
        """The content, or None where there is no file. Raises SecretsError."""
        if not self.exists():
            return None
        _refuse_open_file(self.path)
        raw = self.path.read_bytes()
        try:
            text = _decrypted(raw, self.path) if self.recipients else raw.decode()
            content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        except (UnicodeDecodeError, yaml.YAMLError):
            content = None  # the parser's message would quote the file
        if not isinstance(content, dict):
            raise SecretsError(f"{self.path} is damaged", do="Restore it from your copy.")
        return content

    def write(self, content: dict[str, Any]) -> None:
        text = _HEADER + yaml.safe_dump(content, sort_keys=True, width=1000)
        data = _encrypted(text, self.recipients) if self.recipients else text.encode()
        new = self.path.with_name(f".{self.path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        _sync_directory(self.path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_open_file(path: Path) -> None:
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077 and path.suffix == ".yml":
        raise SecretsError(
            f"{path} can be read by others",
            why="It holds every password and the private keys of the cluster.",
            do=f"chmod 600 {path}; and if others had access, rotate what is in it.",
        )
    if os.geteuid() not in {0, status.st_uid}:
        raise SecretsError(f"{path} belongs to somebody else", do="chown it, or use your own copy.")


def _encrypted(text: str, recipients: tuple[str, ...]) -> bytes:
    import pyrage

    kinds = {"age1": pyrage.x25519.Recipient, "ssh-": pyrage.ssh.Recipient}
    try:
        parsed = [kinds[line[:4]].from_str(line) for line in recipients]
        return bytes(pyrage.encrypt(text.encode(), parsed))
    except (KeyError, ValueError, pyrage.RecipientError) as error:
        raise SecretsError(
            f"a recipient cannot be used: {error}", do="Expected age1… or ssh-ed25519 …"
        ) from error


def _decrypted(raw: bytes, path: Path) -> str:
    import pyrage

    file = Path(os.environ.get(_IDENTITY, "~/.config/pgha-build/age.txt")).expanduser()
    try:
        identities = _identities(file.read_text())
        return bytes(pyrage.decrypt(raw, identities)).decode()
    except (OSError, ValueError, pyrage.DecryptError, pyrage.IdentityError) as error:
        raise SecretsError(
            f"cannot decrypt {path} with the identity in {file}",
            do=f"Name the right identity file in {_IDENTITY}.",
        ) from error


def _identities(text: str) -> list[Any]:
    import pyrage

    if "PRIVATE KEY" in text:
        return [pyrage.ssh.Identity.from_buffer(text.encode())]
    lines = (line.strip() for line in text.splitlines())
    return [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-")]
