"""Connections to hosts over SSH, by paramiko: one transport per host, a channel per script.

A script travels on stdin, wrapped into a function that is called on its last line: a connection
that breaks in the middle leaves an unfinished function, which runs nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from builder.errors import AuthenticationError, CommandTimeout, ConnectionLost, TransportError
from builder.transport.base import Completed, Connection, Connections, Endpoint
from builder.transport.hold import HeldScript
from builder.transport.login import log_in, open_socket

if TYPE_CHECKING:
    from paramiko import Channel, Transport

_GRACE_SECONDS = 15
_CHUNK = 65536


class SshConnection:
    """One host, reached."""

    def __init__(self, endpoint: Endpoint, transport: Transport, above: Connection | None) -> None:
        self.host = endpoint.host
        self._endpoint = endpoint
        self._transport = transport
        self._above = above
        self._sudo_password: str | None = None  # None: sudo does not ask

    def settle_sudo(self) -> None:
        """Learn whether sudo asks, and try the password before any script is sent.

        Where sudo would not ask, a password sent ahead of a script would be run as a command.
        """
        ask = self._endpoint.sudo_password
        if self._endpoint.user == "root" or not ask or self._accepts("sudo -k -n true", ""):
            return
        password = ask()
        if not self._accepts("sudo -k -S -p '' true", password):
            raise AuthenticationError(
                self.host,
                f"sudo refuses {self._endpoint.user}: the password is wrong, or it may not",
                do="Log in there and try `sudo true`.",
            )
        self._sudo_password = password

    def _accepts(self, command: str, line: str) -> bool:
        """Whether a command that needs no more than one line ends well."""
        channel = self._session(command)
        try:
            channel.sendall(f"{line}\n".encode())
            channel.shutdown_write()
        except (OSError, EOFError) as error:
            raise self._lost(error) from error
        ended = channel.status_event.wait(_GRACE_SECONDS)
        status = channel.recv_exit_status() if ended else -1
        channel.close()
        return status == 0

    def run(
        self,
        script: str,
        *,
        timeout_seconds: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        start = time.monotonic()
        channel = self._open(f"timeout -k 10 {int(timeout_seconds)} sh")
        errors: list[bytes] = []
        drain = threading.Thread(target=_drain, args=(channel, errors), daemon=True)
        drain.start()
        try:
            channel.sendall(self._wrapped(script, "</dev/null"))
            channel.shutdown_write()
            output = self._read(channel, start + timeout_seconds + _GRACE_SECONDS, on_line)
        except (OSError, EOFError) as error:
            raise self._lost(error) from error
        drain.join(_GRACE_SECONDS)
        status = self._status(channel, timeout_seconds)
        return Completed(
            status=status,
            stdout=output,
            stderr=b"".join(errors).decode("utf-8", "replace"),
            seconds=time.monotonic() - start,
        )

    def hold(self, script: str, *, timeout_seconds: float) -> HeldScript:
        channel = self._open("sh")
        try:
            channel.sendall(self._wrapped(script, ""))
        except (OSError, EOFError) as error:
            raise self._lost(error) from error
        return HeldScript(self.host, channel, timeout_seconds)

    @property
    def stands(self) -> bool:
        """Nothing has ended it yet."""
        return bool(self._transport.is_active())

    def close(self) -> None:
        self._transport.close()
        if self._above:
            self._above.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self, command: str) -> Channel:
        """A channel on which `command`, a constant, already waits for its stdin, as root."""
        return self._session(self._privileged(command))

    def _session(self, command: str) -> Channel:
        try:
            channel = self._transport.open_session(timeout=_GRACE_SECONDS)
            channel.settimeout(_GRACE_SECONDS)
            channel.exec_command(command)
        except Exception as error:  # paramiko raises whatever ended its thread
            raise self._lost(error) from error
        return channel

    def _privileged(self, command: str) -> str:
        if self._endpoint.user == "root":
            return command
        if self._sudo_password is not None:
            return f"sudo -k -S -p '' -- {command}"
        return f"sudo -n -- {command}"

    def _wrapped(self, script: str, stdin: str) -> bytes:
        password = "" if self._sudo_password is None else f"{self._sudo_password}\n"
        return f"{password}pgha_main() {{\n{script}\n}}\npgha_main {stdin}\nexit\n".encode()

    def _read(
        self, channel: Channel, deadline: float, on_line: Callable[[str], None] | None
    ) -> str:
        parts: list[str] = []
        for line in _lines(channel, deadline, self.host):
            parts.append(line)
            if on_line:
                on_line(line.rstrip("\n"))
        return "".join(parts)

    def _status(self, channel: Channel, timeout_seconds: float) -> int:
        channel.status_event.wait(_GRACE_SECONDS)
        status = channel.recv_exit_status() if channel.exit_status_ready() else -1
        channel.close()
        if status == -1:
            raise self._lost(None)
        if status in {124, 137}:
            raise CommandTimeout(
                self.host, f"did not finish within {timeout_seconds:g} s, and was ended there"
            )
        return status

    def _lost(self, error: BaseException | None) -> ConnectionLost:
        reason = f": {error}" if error and str(error) else ""
        return ConnectionLost(
            self.host,
            f"the connection was lost{reason}",
            do="See whether the host is up, and run it again; what was done is not lost.",
        )


def _drain(channel: Channel, into: list[bytes]) -> None:
    try:
        while chunk := channel.recv_stderr(_CHUNK):
            into.append(chunk)
    except OSError:
        return  # the reader of stdout reports it


def _lines(channel: Channel, deadline: float, host: str) -> Iterator[str]:
    rest = b""
    while True:
        try:
            channel.settimeout(max(0.1, deadline - time.monotonic()))
            chunk = channel.recv(_CHUNK)
        except TimeoutError as error:
            channel.close()
            raise CommandTimeout(host, "did not answer within its time limit") from error
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "replace") + "\n" for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")


def connect(endpoint: Endpoint, *, timeout_seconds: float = 15) -> SshConnection:
    """Reach a host; its key is checked before logging in. Raises TransportError and its kinds."""
    above = connect(endpoint.jump, timeout_seconds=timeout_seconds) if endpoint.jump else None
    try:
        sock = open_socket(endpoint, above._transport if above else None, timeout_seconds)
        transport = log_in(endpoint, sock, timeout_seconds)
    except BaseException:
        if above:
            above.close()
        raise
    connection = SshConnection(endpoint, transport, above)
    try:
        connection.settle_sudo()
    except BaseException:
        connection.close()
        raise
    return connection


class SshConnections(Connections):
    """All hosts at once, in parallel; who cannot be reached is an error in its place."""

    def __init__(self, endpoints: Mapping[str, Endpoint], timeout_seconds: float = 15) -> None:
        super().__init__()
        self.reach(endpoints, timeout_seconds)

    def reach(self, endpoints: Mapping[str, Endpoint], timeout_seconds: float = 15) -> None:
        """Connect to more hosts, too."""
        with ThreadPoolExecutor(max_workers=max(1, len(endpoints))) as pool:
            found = pool.map(lambda e: _attempt(e, timeout_seconds), endpoints.values())
            self.update(zip(endpoints, found, strict=True))

    def _stands(self, host: str) -> bool:
        connection = self.get(host)
        return isinstance(connection, SshConnection) and connection.stands

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        open_ones = [c for c in self.values() if isinstance(c, SshConnection)]
        with ThreadPoolExecutor(max_workers=max(1, len(open_ones))) as pool:
            list(pool.map(SshConnection.close, open_ones))


def _attempt(endpoint: Endpoint, timeout_seconds: float) -> SshConnection | TransportError:
    try:
        return connect(endpoint, timeout_seconds=timeout_seconds)
    except TransportError as error:
        return error
    except (OSError, EOFError) as error:
        return TransportError(endpoint.host, f"cannot be reached: {error}")
