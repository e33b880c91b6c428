"""The same way to a host for OpenSSH, for a person's own shell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from builder.transport.base import Endpoint


def known_hosts(endpoint: Endpoint) -> str:
    """Lines of a known_hosts file that hold what we would accept; "" where the user's decide."""
    name = _alias(endpoint)
    return "".join(f"{name} {key}\n" for key in endpoint.host_keys)


def command(
    endpoint: Endpoint, pinned: Path, words: Sequence[str], *, terminal: bool = False
) -> list[str]:
    """`ssh` with all that the endpoint says; `pinned` holds `known_hosts`, where there are any.

    `terminal`: also a command gets one there, as a shell does; what it says then ends in CR LF.
    """
    argv = _line(endpoint, pinned)
    if terminal:
        argv.append("-t")
    return [*argv, "--", endpoint.address, *words]


def section(endpoint: Endpoint, pinned: Path) -> str:
    """The same as part of an ssh_config(5), under the name that the host has in the spec."""
    said = [("HostName", endpoint.address), *_options(endpoint, pinned)]
    return f"Host {endpoint.host}\n" + "".join(f"  {key} {value}\n" for key, value in said)


def _line(endpoint: Endpoint, pinned: Path) -> list[str]:
    argv = ["ssh"]
    if endpoint.ssh_config:
        argv += ["-F", str(endpoint.ssh_config)]
    for key, value in _options(endpoint, pinned):
        argv += ["-o", f"{key}={value}"]
    return argv


def _options(endpoint: Endpoint, pinned: Path) -> list[tuple[str, str]]:
    said = [("User", endpoint.user), ("Port", str(endpoint.port))]
    said += [("IdentityFile", f'"{_literal(file)}"') for file in endpoint.identity_files]
    if endpoint.identity_files:
        said.append(("IdentitiesOnly", "yes"))
    if endpoint.host_keys:
        said += [
            ("UserKnownHostsFile", f'"{_literal(pinned)}"'),
            ("HostKeyAlias", _alias(endpoint)),
            ("GlobalKnownHostsFile", "/dev/null"),
        ]
    elif endpoint.known_hosts:
        files = " ".join(f'"{_literal(file)}"' for file in endpoint.known_hosts)
        said.append(("UserKnownHostsFile", files))
    said.append(("StrictHostKeyChecking", "yes"))
    if endpoint.jump:
        said.append(("ProxyCommand", _through(endpoint.jump, endpoint, pinned)))
    return said


def _literal(file: Path) -> str:
    """OpenSSH expands `%h` and the like in names of files."""
    return str(file).replace("%", "%%")


def _through(jump: Endpoint, to: Endpoint, pinned: Path) -> str:
    """With all that the spec says of the jump host, which `-J` leaves to OpenSSH's own file.

    There it is looked up as it was written.
    """
    place = f"[{to.address}]" if ":" in to.address else to.address
    line = [*_line(jump, pinned), "-W", f"{place}:{to.port}", "--", jump.host]
    return shlex.join(line).replace("%", "%%")


def _alias(endpoint: Endpoint) -> str:
    return f"pgha-{endpoint.host}"
