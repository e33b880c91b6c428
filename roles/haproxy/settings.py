"""What cluster.yml says about HAProxy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from builder.role import Opening
from builder.spec.model import ClusterSpec, Host, Problem
from builder.spec.section import Section
from builder.spec.types import cidr, integer, list_of, port

NAME = "haproxy"
CONFIG = "/etc/haproxy/haproxy.cfg"
CA_FILE = "/etc/haproxy/pgha-ca.crt"


def client_address(spec: ClusterSpec, host: Host) -> str:
    """Where clients connect: the virtual IP where there is one, else the host itself."""
    virtual = spec.sections.get("keepalived", {}).get("virtual_ip")
    return virtual.split("/")[0] if virtual else host.address


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A service whose answer shows that a balancer hears something."""

    role: str
    host: str
    address: str
    port: int


def witnesses(spec: ClusterSpec, host: Host) -> tuple[Witness, ...]:
    """Patroni and HAProxy on other hosts; none where these are fewer than two.

    The only other host may be off: who is left must not take that for its own deafness.
    """
    ports = {
        "patroni": spec.sections["patroni"]["rest_port"],
        NAME: spec.sections[NAME]["status_port"],
    }
    found = tuple(
        Witness(role=role, host=other.name, address=other.address, port=port)
        for role, port in ports.items()
        for other in spec.with_role(role)
        if other != host
    )
    enough = len({witness.host for witness in found}) > 1
    return found if enough and len(spec.with_role("keepalived")) > 1 else ()


def _balancers(spec: ClusterSpec) -> tuple[str, ...]:
    """They see whether all is well."""
    return tuple(host.address for host in spec.with_role(NAME))


def sources(spec: ClusterSpec, host: Host, key: str) -> tuple[str, ...]:
    """Who may connect: the networks that `key` names, and balancers; empty: anybody, for clients.

    The packet filter says so, too, where it is ours to say.
    """
    networks = spec.sections[NAME][key]
    own = ("127.0.0.0/8", client_address(spec, host), *_balancers(spec))
    return tuple(dict.fromkeys((*networks, *own))) if networks or key != "clients" else ()


def openings(spec: ClusterSpec, host: Host) -> Iterable[Opening]:
    section = spec.sections["haproxy"]
    balancers = _balancers(spec)
    allowed = (*section["clients"], *balancers) if section["clients"] else None
    for name, what in (("primary_port", "writes"), ("replica_port", "reads")):
        yield Opening(
            port=section[name], peers=allowed, what=what, address=client_address(spec, host)
        )
    yield Opening(
        port=section["status_port"],
        peers=(*balancers, *section["monitoring"]),
        what="HAProxy's state and metrics",
        address=host.address,
    )


def _check(spec: ClusterSpec) -> Iterable[Problem]:
    if spec.with_role(NAME) and not spec.with_role("patroni"):
        yield Problem(
            path=("hosts",),
            message="hosts carry the role haproxy, and none carries patroni",
            advice="a balancer needs database hosts to send connections to",
        )
    section = spec.sections["haproxy"]
    if section["primary_port"] == section["replica_port"]:
        yield Problem(
            path=("haproxy", "replica_port"), message="primary_port and replica_port are the same"
        )


SECTION = Section(
    doc="The balancers. Clients connect to the virtual IP at these ports.",
    schema={
        "primary_port": port(
            5432, "TCP port that leads to the leader: for writes.", privileged=True
        ),
        "replica_port": port(5433, "TCP port that leads to replicas: for reads.", privileged=True),
        "status_port": port(
            8404, "TCP port of state, health and Prometheus metrics.", privileged=True
        ),
        "max_connections": integer(
            "Most client connections at a time.", default=1000, least=10, most=100000
        ),
        "clients": list_of(
            cidr("A network."), "Networks that clients may come from; empty allows all."
        ),
        "monitoring": list_of(
            cidr("A network."), "Networks that may read state and metrics; balancers always may."
        ),
    },
    check=_check,
)
