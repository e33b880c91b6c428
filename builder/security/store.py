"""The secrets file beside cluster.yml: passwords, authorities, and the seed of all leaf keys.

`cluster.secrets.yml`, readable by its owner only; or `cluster.secrets.age`, encrypted to the
recipients that `cluster.secrets.recipients` lists (one `age1…` or `ssh-ed25519 …` per line).
docs/explanation/secrets.md.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from builder.errors import SecretsError
from builder.security import rotation
from builder.security.authority import Authority, derived_key, new_authority
from builder.security.content import PARTS, Content, checked, fresh, merged, new_password
from builder.security.secret import Secret
from builder.security.vault import Vault


class SecretStore:
    """Everything secret of one cluster; the same name always gives the same secret.

    What is asked for the first time is generated, and lasts once `save` has been called.
    """

    def __init__(self, vault: Vault, name: str) -> None:
        self._vault = vault
        self._name = name
        there = vault.read()
        self._there = there
        self._content = fresh() if there is None else checked(there, vault.path)
        self._kept = _names(self._content)
        self.is_new = there is None
        self._owed = not vault.exists() or "id" not in (there or {}) or self._readers_changed()
        self._authorities: dict[str, Authority] = {}
        self._keys: dict[tuple[str, str], Secret] = {}

    def __repr__(self) -> str:
        return f"SecretStore({str(self.path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretStore is not pickled")

    @property
    def path(self) -> Path:
        return self._vault.path

    def password(self, name: str) -> Secret:
        passwords = self._content["passwords"]
        if name not in passwords:
            passwords[name] = new_password()
            self._owed = True
        return Secret(passwords[name])

    def authority(self, name: str) -> Authority:
        if name not in self._authorities:
            known = name in self._content["authorities"]
            self._authorities[name] = self._recorded(name) if known else self._made(name)
        return self._authorities[name]

    def _recorded(self, name: str) -> Authority:
        record = self._content["authorities"][name]
        found = Authority(
            certificate_pem=record["certificate"].encode(),
            key_pem=Secret(record["key"]),
            beside=rotation.trusted_beside(record),
        )
        if not found.is_whole():
            raise SecretsError(
                f"{self.path}: authorities.{name}: certificate and key do not belong together",
                do="Restore the file from your copy.",
            )
        return found

    def _made(self, name: str) -> Authority:
        made = self._new_authority(name, datetime.now(UTC))
        self._content["authorities"][name] = rotation.as_record(made)
        self._owed = True
        return made

    def _new_authority(self, name: str, now: datetime) -> Authority:
        return new_authority(f"{self._name} {name} CA", now)

    def leaf_key(self, host: str, purpose: str) -> Secret:
        if (host, purpose) not in self._keys:
            generations = self._content["generations"]
            generation = generations.get(purpose, generations.get(rotation.ALL_LEAVES, 1))
            self._keys[host, purpose] = derived_key(self._seed, host, purpose, generation)
        return self._keys[host, purpose]

    def salt(self, name: str) -> bytes:
        """16 bytes, always the same for a name and its password."""
        message = f"salt|{name}|{self.password(name).reveal()}".encode()
        return hmac.new(self._seed, message, hashlib.sha256).digest()[:16]

    @property
    def id(self) -> str:
        """Tells this file from another cluster's, whatever in it is replaced; it is no secret."""
        return str(self._content["id"])

    @property
    def _seed(self) -> bytes:
        return base64.b64decode(self._content["leaf_seed"])

    def values(self) -> Iterator[Secret]:
        """Every secret text, for tests that look for leaks."""
        yield from (Secret(text) for text in self._content["passwords"].values())
        for record in self._content["authorities"].values():
            yield from (Secret(one["key"]) for one in (record, record.get("coming")) if one)
        yield Secret(self._content["leaf_seed"])
        yield from self._keys.values()

    def save(self) -> bool:
        """Write what is new. Two processes that do so at once end up with the same secrets.

        False: somebody else was first, and their secrets took the place of ours; whatever was made
        of ours has to be made anew.
        """
        if not self._owed:
            return True
        ours = self._content
        with _locked(self.path):
            there = self._vault.read()
            if there is not None:
                self._content = merged(checked(there, self.path), ours, self.path)
            self._content["readers"] = self._readers
            self._write()
        return all(self._content[part] | ours[part] == self._content[part] for part in PARTS)

    def rotate(self, change: Callable[[Content], Content]) -> None:
        """Replace secrets by others, on disk before anybody uses them.

        Raises SecretsError where somebody else has written the file since we read it, and where
        some that are asked for are not in it yet: no host knows them.
        """
        if new := [
            n for part, names in _names(self._content).items() for n in names - self.kept(part)
        ]:
            raise SecretsError(
                f"{self.path} does not hold {', '.join(sorted(new))} yet",
                why="cluster.yml asks for more than was applied.",
                do="pgha-build apply, then this again.",
            )
        with _locked(self.path):
            if self._vault.read() != self._there or self.is_new:
                raise SecretsError(
                    f"{self.path} was written by somebody else in the meantime",
                    do="Run the command again: it will use those secrets.",
                )
            self._content = change(self._content)
            self._write()

    def announce(self) -> None:
        """Begin a rotation of the authorities (`rotation`)."""
        now = datetime.now(UTC)
        self.rotate(lambda c: rotation.announced(c, lambda n: self._new_authority(n, now)))

    @property
    def phase(self) -> rotation.Phase:
        return rotation.phase(self._content)

    @property
    def password_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._content["passwords"]))

    def kept(self, part: str) -> frozenset[str]:
        """The names of `passwords` or `authorities` that are in the file, not in memory alone."""
        return self._kept[part]

    def _write(self) -> None:
        self._vault.write(self._content)
        self._there = self._vault.read()
        self._kept = _names(self._content)
        self.is_new = self._owed = False
        self._authorities.clear()
        self._keys.clear()

    @property
    def _readers(self) -> list[str]:
        """To whom the file is encrypted, which age itself does not say."""
        return sorted(self._vault.recipients)

    def _readers_changed(self) -> bool:
        return bool(self._content.get("readers", []) != self._readers)


def _names(content: Content) -> Mapping[str, frozenset[str]]:
    return {part: frozenset(content[part]) for part in PARTS}


def open_store(spec_path: Path, name: str) -> SecretStore:
    """The secrets of the cluster `name` that `spec_path` describes; new ones if there are none."""
    return SecretStore(Vault.beside(spec_path), name)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; the lock ends with its process. Raises SecretsError."""
    target = path.resolve()
    try:
        lock = target.with_name(f".lock.{target.name}")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SecretsError(f"cannot write beside {target}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
