"""Is the cluster whole? Pure, over the JSON of `pgha-build status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.disk import full
from builder.spec.model import ClusterSpec

_NEAR_BYTES = 1024 * 1024
SYNCHRONOUS = frozenset({"sync_standby", "quorum_standby"})  # roles whose host is waited for


def ailments(spec: ClusterSpec, status: Mapping[str, Any]) -> list[str]:
    """What is wrong, for a person; nothing where the cluster is whole."""
    return [
        *status["unreachable"].values(),
        *_etcd(status.get("etcd")),
        *_patroni(spec, status.get("patroni")),
        *_haproxy(status.get("haproxy"), status.get("patroni")),
        *_keepalived(status.get("keepalived")),
    ]


def _etcd(etcd: Mapping[str, Any] | None) -> Iterator[str]:
    for name, member in (etcd or {"members": {}})["members"].items():
        if not member["healthy"]:
            alarm = member.get("alarm")
            yield f"{name}: etcd " + (f"has the alarm {alarm}" if alarm else "is not healthy")
        if full(member["disk"]):
            yield f"{name}: etcd's disk is full"


def _patroni(spec: ClusterSpec, patroni: Mapping[str, Any] | None) -> Iterator[str]:
    if patroni is None:
        yield "no host carries PostgreSQL"
        return
    members: Mapping[str, Any] = patroni["members"]
    modes = {
        "PostgreSQL has no leader": not patroni["leader"],
        "Patroni is paused": patroni["paused"],
        "PostgreSQL goes on without etcd: restart neither it nor Patroni": patroni.get("failsafe"),
    }
    yield from (told for told, holds in modes.items() if holds)
    for name, member in members.items():
        wanted = "running" if name == patroni["leader"] else "streaming"
        well = member["state"] == wanted if wanted == "running" else streams(member)
        if well and not member["answers"]:
            yield f"{name}: Patroni does not answer"
        elif not well:
            told = f"{name}: PostgreSQL is {member['state'] or 'silent'}, not {wanted}"
            lacks = f"; it lacks WAL that its leader has no more: pgha-build ops reinit {name}"
            yield told + (lacks if member["lacks_wal"] else "")
        if full(member["disk"]):
            yield f"{name}: PostgreSQL's disk is full"
    if len({member["timeline"] for member in members.values()}) > 1:
        yield "the members are on several timelines"
    waited_for = any(member["role"] in SYNCHRONOUS for member in members.values())
    if spec.sections["failover"]["synchronous"] and len(members) > 1 and not waited_for:
        yield "no replica is synchronous yet"


def streams(member: Mapping[str, Any]) -> bool:
    """Whether a replica does."""
    lag = member.get("lag_bytes")
    near = isinstance(lag, int) and lag < _NEAR_BYTES
    runs = member["state"] == "running"
    return member["state"] == "streaming" or (says_only_running(member) and runs and near)


def says_only_running(member: Mapping[str, Any]) -> bool:
    """Patroni 3.0 (Debian 12) says so of a replica that streams, as of any other."""
    return str(member.get("patroni") or "").startswith("3.0.")


def _haproxy(haproxy: Mapping[str, Any] | None, patroni: Mapping[str, Any] | None) -> Iterator[str]:
    for name, balancer in (haproxy or {"balancers": {}})["balancers"].items():
        if not balancer["answers"]:
            yield f"{name}: HAProxy does not answer"
        elif patroni and balancer["primary"] != [patroni["leader"]]:
            yield f"{name}: HAProxy writes to {', '.join(balancer['primary']) or 'nobody'}"
        elif patroni and len(balancer["replica"]) != len(patroni["members"]) - 1:
            yield f"{name}: HAProxy reads from {', '.join(balancer['replica']) or 'nobody'}"


def _keepalived(keepalived: Mapping[str, Any] | None) -> Iterator[str]:
    if keepalived is None:
        return
    if len(keepalived["holders"]) != 1:
        yield f"the virtual IP is held by {', '.join(keepalived['holders']) or 'nobody'}"
    for host in keepalived["hosts"]:
        if host not in keepalived["running"]:
            yield f"{host}: keepalived does not run"
