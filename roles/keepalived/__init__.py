"""Keepalived: one address that exactly one working balancer holds. Pure."""

from __future__ import annotations

from builder.role import Role
from roles.keepalived.desired import cluster_resources, resources
from roles.keepalived.guard import guard
from roles.keepalived.settings import NAME, SECTION, openings, promises
from roles.keepalived.status import STATUS, holds

ROLE = Role(
    name=NAME,
    doc="Holds the virtual IP together with its peers.",
    sections={"keepalived": SECTION},
    services=("keepalived",),
    resources=resources,
    cluster_resources=cluster_resources,
    openings=openings,
    promises=promises,
    status=STATUS,
    watch=holds,
    guard=guard,
)
