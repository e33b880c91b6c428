"""Hosts that take too long to log in: not refused, and given more time than ones that hang."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from builder.errors import AuthenticationError, TransportError
from builder.transport.base import Endpoint
from builder.transport.ssh import connect
from tests.transport.test_ssh import new_key

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve, folder: Path) -> Iterator[Endpoint]:
    """One connection on a port of our own, and who logs in there."""
    host_key = new_key(folder / "host")
    new_key(folder / "id")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: serve(listener.accept()[0]), daemon=True)
        thread.start()
        yield Endpoint(
            host="slow",
            address="127.0.0.1",
            port=listener.getsockname()[1],
            user="root",
            identity_files=(folder / "id",),
            host_keys=(host_key,),
            agent=False,
        )
        thread.join(10)
        assert not thread.is_alive()


def until_it_hangs_up(sock: socket.socket, banner: bytes = b"") -> None:
    with sock:
        sock.settimeout(10)
        sock.sendall(banner)
        while sock.recv(4096):
            pass


def test_a_host_that_says_nothing_is_given_up_after_its_time(tmp_path: Path) -> None:
    with (
        serving(until_it_hangs_up, tmp_path) as endpoint,
        pytest.raises(TransportError, match=r"slow: SSH failed: .*banner"),
    ):
        connect(endpoint, timeout_seconds=0.2)


def test_a_host_that_is_slow_to_encrypt_is_said_to_be(tmp_path: Path) -> None:
    with (
        serving(lambda s: until_it_hangs_up(s, b"SSH-2.0-slow\r\n"), tmp_path) as endpoint,
        pytest.raises(TransportError, match=r"slow: SSH failed: no encrypted .* within 0\.4 s"),
    ):
        connect(endpoint, timeout_seconds=0.2)


class Ponders(paramiko.ServerInterface):
    """Lets nobody in before `decided`."""

    def __init__(self) -> None:
        self.decided = threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.decided.wait(10)
        return paramiko.common.AUTH_FAILED


def test_a_key_without_an_answer_was_not_refused(tmp_path: Path) -> None:
    server = Ponders()

    def serve(sock: socket.socket) -> None:
        with paramiko.Transport(sock) as transport:
            transport.add_server_key(paramiko.Ed25519Key(filename=str(tmp_path / "host")))
            transport.start_server(event=threading.Event(), server=server)
            transport.join(10)

    with serving(serve, tmp_path) as endpoint:
        with pytest.raises(TransportError, match=r"no answer to .*/id within 1 s") as caught:
            connect(endpoint, timeout_seconds=0.5)
        server.decided.set()
    assert not isinstance(caught.value, AuthenticationError)
