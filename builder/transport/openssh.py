"""The same way to a host for OpenSSH, for a person's own shell. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    argv = ["ssh", "-p", str(endpoint.port), "-l", endpoint.user]
    if endpoint.ssh_config:
        argv[1:1] = ["-F", str(endpoint.ssh_config)]
    for file in endpoint.identity_files:
        argv += ["-i", str(file)]
    if endpoint.identity_files:
        argv += ["-o", "IdentitiesOnly=yes"]
    if endpoint.host_keys:
        argv += ["-o", f"UserKnownHostsFile={pinned}", "-o", f"HostKeyAlias={_alias(endpoint)}"]
        argv += ["-o", "GlobalKnownHostsFile=/dev/null"]
    elif endpoint.known_hosts:
        files = " ".join(str(file) for file in endpoint.known_hosts)
        argv += ["-o", f"UserKnownHostsFile={files}"]
    argv += ["-o", "StrictHostKeyChecking=yes"]
    if ways := list(_jumps(endpoint)):
        argv += ["-J", ",".join(reversed(ways))]
    if terminal:
        argv.append("-t")
    return [*argv, "--", endpoint.address, *words]


def _alias(endpoint: Endpoint) -> str:
    return f"pgha-{endpoint.host}"


def _jumps(endpoint: Endpoint) -> Iterator[str]:
    """As they are written, from the last one on: OpenSSH looks them up in its own file."""
    while endpoint.jump:
        endpoint = endpoint.jump
        place = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        yield f"{endpoint.user}@{place}:{endpoint.port}"
