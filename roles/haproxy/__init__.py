"""HAProxy: one port that always leads to the leader, one that leads to the replicas. Pure."""

from __future__ import annotations

from builder.role import Role
from roles.haproxy.connection import connection
from roles.haproxy.desired import resources
from roles.haproxy.settings import NAME, SECTION, openings
from roles.haproxy.status import STATUS, writes_to

ROLE = Role(
    name=NAME,
    doc="A balancer that takes clients' connections.",
    sections={"haproxy": SECTION},
    services=("haproxy",),
    resources=resources,
    openings=openings,
    connection=connection,
    status=STATUS,
    watch=writes_to,
)
