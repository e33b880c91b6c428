"""Whether hosts reach each other on the ports they need: listen there, and try from here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder.preflight.finding import Finding, error
from builder.resources.base import quoted
from builder.role import Opening
from builder.spec.model import ClusterSpec

# Listens where nobody does yet, says so, and ends with its stdin. Answers questions that come as
# VRRP, which for Keepalived are packets of an unknown version.
# Not more than Debian's python3-minimal has.
_LISTEN = """\
import os, socket, sys, time
held, raw = [], []
for word in sys.argv[1:]:
    address, port = word.rsplit(":", 1)
    try:
        if port == "vrrp":
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
            s.bind((address, 0)); s.setblocking(False); raw.append(s)
        else:
            s = socket.socket(); held.append(s)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, int(port))); s.listen(64)
    except OSError: pass
print("listening", flush=True)
os.set_blocking(0, False)
while True:
    try:
        if not os.read(0, 64): break
    except BlockingIOError: pass
    for s in raw:
        try: packet, peer = s.recvfrom(2048)
        except OSError: continue
        if packet.endswith(b"pgha-build?"): s.sendto(b"pgha-build!", peer)
    time.sleep(0.02)
"""

# All at once. A question by VRRP is asked again, for nobody promises that a packet arrives.
_TRY = """\
import os, socket, sys, time
trying = {}
for word in sys.argv[1:]:
    address, port = word.rsplit(":", 1)
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) if port == "vrrp" else socket.socket()
    s.setblocking(False)
    s.connect_ex((address, 0 if port == "vrrp" else int(port)))
    trying[word] = s

def answered(s):
    try:
        s.send(b"pgha-build?")
        return s.recv(2048).endswith(b"pgha-build!")
    except OSError: return False

def connected(s):
    try: return bool(s.getpeername())
    except OSError: return False

end = time.monotonic() + 3
while trying and time.monotonic() < end:
    time.sleep(0.05)
    for word, s in list(trying.items()):
        failed = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed: print("blocked", word, os.strerror(failed))
        elif not (answered if word.endswith(":vrrp") else connected)(s): continue
        del trying[word]
for word in trying: print("blocked", word, "no answer")
"""


@dataclass(frozen=True, kw_only=True)
class Link:
    """`source` must reach `target` at its `port`, for `what`; by VRRP where that is 0."""

    source: str
    target: str
    address: str
    port: int
    what: str

    @property
    def word(self) -> str:
        return f"{self.address}:{self.port or 'vrrp'}"


def links(spec: ClusterSpec, openings: Mapping[str, Sequence[Opening]]) -> Iterator[Link]:
    """Every pair of different hosts that a role's opening names."""
    names = {host.address: host.name for host in spec.hosts.values()}
    for target, opened in openings.items():
        address = spec.hosts[target].address
        for opening in opened:
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
            yield _finding(by_word[words[1]], words[2])


def _finding(link: Link, why: str) -> Finding:
    if not link.port:
        return error(
            link.source,
            f"does not reach {link.target} by {link.what} (IP protocol 112): {why}",
            "Both would take the virtual IP: let it through whatever stands between them.",
        )
    return error(
        link.source,
        f"does not reach {link.target} at port {link.port} ({link.what}): {why}",
        "Open it in whatever stands between them.",
    )


def _words(wanted: Iterable[Link]) -> list[str]:
    return sorted({link.word for link in wanted})
