"""Reaching sshd, checking who answers, and logging in; in this order."""

from __future__ import annotations

import base64
import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import AuthenticationError, TransportError
from builder.transport.base import Endpoint
from builder.transport.hostkeys import accepted, verify

if TYPE_CHECKING:
    from paramiko import AgentKey, PKey, Transport

_UNACKNOWLEDGED_MS = 20000  # a host that has vanished is noticed after this
_CONNECT_SECONDS = 5  # a host that is up answers a SYN at once, even from another continent
_LOGIN_TIMES = 2  # as long as for its first word may a login take: busy hosts are alive
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")

# An RSA key is called by its kind in known_hosts, and by its signature when it is shown.
_SHOWN = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}

# What paramiko has to say it also raises; its log would put tracebacks before a person.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def open_socket(endpoint: Endpoint, through: Transport | None, timeout_seconds: float) -> Any:
    """A TCP connection, or a channel through the jump host."""
    from paramiko import SSHException

    try:
        if through is not None:
            target = (endpoint.address, endpoint.port)
            return through.open_channel(
                "direct-tcpip", target, ("127.0.0.1", 0), timeout=timeout_seconds
            )
        limit = min(timeout_seconds, _CONNECT_SECONDS)
        sock = socket.create_connection((endpoint.address, endpoint.port), limit)
        sock.settimeout(timeout_seconds)
    except (OSError, EOFError, SSHException) as error:  # a jump host refuses by the latter
        raise _unreachable(endpoint, error) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    return sock


def _unreachable(endpoint: Endpoint, error: Exception) -> TransportError:
    words = {
        errno.ECONNREFUSED: "nothing listens there",
        errno.EHOSTUNREACH: "no route to the host",
        errno.ENETUNREACH: "no route to its network",
    }
    number = getattr(error, "errno", None) or 0
    reason = words.get(number, str(error) or "timed out")
    return TransportError(
        endpoint.host,
        f"cannot be reached at {endpoint.address}:{endpoint.port}: {reason}",
        do="See whether the host is up, and whether sshd runs.",
    )


def log_in(endpoint: Endpoint, sock: Any, timeout_seconds: float) -> Transport:
    """A transport that is encrypted, verified and authenticated.

    A host that says nothing for `timeout_seconds` hangs; one that speaks may be slow: encryption,
    and each key, may take twice as long.
    """
    from paramiko import SSHException, Transport

    known = accepted(endpoint)
    transport = Transport(sock)
    transport.daemon = True
    transport.banner_timeout = timeout_seconds
    transport.auth_timeout = timeout_seconds * _LOGIN_TIMES
    if kinds := [kind for name, _ in known for kind in _SHOWN.get(name, (name,))]:
        options = transport.get_security_options()
        options.key_types = tuple(k for k in options.key_types if k in kinds) or options.key_types
    try:
        _encrypt(transport, timeout_seconds * _LOGIN_TIMES)
        verify(endpoint, transport.get_remote_server_key(), known)
        _authenticate(endpoint, transport)
    except TransportError:
        transport.close()
        raise
    except (SSHException, OSError, EOFError) as error:
        transport.close()
        raise TransportError(endpoint.host, f"SSH failed: {error}") from error
    transport.set_keepalive(10)
    return transport


def _encrypt(transport: Transport, seconds: float) -> None:
    """As `start_client` with a timeout, which says nothing where it ran out."""
    from paramiko import SSHException

    done = threading.Event()
    transport.start_client(event=done)
    if not done.wait(seconds):
        raise TimeoutError(f"no encrypted connection within {seconds:g} s")
    if not transport.is_active():
        raise transport.get_exception() or SSHException("it ended the connection")


def _authenticate(endpoint: Endpoint, transport: Transport) -> None:
    """A time-out is no refusal, though paramiko calls it one."""
    from paramiko import AuthenticationException

    tried: list[str] = []
    for name, load in _keys(endpoint):
        key = load()
        if isinstance(key, str):
            tried.append(f"{name} ({key})")
            continue
        tried.append(name)
        begin = time.monotonic()
        try:
            transport.auth_publickey(endpoint.user, key)
        except AuthenticationException as error:
            if time.monotonic() - begin >= (limit := transport.auth_timeout):
                raise TimeoutError(f"no answer to {name} within {limit:g} s") from error
            continue
        if transport.is_authenticated():
            return
    raise AuthenticationError(
        endpoint.host,
        f"refuses {endpoint.user}; tried {', '.join(tried) or 'no key at all'}",
        do="Put the public key into the user's authorized_keys there, or name another key.",
    )


Load = Callable[[], "PKey | str"]  # a key, or why there is none


def _keys(endpoint: Endpoint) -> Iterator[tuple[str, Load]]:
    """As OpenSSH: files that are named, the agent first where it holds them; then what there is."""
    held = _agent_keys(endpoint)
    named = endpoint.identity_files
    files = named or tuple(Path.home() / ".ssh" / name for name in _DEFAULT_KEYS)
    asked = {blob for file in named if (blob := _public(file))}
    first = [key for key in held if key.asbytes() in asked] if named else held
    yield from ((_agent_name(key), lambda key=key: key) for key in first)
    yield from (
        (str(file), lambda file=file: _load(file)) for file in files if named or file.is_file()
    )
    yield from ((_agent_name(key), lambda key=key: key) for key in held if key not in first)


def _agent_keys(endpoint: Endpoint) -> list[AgentKey]:
    """None where there is no agent, or one that does not answer."""
    from paramiko import Agent, SSHException

    try:
        return list(Agent().get_keys()) if endpoint.agent else []
    except (SSHException, OSError):
        return []


def _agent_name(key: AgentKey) -> str:
    return f"agent key {key.comment or key.get_name()}"


def _public(file: Path) -> bytes | None:
    """The public half beside a private key."""
    try:
        return base64.b64decode(Path(f"{file}.pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _load(path: Path) -> PKey | str:
    from paramiko import PasswordRequiredException, PKey, SSHException

    try:
        return PKey.from_path(path)
    except (PasswordRequiredException, TypeError):
        return "has a passphrase: ssh-add it"
    except (OSError, SSHException, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
