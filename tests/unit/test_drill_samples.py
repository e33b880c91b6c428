"""What a drill asks hosts several times a second: real shells, Pythons and Perls, on loopback."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from builder import registry
from builder.drill import samples
from builder.security.authority import CertificateRequest, derived_key, new_authority
from builder.spec.model import ClusterSpec
from roles.haproxy.status import writes_to
from roles.patroni.ask import leads

ROWS = """\
# pxname,svname,{empty}status
primary,FRONTEND,{empty}OPEN
primary,pg1,{empty}UP 1/2
primary,pg2,{empty}DOWN
primary,BACKEND,{empty}UP
replica,pg2,{empty}UP
""".format(empty="," * 15)


@pytest.fixture
def spec(world: Any) -> ClusterSpec:
    found: ClusterSpec = world("seven").spec
    return found


@contextmanager
def serving(answer: Callable[[str], tuple[int, str]], tls: ssl.SSLContext | None) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answer(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_OPTIONS = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def silent() -> Iterator[int]:
    """Takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def asked(script: str, times: int) -> list[str]:
    done = subprocess.run(
        ["sh", "-c", script],
        input="\n" * times,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


# ── the loop ────────────────────────────────────────────────────────────────────────────────────
def test_hosts_that_a_role_watches_are_asked_and_the_rest_is_left_alone(spec: ClusterSpec) -> None:
    found = samples.scripts(spec, registry.roles())
    assert set(found) == {"pg1", "pg2", "lb1", "lb2"}
    for script in found.values():
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_a_look_holds_the_words_of_all_roles_and_all_ends_with_its_reader(
    spec: ClusterSpec, tmp_path: Path
) -> None:
    ended = tmp_path / "ended"
    said = {"patroni": "primary", "haproxy": "up:pg1 up:pg2", "keepalived": "holder"}

    def tells(name: str) -> str:
        return f"while read -r _; do echo {said[name]}; done; echo x >>{ended}"

    roles = {
        name: replace(registry.roles()[name], watch=lambda *_, name=name: tells(name))
        for name in said
    }
    everything = replace(spec.hosts["pg1"], roles=tuple(said))
    script = samples.scripts(replace(spec, hosts={"pg1": everything}), roles, 0.04)["pg1"]
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout
        for _ in range(3):
            sample = samples.parse("pg1", shell.stdout.readline(), 7.0)
            assert sample
            assert sample.words == {"primary", "up:pg1", "up:pg2", "holder"}
        shell.stdout.close()
        shell.wait(10)
    with subprocess.Popen(["sh", "-c", f"until [ $(wc -l <{ended}) = 3 ]; do :; done"]) as waits:
        assert waits.wait(10) == 0


@pytest.mark.parametrize("line", ["", "100.00", "100.00 x", "Last login: never"])
def test_half_a_line_says_nothing(line: str) -> None:
    assert samples.parse("lb1", line, 7.0) is None


def test_a_look_that_took_too_long_says_nothing() -> None:
    sample = samples.parse("lb1", "100.00 100.05 holder up:pg1", 7.0)
    assert sample
    assert sample.words == {"holder", "up:pg1"}
    assert samples.parse("pg1", "100.00 160.00 primary", 7.0) is None


# ── what is asked ───────────────────────────────────────────────────────────────────────────────
def where(spec: ClusterSpec, section: str, **values: Any) -> ClusterSpec:
    sections = {**spec.sections, section: {**spec.sections[section], **values}}
    return replace(spec, sections=sections)


def test_a_balancer_says_who_would_get_a_write(spec: ClusterSpec) -> None:
    with serving(lambda path: (200, ROWS if path == "/stats;csv" else ""), None) as port:
        script = writes_to(where(spec, "haproxy", status_port=port), spec.hosts["lb1"])
        assert asked(script, 3) == ["up:pg1"] * 3


def test_a_balancer_that_is_gone_or_hangs_leads_nobody(spec: ClusterSpec) -> None:
    with silent() as port:
        hangs = writes_to(where(spec, "haproxy", status_port=port), spec.hosts["lb1"])
        assert asked(hangs, 2) == ["", ""]
    assert asked(hangs, 2) == ["", ""]


@pytest.fixture
def patroni(tmp_path: Path) -> ssl.SSLContext:
    """TLS of a Patroni on loopback; its CA is in ca.crt."""
    now = datetime.now(UTC)
    authority, key = new_authority("CA", now), derived_key(b"x" * 32, "pg1", "server", 1)
    request = CertificateRequest(common_name="pg1", addresses=("127.0.0.1",), server=True)
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    both = tmp_path / "server.pem"
    both.write_text(authority.issue(request, key, now).decode() + key.reveal())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return context


def leading(spec: ClusterSpec, port: int, folder: Path) -> str:
    here = replace(spec.hosts["pg1"], address="127.0.0.1")
    script = leads(where(spec, "patroni", rest_port=port), here)
    return script.replace("/etc/patroni/tls", str(folder))


def test_a_database_host_says_whether_patroni_has_it_written_to(
    spec: ClusterSpec, tmp_path: Path, patroni: ssl.SSLContext
) -> None:
    said = iter((200, 503, 200))
    with serving(lambda path: (next(said) if path == "/primary" else 404, ""), patroni) as port:
        assert asked(leading(spec, port, tmp_path), 3) == ["primary", "", "primary"]


def test_a_patroni_that_is_gone_or_hangs_or_is_another_leads_nothing(
    spec: ClusterSpec, tmp_path: Path, patroni: ssl.SSLContext
) -> None:
    with silent() as port:
        script = leading(spec, port, tmp_path)
        assert asked(script, 2) == ["", ""]
    assert asked(script, 2) == ["", ""]
    other = new_authority("another", datetime.now(UTC))
    (tmp_path / "ca.crt").write_bytes(other.certificate_pem)
    with serving(lambda _: (200, ""), patroni) as port:
        assert asked(leading(spec, port, tmp_path), 2) == ["", ""]
