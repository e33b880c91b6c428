"""Whether hosts reach each other on the ports they need: listen there, and try from here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder.preflight.finding import Finding, error
from builder.resources.base import quoted
from builder.role import Opening
from builder.spec.model import ClusterSpec

# Listens where nobody does yet, says so, and ends with its stdin.
_LISTEN = """\
import socket, sys
held = []
for word in sys.argv[1:]:
    address, port = word.rsplit(":", 1)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try: s.bind((address, int(port))); s.listen(64); held.append(s)
    except OSError: pass
print("listening", flush=True)
while sys.stdin.readline(): pass
"""

# All at once, and without more than Debian's python3-minimal has.
_TRY = """\
import os, socket, sys, time
trying = {}
for word in sys.argv[1:]:
    address, port = word.rsplit(":", 1)
    s = socket.socket(); s.setblocking(False); s.connect_ex((address, int(port)))
    trying[word] = s
end = time.monotonic() + 3
while trying and time.monotonic() < end:
    time.sleep(0.05)
    for word, s in list(trying.items()):
        failed = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            if not failed: s.getpeername()
        except OSError: continue
        if failed: print("blocked", word, os.strerror(failed))
        del trying[word]
for word in trying: print("blocked", word, "no answer")
"""


@dataclass(frozen=True, kw_only=True)
class Link:
    """`source` must reach `target` at its `port`, for `what`."""

    source: str
    target: str
    address: str
    port: int
    what: str

    @property
    def word(self) -> str:
        return f"{self.address}:{self.port}"


def links(spec: ClusterSpec, openings: Mapping[str, Sequence[Opening]]) -> Iterator[Link]:
    """Every pair of different hosts that a role's opening names."""
    names = {host.address: host.name for host in spec.hosts.values()}
    for target, opened in openings.items():
        address = spec.hosts[target].address
        for opening in (o for o in opened if o.protocol == "tcp"):
            for source in (names.get(peer) for peer in opening.peers or ()):
                if source and source != target:
                    yield Link(
                        source=source,
                        target=target,
                        address=address,
                        port=opening.port,
                        what=opening.what,
                    )


def listener(wanted: Iterable[Link]) -> str:
    """Shell for the target of these links."""
    return f"python3 -c {quoted((_LISTEN, *_words(wanted)))}"


def attempt(wanted: Iterable[Link]) -> str:
    """Shell for the source of these links."""
    return f"python3 -c {quoted((_TRY, *_words(wanted)))} </dev/null"


def blocked(wanted: Sequence[Link], output: str) -> Iterator[Finding]:
    by_word = {link.word: link for link in wanted}
    for line in output.splitlines():
        words = line.split(" ", 2)
        if words[0] == "blocked" and words[1] in by_word:
            link = by_word[words[1]]
            yield error(
                link.source,
                f"does not reach {link.target} at port {link.port} ({link.what}): {words[2]}",
                "Open it in whatever stands between them.",
            )


def _words(wanted: Iterable[Link]) -> list[str]:
    return sorted({link.word for link in wanted})
