"""What cluster.yml says about the virtual IP. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from builder.role import Opening, Promise
from builder.spec.model import ClusterSpec, Host, Problem
from builder.spec.section import Section
from builder.spec.types import cidr, integer, optional, text
from roles._failover import timings
from roles.haproxy.settings import witnesses

NAME = "keepalived"
_LEAST_PREFIX = 8


def peers(spec: ClusterSpec, host: Host) -> tuple[str, ...]:
    return tuple(other.address for other in spec.with_role(NAME) if other != host)


def openings(spec: ClusterSpec, host: Host) -> Iterable[Opening]:
    yield Opening(port=0, protocol="vrrp", peers=peers(spec, host), what="VRRP")


def promises(spec: ClusterSpec) -> Iterable[Promise]:
    if len(spec.with_role(NAME)) > 1:
        yield Promise(fault="balancer lost", seconds=timings(spec).balancer_lost)
        yield Promise(fault="balancer hung", seconds=timings(spec).balancer_hung)
    if any(witnesses(spec, host) for host in spec.with_role(NAME)):
        yield Promise(fault="balancer deaf", seconds=timings(spec).balancer_deaf)


def _check(spec: ClusterSpec) -> Iterable[Problem]:
    virtual = spec.sections["keepalived"]["virtual_ip"]
    holders = spec.with_role(NAME)
    if holders and not virtual:
        yield Problem(
            path=("keepalived", "virtual_ip"),
            message="hosts carry the role keepalived, and there is no virtual IP to hold",
            advice="for example: virtual_ip: 10.77.0.100/24",
        )
    if virtual and not holders:
        yield Problem(
            path=("keepalived", "virtual_ip"),
            message="no host carries the role keepalived, so nobody would hold the virtual IP",
        )
    for host in holders:
        if "haproxy" not in host.roles:
            yield Problem(
                path=("hosts", host.name, "roles"),
                message=f"{host.name} carries keepalived without haproxy",
                advice="the virtual IP would lead to a host where nothing answers",
            )
    if virtual:
        yield from _check_address(spec, virtual)


def _check_address(spec: ClusterSpec, virtual: str) -> Iterable[Problem]:
    path = ("keepalived", "virtual_ip")
    interface = ip_interface(virtual)
    for host in spec.hosts.values():
        if ip_address(host.address) == interface.ip:
            yield Problem(path=path, message=f"the virtual IP is the address of {host.name}")
    if interface.ip.is_loopback or interface.ip.is_multicast or interface.ip.is_unspecified:
        yield Problem(path=path, message=f"{interface.ip} is not an address that a host can have")
    if interface.network.prefixlen == 32:
        return
    if interface.network.prefixlen < _LEAST_PREFIX:
        yield Problem(
            path=path,
            message=f"/{interface.network.prefixlen} would lead half of the world to the balancers",
            advice="the prefix of the balancers' network, such as /24",
        )
    outside = [
        h.name for h in spec.with_role(NAME) if ip_address(h.address) not in interface.network
    ]
    if outside:
        yield Problem(
            path=path,
            message=f"{virtual} is not in the network of {', '.join(outside)}",
            advice="balancers must be in the network of the virtual IP",
        )
    if interface.ip in {interface.network.network_address, interface.network.broadcast_address}:
        yield Problem(path=path, message=f"{interface.ip} is not an address that a host can have")


SECTION = Section(
    doc="The virtual IP that clients connect to.",
    schema={
        "virtual_ip": optional(
            cidr("The virtual IP with its network's prefix length, as 10.77.0.100/24.")
        ),
        "router_id": integer(
            "VRRP router id; two clusters in one network need different ones.",
            default=51,
            least=1,
            most=255,
        ),
        "interface": text(
            "Network interface that carries the address; `auto` takes the one with the host's "
            "own address.",
            default="auto",
            pattern=r"[a-zA-Z0-9_.-]{1,15}",
        ),
    },
    check=_check,
)
