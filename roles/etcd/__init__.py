"""etcd: the three (or five) members that decide who leads. Pure."""

from __future__ import annotations

from builder.role import Role
from roles.etcd.desired import cluster_resources, openings, resources
from roles.etcd.member import founders, guard
from roles.etcd.operations import OPERATIONS
from roles.etcd.settings import NAME, SECTION
from roles.etcd.status import STATUS, needed

ROLE = Role(
    name=NAME,
    doc="A member of the etcd cluster, in which Patroni keeps who is leader.",
    sections={"etcd": SECTION},
    services=("etcd",),
    resources=resources,
    cluster_resources=cluster_resources,
    openings=openings,
    refine=founders,
    status=STATUS,
    needed=needed,
    guard=guard,
    operations=OPERATIONS,
)
