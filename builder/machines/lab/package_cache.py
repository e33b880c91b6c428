"""A small HTTP proxy for apt, so that seven hosts fetch each package from the mirror once.

Packages never change under their name, so they are kept; anything else passes through. Hosts that
ask for the same package at once share one download and receive it while it comes in. Every host
keeps its own archives directory and apt's own locks; that is why this is a proxy and not a shared
directory. Runs as a process of its own in the lab's cgroup:
`python -m builder.machines.lab.package_cache ADDRESS PORT DIRECTORY`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

from builder.machines.lab.layout import UPSTREAM

_BLOCK = 1 << 18
_PASSED = ("If-Modified-Since", "If-Range", "Range", "User-Agent", "Cache-Control")
_RETURNED = ("Content-Length", "Content-Range", "Content-Type", "Last-Modified", "ETag")
_SECONDS = 60


class Download:
    """One package on its way in: one thread fetches it to a file, readers follow the file.

    The file stays open, and so readable, for as long as anybody holds this object.
    """

    def __init__(self, answer: IO[bytes], length: int | None, target: Path) -> None:
        self.length = length
        self._answer = answer
        self._target = target
        self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - see the docstring
            dir=target.parent, prefix=".incoming-", buffering=0, delete=False
        )
        self._changed = threading.Condition()
        self._written = 0
        self._ended = False

    def fetch(self) -> None:
        """Fetch it all; only a complete file gets the package's name."""
        try:
            with self._answer:
                while block := self._answer.read(_BLOCK):
                    self._file.write(block)
                    self._tell(len(block), ended=False)
            if self._written == self.length:
                Path(self._file.name).rename(self._target)
        finally:
            self._tell(0, ended=True)
            Path(self._file.name).unlink(missing_ok=True)

    def blocks(self) -> Iterator[bytes]:
        """The content as it comes in; less than `length` if the mirror breaks off."""
        sent = 0
        while self._more_than(sent):
            block = os.pread(self._file.fileno(), _BLOCK, sent)
            sent += len(block)
            yield block

    def _more_than(self, sent: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._written > sent or self._ended)
            return self._written > sent

    def _tell(self, count: int, *, ended: bool) -> None:
        with self._changed:
            self._written += count
            self._ended = ended
            self._changed.notify_all()


class Store:
    """The packages at hand, and those on their way."""

    def __init__(self, directory: Path, upstream: str | None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._coming: dict[Path, Download] = {}
        proxies = urllib.request.ProxyHandler({"http": upstream} if upstream else {})
        self.opener = urllib.request.build_opener(proxies)

    def path(self, url: str) -> Path:
        name = sha256(url.encode()).hexdigest()[:16]
        return self._directory / f"{name}-{url.rpartition('/')[2][-150:]}"

    def get(self, url: str) -> Path | Download:
        """The package's file, or the download that brings it."""
        path = self.path(url)
        with self._lock:
            if path.exists():
                return path
            if path not in self._coming:
                self._coming[path] = self._begin(url, path)
            return self._coming[path]

    def _begin(self, url: str, path: Path) -> Download:
        answer = self.opener.open(url, timeout=_SECONDS)
        length = answer.headers["Content-Length"]
        download = Download(answer, int(length) if length else None, path)
        threading.Thread(target=self._finish, args=(download, path), daemon=True).start()
        return download

    def _finish(self, download: Download, path: Path) -> None:
        try:
            with contextlib.suppress(OSError):  # readers notice by the length
                download.fetch()
        finally:
            with self._lock:
                del self._coming[path]


class Handler(BaseHTTPRequestHandler):
    """Answers apt. Only plain HTTP is proxied; hosts reach HTTPS through the gateway."""

    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        try:
            if not self.path.startswith("http://"):
                self.send_error(400, "this is a proxy for http://")
            elif self.path.endswith(".deb"):
                self._package(self.store.get(self.path))
            else:
                self._pass()
        except urllib.error.HTTPError as error:
            self._relay(error.code, error)
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True
        except OSError as error:
            self.close_connection = True
            self.send_error(502, f"the mirror cannot be reached: {error}")

    def _package(self, found: Path | Download) -> None:
        if isinstance(found, Download):
            self._head(200, found.length)
            sent = sum(self.wfile.write(block) for block in found.blocks())
            self.close_connection |= sent != found.length
            return
        with found.open("rb") as file:
            self._head(200, found.stat().st_size)
            shutil.copyfileobj(file, self.wfile, _BLOCK)

    def _head(self, status: int, length: int | None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self._end(complete=length is not None)

    def _pass(self) -> None:
        headers = {name: self.headers[name] for name in _PASSED if name in self.headers}
        request = urllib.request.Request(self.path, headers=headers)  # noqa: S310 - http:// only
        with self.store.opener.open(request, timeout=_SECONDS) as answer:
            self._relay(answer.status, answer)

    def _relay(self, status: int, answer: urllib.response.addinfourl) -> None:
        self.send_response(status)
        for name in _RETURNED:
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self._end(complete="Content-Length" in answer.headers or status == 304)
        if status != 304:
            shutil.copyfileobj(answer, self.wfile, _BLOCK)

    def _end(self, *, complete: bool) -> None:
        """End the headers; a body without a length ends with the connection."""
        if not complete:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: apt reports what matters to it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main(address: str, port: str, directory: str) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)
    Handler.store = Store(Path(directory), os.environ.get(UPSTREAM))
    Server((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
