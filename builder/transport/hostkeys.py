"""Which host keys we accept: pinned ones, else those in known_hosts. Never a new one by itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ChangedHostKeyError, HostKeyError
from builder.transport.base import Endpoint

if TYPE_CHECKING:
    from paramiko import PKey

_DEFAULT_FILES = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))


def accepted(endpoint: Endpoint) -> Sequence[tuple[str, str]]:
    """(type, base64 key) of every key that the host may show."""
    if endpoint.host_keys:
        pairs = (line.split()[:2] for line in endpoint.host_keys)
        return [(kind, key) for kind, key in pairs]
    return _known(endpoint)


def _known(endpoint: Endpoint) -> Sequence[tuple[str, str]]:
    from paramiko import HostKeys

    port = "" if endpoint.port == 22 else f":{endpoint.port}"
    found: list[tuple[str, str]] = []
    for file in endpoint.known_hosts or _DEFAULT_FILES:
        path = file.expanduser()
        if not path.is_file():
            continue
        keys = HostKeys(str(path))
        for name in (endpoint.address, endpoint.host):
            entries = keys.lookup(f"[{name}]{port}" if port else name)
            if entries is not None:
                found.extend((kind, key.get_base64()) for kind, key in entries.items())
    return found


def verify(endpoint: Endpoint, shown: PKey, known: Sequence[tuple[str, str]]) -> None:
    """Raises HostKeyError with both fingerprints unless the key is one of the known ones."""
    if any(key == shown.get_base64() for _, key in known):
        return
    actual = f"{shown.get_name()} {_fingerprint(shown.get_base64())}"
    if not known:
        raise HostKeyError(
            endpoint.host,
            f"its host key is not known: {actual}",
            why="Whoever answers at this address could be anybody.",
            do=f"Compare it on the host's console (ssh-keygen -lf), then: "
            f"ssh-keyscan {endpoint.address} >> ~/.ssh/known_hosts, or pin it as ssh.host_key.",
        )
    expected = ", ".join(f"{kind} {_fingerprint(key)}" for kind, key in known)
    raise ChangedHostKeyError(
        endpoint.host,
        f"its host key has changed: it shows {actual}, known is {expected}",
        why="Either the host was reinstalled, or somebody else answers at its address.",
        do="Find out which; only then remove the old key (ssh-keygen -R).",
    )


def _fingerprint(key: str) -> str:
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
