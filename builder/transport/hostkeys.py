"""Which host keys we accept: pinned ones, else those in known_hosts. Never a new one by itself."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ChangedHostKeyError, HostKeyError
from builder.transport.base import Endpoint

if TYPE_CHECKING:
    from paramiko import PKey
    from paramiko.hostkeys import HostKeyEntry

_DEFAULT_FILES = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
_HASHED = re.compile(r"\|1\|[A-Za-z0-9+/]{27}=\|[A-Za-z0-9+/]{27}=")


def accepted(endpoint: Endpoint) -> Sequence[tuple[str, str]]:
    """(type, base64 key) of every key that the host may show."""
    if endpoint.host_keys:
        pairs = (line.split()[:2] for line in endpoint.host_keys)
        return [(kind, key) for kind, key in pairs]
    return _known(endpoint)


def _known(endpoint: Endpoint) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    revoked: set[str] = set()
    for file in endpoint.known_hosts or _DEFAULT_FILES:
        for mark, entry in _entries(endpoint.host, file.expanduser()):
            if mark == "@revoked":  # for whichever host
                revoked.add(entry.key.get_base64())
            elif not mark and _is_of(endpoint, entry):
                found.append((entry.key.get_name(), entry.key.get_base64()))
    return [(kind, key) for kind, key in found if key not in revoked]


def _entries(host: str, path: Path) -> Iterator[tuple[str, HostKeyEntry]]:
    """Each with its mark, such as @cert-authority, or "". Raises HostKeyError for a broken line."""
    from paramiko import SSHException
    from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        mark = words.pop(0) if words and words[0].startswith("@") else ""
        if not words or words[0].startswith("#"):
            continue
        try:
            entry = HostKeyEntry.from_line(" ".join(words), number)
        except SSHException:  # a kind of key that paramiko cannot read is nobody's here
            continue
        except (InvalidHostKey, ValueError) as error:
            raise HostKeyError(
                host,
                f"{path}:{number}: the key in this line is damaged",
                why="Who may answer at a host's address is read from that file.",
                do="Mend the line or remove it, or pin the keys of hosts as ssh.host_key.",
            ) from error
        if entry:
            yield mark, entry


def _is_of(endpoint: Endpoint, entry: HostKeyEntry) -> bool:
    from paramiko import HostKeys

    wanted = {_name(endpoint, place) for place in (endpoint.address, endpoint.host)}
    hashed = [name for name in entry.hostnames if _HASHED.fullmatch(name)]
    wanted |= {HostKeys.hash_host(name, salted) for name in wanted for salted in hashed}
    return not wanted.isdisjoint(entry.hostnames)


def _name(endpoint: Endpoint, place: str) -> str:
    """As known_hosts has it."""
    return place if endpoint.port == 22 else f"[{place}]:{endpoint.port}"


def verify(endpoint: Endpoint, shown: PKey, known: Sequence[tuple[str, str]]) -> None:
    """Raises HostKeyError with both fingerprints unless the key is one of the known ones."""
    if any(key == shown.get_base64() for _, key in known):
        return
    actual = f"{shown.get_name()} {_fingerprint(shown.get_base64())}"
    if not known:
        port = "" if endpoint.port == 22 else f"-p {endpoint.port} "
        file = (endpoint.known_hosts or _DEFAULT_FILES)[0]
        raise HostKeyError(
            endpoint.host,
            f"its host key is not known: {actual}",
            why="Whoever answers at this address could be anybody.",
            do=f"Compare it on the host's console (ssh-keygen -lf), then: ssh-keyscan {port}"
            f"{endpoint.address} >> {file}, or pin it as ssh.host_key.",
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
