"""The package cache, between a real mirror (a small one, here) and real clients."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builder.machines.lab.package_cache import Handler, Server, Store

PACKAGE = bytes(range(256)) * 4000


@dataclass
class Mirror:
    """A mirror that counts, and that can be slow or break off."""

    asked: list[str] = field(default_factory=list)
    broken: bool = False
    headers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Setting:
    mirror: Mirror
    base: str
    proxy: str
    store: Path

    def get(self, path: str, **headers: str) -> bytes:
        handler = urllib.request.ProxyHandler({"http": self.proxy})
        request = urllib.request.Request(self.base + path, headers=headers)  # noqa: S310 - our own
        with urllib.request.build_opener(handler).open(request, timeout=10) as answer:
            body: bytes = answer.read()
            return body


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    mirror = Mirror()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.asked.append(self.path)
            mirror.headers += list(self.headers)
            if "missing" in self.path:
                self.send_error(404)
            elif "If-Modified-Since" in self.headers:
                self.send_response(304)
                self.end_headers()
            else:
                self._body()

        def _body(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PACKAGE)))
            self.end_headers()
            self.wfile.write(PACKAGE[:1000])
            time.sleep(0.2)
            if not mirror.broken:
                self.wfile.write(PACKAGE[1000:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Cache(Handler):
        store = Store(tmp_path, None)

    servers = ThreadingHTTPServer(("127.0.0.1", 0), Answer), Server(("127.0.0.1", 0), Cache)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    base, proxy = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    yield Setting(mirror, base, proxy, tmp_path)
    for server in servers:
        server.shutdown()
        server.server_close()


def test_seven_hosts_at_once_cost_the_mirror_one_download(setting: Setting) -> None:
    with ThreadPoolExecutor(7) as pool:
        bodies = list(pool.map(setting.get, ["/pool/p_1_amd64.deb"] * 7))
    assert bodies == [PACKAGE] * 7
    assert setting.get("/pool/p_1_amd64.deb") == PACKAGE
    assert setting.mirror.asked == ["/pool/p_1_amd64.deb"]
    assert [path.read_bytes() for path in setting.store.iterdir()] == [PACKAGE]


def test_what_may_change_is_never_kept(setting: Setting) -> None:
    assert setting.get("/dists/trixie/InRelease") == PACKAGE
    assert setting.get("/dists/trixie/InRelease") == PACKAGE
    assert len(setting.mirror.asked) == 2
    assert not list(setting.store.iterdir())


def test_a_package_that_broke_off_is_an_error_and_is_not_kept(setting: Setting) -> None:
    setting.mirror.broken = True
    with pytest.raises(Exception, match="IncompleteRead"):
        setting.get("/pool/p_1_amd64.deb")
    setting.mirror.broken = False
    time.sleep(0.1)
    assert not list(setting.store.iterdir())
    assert setting.get("/pool/p_1_amd64.deb") == PACKAGE


@pytest.mark.parametrize("path", ["/pool/missing_1_amd64.deb", "/dists/missing"])
def test_an_error_of_the_mirror_is_passed_on(setting: Setting, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        setting.get(path)
    assert error.value.code == 404
    assert not list(setting.store.iterdir())


def test_unchanged_lists_are_not_transferred_again(setting: Setting) -> None:
    with pytest.raises(urllib.error.HTTPError) as answer:
        setting.get("/dists/trixie/InRelease", **{"If-Modified-Since": "Mon, 01 Jan 2026 00:00:00"})
    assert answer.value.code == 304


def test_a_mirror_that_is_gone_is_a_bad_gateway(setting: Setting) -> None:
    dead = Setting(setting.mirror, "http://127.0.0.1:9", setting.proxy, setting.store)
    for path in ("/p.deb", "/InRelease"):
        with pytest.raises(urllib.error.HTTPError) as error:
            dead.get(path)
        assert error.value.code == 502
