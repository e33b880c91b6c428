"""Which name servers a lab host asks: the machine's own, if a host can reach them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def resolver() -> str:
    """The text of a host's /etc/resolv.conf."""
    return reachable(path.read_text() for path in FILES if path.exists())


def reachable(texts: Iterable[str]) -> str:
    """The first of `texts` that names a server beyond the machine's own loopback; else nothing.

    A stub resolver on 127.0.0.53 answers the machine alone; systemd-resolved keeps the list of the
    real ones in the second file. Pure.
    """
    for text in texts:
        servers = [words[1] for words in map(str.split, text.splitlines()) if _names_server(words)]
        if any(not server.startswith(("127.", "::1")) for server in servers):
            return text
    return ""


def _names_server(words: list[str]) -> bool:
    return len(words) > 1 and words[0] == "nameserver"
