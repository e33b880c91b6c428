"""Machines that exist already, reached over SSH. We neither make nor unmake them."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from builder.errors import MachineError
from builder.machines.base import Power, Progress
from builder.machines.openssh_config import OpenSshConfig, Said
from builder.spec.model import ClusterSpec, Host
from builder.spec.types import one_of, optional, path, text
from builder.transport.base import Endpoint

SCHEMA: Mapping[str, Any] = {
    "ssh_config": optional(path("An OpenSSH client configuration; default: ~/.ssh/config.")),
    "sudo_password": one_of(
        ("none", "ask"),
        "none",
        "Whether sudo on the hosts wants a password: `none` does not, `ask` asks you once per run.",
    ),
    "sudo_password_command": optional(
        text("A command here that prints the password for sudo, instead of asking you.")
    ),
}


class ExistingProvider:
    """The spec's hosts, as the spec and ~/.ssh/config say they are reached."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec

    def endpoints(self) -> Mapping[str, Endpoint]:
        config, password = self._config(), self._sudo_password()
        return {
            name: replace(_endpoint(host, config), sudo_password=password)
            for name, host in self._spec.hosts.items()
        }

    def _sudo_password(self) -> Callable[[], str] | None:
        settings = self._spec.machines.settings
        command = settings.get("sudo_password_command")
        return _asks(command) if command or settings.get("sudo_password") == "ask" else None

    def power(self) -> Mapping[str, Power]:
        return dict.fromkeys(self._spec.hosts, Power.UNKNOWN)

    def up(self, progress: Progress) -> Sequence[str]:
        return ()

    def destroy(self, progress: Progress) -> None:
        raise MachineError(
            "these machines are not ours to unmake",
            why="machines.provider is `existing`.",
            do="Reinstall them; or systemctl disable --now keepalived haproxy patroni etcd, and "
            "remove their data and /var/lib/pgha-build.",
        )

    def _config(self) -> OpenSshConfig:
        named = self._spec.machines.settings.get("ssh_config")
        return OpenSshConfig(Path(named) if named else None)


@cache
def _asks(command: str | None) -> Callable[[], str]:
    """Once per run, however often hosts are connected to, and only when one of them wants it."""
    if command:
        return _once(lambda: _printed_by(command))
    return _once(_typed)


def _typed() -> str:
    try:
        return getpass.getpass("Password for sudo on the hosts: ")
    except EOFError:
        raise MachineError(
            "sudo on the hosts wants a password, and there is nobody here to be asked",
            do="machines.sudo_password_command names a command that prints it.",
        ) from None


def _once(ask: Callable[[], str]) -> Callable[[], str]:
    """Several connections may want it at the same moment."""
    lock, known = Lock(), list[str]()

    def answer() -> str:
        with lock:
            if not known:
                known.append(ask())
        return known[0]

    return answer


def _printed_by(command: str) -> str:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise MachineError(
            f"machines.sudo_password_command failed with status {done.returncode}",
            do="Run it by hand: it must print the password, and nothing else.",
        )
    password = done.stdout.rstrip("\n")
    if len(password.splitlines()) > 1:
        raise MachineError(
            "machines.sudo_password_command prints several lines",
            why="sudo reads the first, and root's shell would carry out the rest.",
            do="Let it print the password alone: … | head -n 1",
        )
    return password


def _endpoint(host: Host, config: OpenSshConfig) -> Endpoint:
    """The spec wins over ssh_config, what is said of the name over what is said of the address."""
    said = config.of(host.name, host.address)
    ssh = host.ssh
    files = [str(ssh.identity_file)] if ssh.identity_file else said.get("identityfile", [])
    hostname = _first(said, "hostname")
    user = ssh.user or _first(said, "user")
    return Endpoint(
        host=host.name,
        address=host.address if hostname == host.name else hostname,
        port=ssh.port or int(_first(said, "port")),
        user=user,
        identity_files=_identities(files, said, host.name, user),
        host_keys=(ssh.host_key,) if ssh.host_key else (),
        known_hosts=_known_hosts(said),
        ssh_config=config.file,
        jump=_through(ssh.jump or _first(said, "proxyjump"), config, ssh.user, files),
    )


def _first(said: Said, key: str) -> str:
    return next(iter(said.get(key, ())), "")


def _identities(files: Sequence[str], said: Said, name: str, user: str) -> tuple[Path, ...]:
    """`ssh -G` leaves tokens as they are written (ssh_config(5), TOKENS)."""
    tokens = {
        "%%": "%",
        "%d": str(Path.home()),
        "%h": _first(said, "hostname"),
        "%n": name,
        "%p": _first(said, "port"),
        "%r": user,
        "%u": getpass.getuser(),
    }
    known = re.compile("|".join(tokens))
    return tuple(Path(known.sub(lambda m: tokens[m[0]], file)).expanduser() for file in files)


def _known_hosts(said: Said) -> tuple[Path, ...]:
    return tuple(Path(file) for file in _first(said, "userknownhostsfile").split())


# `ssh -G` writes an address in brackets, as a person must where it holds colons.
_JUMP = re.compile(
    r"(?:(?P<login>.+)@)?(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>\d+))?"
)


def _through(
    words: str, config: OpenSshConfig, user: str | None, files: Sequence[str]
) -> Endpoint | None:
    """`[user@]host[:port]`, or several with commas in between, from us to the host.

    Each is looked up in ssh_config; keys that it does not name are those of the host.
    """
    way: Endpoint | None = None
    for word in filter(None, (word.strip().removeprefix("ssh://") for word in words.split(","))):
        if word.lower() == "none":
            continue
        place = _JUMP.fullmatch(word)
        if not place:
            raise MachineError(
                f"the jump host {word} is not understood", do="Write it as [user@]host[:port]."
            )
        login, port = place["login"], place["port"]
        name = place["address"] or place["name"]
        said = config.of(name)
        own = _first(said, "proxyjump")
        user_there = login or config.own(said, "user") or user or _first(said, "user")
        way = Endpoint(
            host=name,
            address=_first(said, "hostname"),
            port=int(port or _first(said, "port")),
            user=user_there,
            identity_files=_identities(said.get("identityfile", files), said, name, user_there),
            known_hosts=_known_hosts(said),
            jump=way or (_through(own, config, user, files) if own != words else None),
        )
    return way
