"""What `machines:` accepts when the provider is `vagrant`, and the machines it leads to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Interface
from typing import Any

from builder.spec.model import ClusterSpec, Problem
from builder.spec.types import LABEL, integer, mapping_of, optional, table, text


def _memory(doc: str, default: int | None = None) -> dict[str, Any]:
    return integer(doc, default=default, least=512, most=1048576, unit="MiB")


def _cpus(doc: str, default: int | None = None) -> dict[str, Any]:
    return integer(doc, default=default, least=1, most=256)


def _box(default: str | None) -> dict[str, Any]:
    return text(
        "The Vagrant box that a machine is made from.",
        default=default,
        pattern=r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?",
        expects="a box such as `debian/trixie64`",
        longest=128,
    )


SCHEMA: Mapping[str, Any] = {
    "box": _box("debian/trixie64"),
    "memory_mib": _memory("The memory of a machine.", 1024),
    "cpus": _cpus("The virtual processors of a machine.", 1),
    "hosts": mapping_of(
        text("A host of the cluster.", pattern=LABEL),
        table(
            {
                "box": optional(_box(None)),
                "memory_mib": optional(_memory("Its memory.")),
                "cpus": optional(_cpus("Its virtual processors.")),
            },
            "What is otherwise for one host.",
        ),
        "What is otherwise for single hosts, by their names.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One virtual machine, as the Vagrantfile makes it."""

    name: str
    address: str
    netmask: str
    box: str
    memory_mib: int
    cpus: int
    watchdog: bool


def machines(spec: ClusterSpec) -> Iterator[Machine]:
    """One per host. Database hosts get a watchdog device, which Patroni then uses."""
    settings = spec.machines.settings
    for host in spec.hosts.values():
        own = settings["hosts"].get(host.name, {})
        chosen = {key: own.get(key) or settings[key] for key in ("box", "memory_mib", "cpus")}
        yield Machine(
            name=host.name,
            address=host.address,
            netmask=str(_prefix(spec).netmask),
            watchdog="patroni" in host.roles,
            **chosen,
        )


def document(spec: ClusterSpec) -> Mapping[str, Any]:
    """What the Vagrantfile reads."""
    return {"cluster": spec.name, "machines": [asdict(machine) for machine in machines(spec)]}


def strangers(spec: ClusterSpec) -> Iterable[Problem]:
    """Settings for hosts that the cluster does not have."""
    if spec.machines.provider == "vagrant":
        for name in spec.machines.settings["hosts"]:
            if name not in spec.hosts:
                yield Problem(
                    path=("machines", "hosts", name),
                    message=f"the cluster has no host {name}",
                    advice=f"hosts: {', '.join(spec.hosts)}",
                )


def _prefix(spec: ClusterSpec) -> IPv4Interface:
    """The network's size is the virtual IP's; without one, or where it is but an address, a /24."""
    found = IPv4Interface(spec.sections.get("keepalived", {}).get("virtual_ip") or "10.0.0.1/24")
    return found if found.network.prefixlen < 32 else IPv4Interface(f"{found.ip}/24")


CHECKS = (strangers,)
