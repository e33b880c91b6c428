"""SSH keys of a lab: one that opens its hosts, and each host's own, known because we made it."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def ensure_key(path: Path) -> str:
    """The public key of the Ed25519 key at `path`, which is made if there is none.

    The public half is written first and the private one renamed into place: half a pair is none.
    """
    public = path.with_name(f"{path.name}.pub")
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        _write_private(path, private)
    return public.read_text()


def _write_private(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.rename(path)
