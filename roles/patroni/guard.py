"""Plans that would lose data, or the service for good, are refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from builder.errors import PlanError
from builder.resources.base import Action, Change
from builder.spec.model import ClusterSpec
from roles.patroni.data import DataDirectory
from roles.patroni.settings import data_directory, members


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
    staying = {host.name for host in members(spec)}
    left = [r for r in leaving if isinstance(r, DataDirectory) and r.hosts[0] in staying]
    if left:
        raise PlanError(
            f"the data of {', '.join(r.hosts[0] for r in left)} is in {left[0].name}, and "
            f"cluster.yml says {data_directory(spec)}",
            why="A new, empty cluster would take over. Another major version, another name of the "
            "cluster and another data_directory all lead there.",
            do="Set postgresql.version, postgresql.data_directory and the name back. To another "
            "major version: a new cluster and logical replication, or pg_upgrade by hand.",
        )
