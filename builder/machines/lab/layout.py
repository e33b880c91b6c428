"""Where everything of a lab is and what it is called. Pure.

Interface names hold at most 15 characters and machine names must be unique on the machine, so both
carry a digest; what a person meets (namespace, cgroup, directory) carries the lab's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from builder.errors import MachineError
from builder.machines.data import data
from builder.spec.model import ClusterSpec

STATE = Path("/var/lib/pgha-build/lab")
CACHE = Path("/var/cache/pgha-build/lab")
BRIDGE = "br0"
GATEWAY = "gateway"
INTERFACE = "host0"
PACKAGE_CACHE_PORT = 3142
UPSTREAM = "PGHA_PACKAGES_UPSTREAM"  # a variable: the proxy beyond the package cache
NETWORK_RECORD = "lab.network"  # no host can be called so, for its dot

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one host lives: its directory, and its names in the bridge and in nspawn."""

    lab: str
    host: str

    @property
    def directory(self) -> Path:
        return STATE / self.lab / self.host

    @property
    def upper(self) -> Path:
        """What differs from the shared root file system; writable while the host is off."""
        return self.directory / "upper"

    def disk(self, mounted: str) -> Path:
        """The image of the file system that is mounted there."""
        return self.disks / f"{mounted.strip('/').replace('/', '-')}.img"

    @property
    def disks(self) -> Path:
        return self.directory / "disks"

    @property
    def log(self) -> Path:
        return STATE / self.lab / f"{self.host}.log"

    @property
    def machine(self) -> str:
        """Name for nspawn: at most 12 characters, so that `vb-` + it is the port's name."""
        return f"{self.host[:5].rstrip('-')}-{_digest(f'{self.lab}/{self.host}', 6)}"

    @property
    def port(self) -> str:
        """The host's port on the bridge, as nspawn names it."""
        return f"vb-{self.machine}"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A lab's names and addresses. `addresses` maps each host of the spec to its own.

    `disks` maps it to the directories that get a file system of their own.
    """

    name: str
    release: str
    network: IPv4Network
    gateway: IPv4Address
    addresses: Mapping[str, IPv4Address]
    disks: Mapping[str, Sequence[str]]

    @property
    def directory(self) -> Path:
        return STATE / self.name

    @property
    def key(self) -> Path:
        """The private key that opens every host of this lab."""
        return self.directory / "id_ed25519"

    @property
    def namespace(self) -> str:
        return f"pgha-{self.name}"

    @property
    def namespace_path(self) -> Path:
        return Path("/run/netns") / self.namespace

    @property
    def veth(self) -> str:
        """The machine's own end of the cable to the lab."""
        return f"pgha-{_digest(self.name, 8)}"

    @property
    def table(self) -> str:
        return f"pgha_{_digest(self.name, 8)}"

    def place(self, host: str) -> Place:
        return Place(lab=self.name, host=host)

    def with_prefix(self, address: IPv4Address) -> str:
        return f"{address}/{self.network.prefixlen}"


def layout_of(spec: ClusterSpec) -> Layout:
    """The layout that `spec` asks for; MachineError where no lab can have it."""
    for name in (spec.name, *spec.hosts):
        _require(_NAME.fullmatch(name), f"{name!r} cannot name a lab or a host of one")
    addresses = {host.name: _address(host.address) for host in spec.hosts.values()}
    network = _network(spec.machines.settings, addresses)
    gateway = _address(str(spec.machines.settings.get("gateway") or network[-2]))
    for name, address in addresses.items():
        _require(address in network, f"{name}: {address} is outside the lab's network {network}")
        _require(address != gateway, f"{name}: {address} is the lab's gateway")
    _require(gateway in network, f"gateway {gateway} is outside the lab's network {network}")
    return Layout(
        name=spec.name,
        release=str(spec.machines.settings.get("release") or "trixie"),
        network=network,
        gateway=gateway,
        addresses=addresses,
        disks={host.name: data(host) for host in spec.hosts.values()},
    )


def _network(settings: Mapping[str, Any], addresses: Mapping[str, IPv4Address]) -> IPv4Network:
    wanted = settings.get("network")
    _require(wanted or addresses, "a lab without hosts needs `network`")
    text = str(wanted) if wanted else f"{next(iter(addresses.values()))}/24"
    try:
        network = IPv4Network(text, strict=bool(wanted))
    except ValueError as error:
        what = f"{text} cannot be the lab's network: {error}"
        raise MachineError(what, why=_WHY, do=_ADVICE) from error
    _require(network.prefixlen <= 29, f"{network} is too small for a lab")
    return network


def _address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise MachineError(f"no IPv4 address: {text}", why=_WHY, do=_ADVICE) from error


_WHY = "The lab gives each host a fixed IPv4 address in a network of its own."
_ADVICE = "Correct `machines` or the hosts' addresses in cluster.yml."


def _require(condition: object, what: str) -> None:
    if not condition:
        raise MachineError(what, why=_WHY, do=_ADVICE)


def _digest(text: str, characters: int) -> str:
    return sha256(text.encode()).hexdigest()[:characters]
