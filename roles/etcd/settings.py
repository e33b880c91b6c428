"""What cluster.yml says about etcd, and what other roles need to know of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from builder.spec.model import ClusterSpec, Host, Problem
from builder.spec.section import Section
from builder.spec.types import integer, port

NAME = "etcd"
PEER_CA = "etcd-peer"
CLIENT_CA = "etcd-client"
USER = "etcd"
CONFIG = "/etc/etcd"
TLS = "/etc/etcd/tls"
DATA = "/var/lib/etcd/pgha"
BOOTSTRAP = "/etc/etcd/bootstrap.env"
# There from a founding until the member has seen a leader (ExecStartPost of etcd.service).
FOUNDING = "/var/lib/etcd/pgha.founding"


def endpoints(spec: ClusterSpec) -> tuple[str, ...]:
    """`host:port` of every member's client side."""
    return tuple(f"{h.address}:{spec.sections['etcd']['client_port']}" for h in members(spec))


def members(spec: ClusterSpec) -> tuple[Host, ...]:
    return spec.with_role(NAME)


def _check(spec: ClusterSpec) -> Iterable[Problem]:
    count = len(members(spec))
    if count and count % 2 == 0:
        yield Problem(
            path=("hosts",),
            message=f"{count} etcd members survive no more failures than {count - 1}",
            advice="use an odd number: 1, 3 or 5",
        )
    if spec.sections["etcd"]["client_port"] == spec.sections["etcd"]["peer_port"]:
        yield Problem(path=("etcd", "peer_port"), message="client_port and peer_port are the same")


SECTION = Section(
    doc="The etcd cluster. Its timings follow from `failover.preset`.",
    schema={
        "client_port": port(2379, "TCP port for clients (Patroni)."),
        "peer_port": port(2380, "TCP port between members."),
        "quota_mib": integer(
            "Size limit of the store; Patroni needs a few MiB.",
            default=2048,
            least=16,
            most=8192,
            unit="MiB",
        ),
    },
    check=_check,
)
