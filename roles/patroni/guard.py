"""Plans that would lose data, or the service for good, are refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from builder.errors import PlanError
from builder.resources.base import Action, Change
from builder.spec.model import ClusterSpec
from roles.patroni.settings import members

_VERSIONED = re.compile(r"/var/lib/postgresql/(\d+)")


def guard(spec: ClusterSpec, changes: Mapping[str, Change]) -> None:
    """Raises PlanError."""
    leaving = [change.resource for change in changes.values() if change.action is Action.DELETE]
    hosts = [r.hosts[0] for r in leaving if r.kind == "unit" and r.name == "patroni.service"]
    if hosts and not members(spec):
        raise PlanError(
            f"no database host would be left: {', '.join(hosts)} would be stopped",
            why="That is the end of the cluster, and of its only copies of the data.",
            do="Keep the role patroni on one host; to end the cluster: pgha-build destroy",
        )
    wanted = str(spec.sections.get("postgresql", {}).get("version", ""))
    majors = {m[1] for r in leaving if (m := _VERSIONED.fullmatch(r.name))} - {wanted}
    if majors and any(host.name in {r.hosts[0] for r in leaving} for host in members(spec)):
        raise PlanError(
            f"PostgreSQL {', '.join(sorted(majors))} is running, and cluster.yml says {wanted}",
            why="Another major version cannot read the data: a new, empty cluster would take over.",
            do=f"Set postgresql.version back; upgrade by a new cluster and logical replication, "
            f"or pg_upgrade by hand, to {wanted}.",
        )
