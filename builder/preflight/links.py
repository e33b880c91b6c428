"""Whether hosts reach each other on the ports they need: listen there, and try from here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder.preflight.finding import Finding, error
from builder.resources.base import quoted
from builder.role import Opening
from builder.spec.model import ClusterSpec

# Listens where nobody does yet, says so, and ends with its stdin. Answers questions that come as
# VRRP, of a router that cannot be (0), which Keepalived therefore does not heed.
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
        try:
            packet, peer = s.recvfrom(2048)
            if packet.endswith(b"pgha-build?"): s.sendto(b"p\\0pgha-build!", peer)
        except OSError: continue
    time.sleep(0.02)  # until the next look
"""

# All at once, from the address that the host's services use. A question by VRRP is asked again, for
# nobody promises that a packet arrives.
_TRY = """\
import errno, os, socket, sys, time
own, trying = sys.argv[1], {}

def connected(s):
    failed = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed: raise OSError(failed, os.strerror(failed))
    return s.getpeername()

def answered(s):
    s.send(b"p\\0pgha-build?")
    return s.recv(2048).endswith(b"pgha-build!")

def tried(word, act):
    try: return act()
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EINPROGRESS, errno.ENOTCONN): return None
        print("blocked", word, error.strerror)
        return True

def begun(address, port):
    vrrp = port == "vrrp"
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) if vrrp else socket.socket()
    trying[address + ":" + port] = lambda: answered(s) if vrrp else connected(s)
    s.setblocking(False)
    if vrrp: s.bind((own, 0))
    s.connect((address, 0 if vrrp else int(port)))

for word in sys.argv[2:]:
    if tried(word, lambda: begun(*word.rsplit(":", 1))): trying.pop(word, None)
end = time.monotonic() + 3
while trying and time.monotonic() < end:
    time.sleep(0.05)  # until the next look
    for word, act in list(trying.items()):
        if tried(word, act): del trying[word]
for word in trying: print("blocked", word, "no answer")
"""


@dataclass(frozen=True, kw_only=True)
class Link:
    """`source` must reach `target` at its `port`, for `what`; by VRRP where that is 0."""

    source: str
    own: str  # the source's address
    target: str
    address: str
    port: int
    what: str

    @property
    def word(self) -> str:
        return f"{self.address}:{self.port or 'vrrp'}"


def links(spec: ClusterSpec, openings: Mapping[str, Sequence[Opening]]) -> Iterator[Link]:
    """Every pair of different hosts that a role's opening names.

    By VRRP only one of two asks: a firewall that lets in what belongs to a packet that went out
    would else let both questions in, and a balancer that waits sends none. For the same reason
    such a firewall on the side that asks is not seen.
    """
    names = {host.address: host.name for host in spec.hosts.values()}
    for target, opened in openings.items():
        address = spec.hosts[target].address
        for opening in opened:
            for source in (names.get(peer) for peer in opening.peers or ()):
                if source and source != target and (opening.port or source < target):
                    yield Link(
                        source=source,
                        own=spec.hosts[source].address,
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
    wanted = list(wanted)
    return f"python3 -c {quoted((_TRY, wanted[0].own, *_words(wanted)))} </dev/null"


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
            f"{link.target} and it do not hear each other by {link.what} (IP protocol 112): {why}",
            "Both would take the virtual IP: let it through whatever stands between them.",
        )
    return error(
        link.source,
        f"does not reach {link.target} at port {link.port} ({link.what}): {why}",
        "Open it in whatever stands between them.",
    )


def _words(wanted: Iterable[Link]) -> list[str]:
    return sorted({link.word for link in wanted})
