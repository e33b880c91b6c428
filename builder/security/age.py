"""Encryption of the secrets file to age recipients (age-encryption.org), through pyrage."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.errors import SecretsError

_IDENTITY = "PGHA_AGE_IDENTITY"
_DEFAULT = "~/.config/pgha-build/age.txt"


def encrypted(text: str, recipients: Sequence[str]) -> bytes:
    """Raises SecretsError for a recipient that is none; it is counted, not quoted."""
    import pyrage

    parsed = [_recipient(line, number) for number, line in enumerate(recipients, 1)]
    return bytes(pyrage.encrypt(text.encode(), parsed))


def _recipient(line: str, number: int) -> Any:
    import pyrage

    kinds = {"age1": pyrage.x25519.Recipient, "ssh-": pyrage.ssh.Recipient}
    try:
        return kinds[line[:4]].from_str(line)
    except (KeyError, pyrage.RecipientError):
        pass  # its message, and the line itself, may be a private key that was pasted by mistake
    raise SecretsError(
        f"recipient {number} of the secrets file cannot be used",
        do="Expected age1… or ssh-ed25519 …, one per line.",
    )


def decrypted(raw: bytes, path: Path) -> bytes:
    """Raises SecretsError where no identity is there, or it is not one that `path` is for."""
    import pyrage

    file = Path(os.environ.get(_IDENTITY) or _DEFAULT).expanduser()
    identities = _identities(file, path)
    try:
        return bytes(pyrage.decrypt(raw, identities))
    except pyrage.DecryptError:
        pass
    raise SecretsError(
        f"cannot decrypt {path} with the identity in {file}",
        why="It is encrypted to others, or damaged.",
        do=f"Name the right identity file in {_IDENTITY}, or have your recipient added.",
    )


def _identities(file: Path, path: Path) -> list[Any]:
    import pyrage

    try:
        found = _parsed(file.read_text())
    except OSError as error:
        raise SecretsError(
            f"cannot decrypt {path}: no identity in {file}: {error.strerror}",
            do=f"Name your identity file in {_IDENTITY} (age-keygen makes one).",
        ) from error
    except (UnicodeDecodeError, pyrage.IdentityError):
        found = []  # the error may quote the identity
    if found:
        return found
    raise SecretsError(
        f"{file} holds no identity that can be used",
        why="Expected AGE-SECRET-KEY-1…, or an OpenSSH private key without a passphrase.",
        do=f"Name the right identity file in {_IDENTITY}.",
    )


def _parsed(text: str) -> list[Any]:
    import pyrage

    if "PRIVATE KEY" in text:
        return [pyrage.ssh.Identity.from_buffer(text.encode())]
    lines = (line.strip() for line in text.splitlines())
    return [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-")]
