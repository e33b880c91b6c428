"""Patroni, which runs PostgreSQL and decides which of them leads. Pure."""

from __future__ import annotations

from builder.role import Inside, Role
from roles._failover import SECTION as FAILOVER
from roles._failover import promises
from roles.patroni.ask import leads
from roles.patroni.contents import contents, further_database, further_role
from roles.patroni.desired import resources
from roles.patroni.guard import caution, guard
from roles.patroni.operations import OPERATIONS
from roles.patroni.rolling_restart import follow_through
from roles.patroni.settings import CLIENTS, NAME, PATRONI, POSTGRESQL, openings
from roles.patroni.status import STATUS, needed

ROLE = Role(
    name=NAME,
    doc="A PostgreSQL server under Patroni.",
    sections={"postgresql": POSTGRESQL, "patroni": PATRONI, "failover": FAILOVER},
    services=("patroni", "postgresql", "postgresql@"),
    resources=resources,
    cluster_resources=contents,
    openings=openings,
    promises=promises,
    refine=follow_through,
    status=STATUS,
    watch=leads,
    operations=OPERATIONS,
    needed=needed,
    guard=guard,
    caution=caution,
    inside=Inside(role=further_role, database=further_database, clients=CLIENTS),
)
