"""Plans that would lose data, or the service for good, are refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.errors import PlanError
from builder.resources.base import Action, Change, Unknown
from builder.spec.model import ClusterSpec
from roles.etcd.member import EtcdMember
from roles.patroni.data import DataDirectory, Filled
from roles.patroni.settings import data_directory, members


def guard(spec: ClusterSpec, changes: Mapping[str, Change]) -> None:
    """Raises PlanError."""
    leaving = [c for c in changes.values() if c.action is Action.DELETE]
    stopped = [c.resource.hosts[0] for c in leaving if _is_patroni(c)]
    staying = {host.name for host in members(spec)}
    if stopped and not staying:
        raise PlanError(
            f"no database host would be left: {', '.join(stopped)} would be stopped",
            why="That is the end of the cluster, and of its only copies of the data.",
            do="Keep the role patroni on one host. To end the cluster: pgha-build destroy, or "
            "reinstall the hosts where they are not ours to unmake.",
        )
    left = [c.resource for c in leaving if _is_data(c) and c.resource.hosts[0] in staying]
    if left:
        raise PlanError(
            f"the data of {', '.join(r.hosts[0] for r in left)} is in {left[0].name}, and "
            f"cluster.yml says {data_directory(spec)}",
            why="A new, empty cluster would take over. Another major version, another name of the "
            "cluster and another data_directory all lead there.",
            do="Set postgresql.version, postgresql.data_directory and the name back. To another "
            "major version: a new cluster and logical replication, or pg_upgrade by hand.",
        )
    filled = {c.resource.hosts[0] for c in changes.values() if isinstance(c.observed, Filled)}
    _refuse_all_at_once([host for host in stopped if host in filled], filled & staying)


def caution(spec: ClusterSpec, changes: Mapping[str, Change]) -> None:
    """A new etcd knows no leader, and lets whoever asks first lead. Raises PlanError.

    Who cannot be looked at may have data, as far as anybody knows.
    """
    data = {c.resource.hosts[0]: c.observed for c in changes.values() if _is_data(c)}
    filled = {host: seen for host, seen in data.items() if isinstance(seen, Filled)}
    if any(seen.recovering for seen in filled.values()):
        raise PlanError(
            f"pgha-build ops recover-etcd was begun on {spec.name}, and has not come to its end",
            why="Whoever asked the new etcd first would lead, also who lacks the last writes.",
            do="Give that command again: it goes on.",
        )
    members = (c.resource for c in changes.values() if isinstance(c.resource, EtcdMember))
    silent = [host for host, seen in data.items() if isinstance(seen, Unknown)]
    if (filled or silent) and any(member.founding for member in members):
        raise PlanError(
            f"etcd of {spec.name} has no data; PostgreSQL has, or cannot be looked at, on "
            f"{', '.join((*filled, *silent))}",
            why="A new etcd does not know who leads: whoever asks it first does, also who lacks "
            "the last writes.",
            do="pgha-build ops recover-etcd founds it, and the host whose data counts asks first. "
            "PostgreSQL that was set up by hand: pgha-build ops adopt. A host that is down: bring "
            "it up, or take it out of cluster.yml.",
        )


def _refuse_all_at_once(stopped: Sequence[str], kept: set[str]) -> None:
    """Who leaves stops before a new host is told anything, so that nobody could copy the data."""
    if stopped and not kept:
        raise PlanError(
            f"every host that has the data would leave at once: {', '.join(stopped)}",
            why="They would be stopped before a new one has copied it. A host that cannot be "
            "looked at does not count.",
            do=f"Let {stopped[0]} stay beside the new ones, apply, and take it out after that.",
        )


def _is_patroni(change: Change) -> bool:
    return change.resource.kind == "unit" and change.resource.name == "patroni.service"


def _is_data(change: Change) -> bool:
    return isinstance(change.resource, DataDirectory)
