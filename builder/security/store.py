"""The secrets file beside cluster.yml: passwords, authorities, and the seed of all leaf keys.

`cluster.secrets.yml`, readable by its owner only; or `cluster.secrets.age`, encrypted to the
recipients that `cluster.secrets.recipients` lists (one `age1…` or `ssh-ed25519 …` per line).
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import secrets
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.errors import SecretsError
from builder.security.authority import Authority, derived_key, new_authority
from builder.security.secret import Secret
from builder.security.vault import Vault

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 32
_VERSION = 1


class SecretStore:
    """Everything secret of one cluster; the same name always gives the same secret.

    What is asked for the first time is generated, and lasts once `save` has been called.
    """

    def __init__(self, vault: Vault, name: str) -> None:
        self._vault = vault
        self._name = name
        self._content = _checked(vault.read() or _fresh(), vault.path)
        self._generated: dict[str, dict[str, Any]] = {"passwords": {}, "authorities": {}}
        self._authorities: dict[str, Authority] = {}
        self._keys: dict[tuple[str, str], Secret] = {}

    def __repr__(self) -> str:
        return f"SecretStore({str(self.path)!r})"

    @property
    def path(self) -> Path:
        return self._vault.path

    def password(self, name: str) -> Secret:
        passwords = self._content["passwords"]
        if name not in passwords:
            text = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
            passwords[name] = self._generated["passwords"][name] = text
        return Secret(passwords[name])

    def authority(self, name: str) -> Authority:
        if name not in self._authorities:
            self._authorities[name] = self._authority(name)
        return self._authorities[name]

    def _authority(self, name: str) -> Authority:
        known = self._content["authorities"]
        if name in known:
            record = known[name]
            pem = record["certificate"].encode()
            return Authority(certificate_pem=pem, key_pem=Secret(record["key"]))
        made = new_authority(f"{self._name} {name} CA", datetime.now(UTC))
        record = {"certificate": made.certificate_pem.decode(), "key": made.key_pem.reveal()}
        known[name] = self._generated["authorities"][name] = record
        return made

    def leaf_key(self, host: str, purpose: str) -> Secret:
        if (host, purpose) not in self._keys:
            generation = self._content["generations"].get(purpose, 1)
            self._keys[host, purpose] = derived_key(self._seed, host, purpose, generation)
        return self._keys[host, purpose]

    def salt(self, name: str) -> bytes:
        """16 bytes, always the same for a name and its password."""
        message = f"salt|{name}|{self.password(name).reveal()}".encode()
        return hmac.new(self._seed, message, hashlib.sha256).digest()[:16]

    @property
    def _seed(self) -> bytes:
        return base64.b64decode(self._content["leaf_seed"])

    def values(self) -> Iterator[Secret]:
        """Every secret text, for tests that look for leaks."""
        yield from (Secret(text) for text in self._content["passwords"].values())
        yield from (Secret(record["key"]) for record in self._content["authorities"].values())
        yield Secret(self._content["leaf_seed"])

    def save(self) -> None:
        """Write what is new. Two processes that do so at once end up with the same secrets."""
        if self._vault.exists() and not any(self._generated.values()):
            return
        with _locked(self.path):
            there = self._vault.read()
            if there is not None:
                self._adopt(_checked(there, self.path))
            self._vault.write(self._content)
        self._generated = {"passwords": {}, "authorities": {}}

    def _adopt(self, there: dict[str, Any]) -> None:
        """Somebody else may have written since we read: theirs wins, ours is added."""
        if there["leaf_seed"] != self._content["leaf_seed"]:
            raise SecretsError(
                f"{self.path} was made by somebody else in the meantime",
                do="Run the command again: it will use those secrets.",
            )
        for part in ("passwords", "authorities"):
            there[part] = {**self._generated[part], **there[part]}
        self._content = there
        self._authorities.clear()


def open_store(spec_path: Path, name: str) -> SecretStore:
    """The secrets of the cluster `name` that `spec_path` describes; new ones if there are none."""
    return SecretStore(Vault.beside(spec_path), name)


def _fresh() -> dict[str, Any]:
    return {
        "version": _VERSION,
        "leaf_seed": base64.b64encode(secrets.token_bytes(32)).decode(),
        "passwords": {},
        "authorities": {},
        "generations": {},
    }


def _checked(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    missing = _fresh().keys() - content.keys()
    if missing or content["version"] != _VERSION:
        raise SecretsError(
            f"{path} is not a secrets file of this version of pgha-build",
            do="Restore it from your copy. Never make a new one for a cluster that runs.",
        )
    return dict(content)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
