"""What `status` says about etcd. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from builder import advisories
from builder.disk import asks, row, said
from builder.role import StatusProbe
from builder.spec.model import ClusterSpec, Host
from roles.etcd.client import etcdctl
from roles.etcd.settings import DATA, members


def _script(spec: ClusterSpec, host: Host) -> str:
    own = f"https://{host.address}:{spec.sections['etcd']['client_port']}"
    base = f"timeout 5 {etcdctl(own)[len('ETCDCTL_API=3 ') :]}"
    return (
        "export ETCDCTL_API=3\n"
        f"{base} endpoint status -w json --command-timeout=3s 2>/dev/null; echo\n"
        f"{base} endpoint health --command-timeout=3s 2>&1\n"
        f"{asks(DATA)}"
    )


def _summarise(spec: ClusterSpec, answers: Mapping[str, str]) -> Mapping[str, Any]:
    found = {host.name: _member(answers.get(host.name, "")) for host in members(spec)}
    healthy = sum(member["healthy"] for member in found.values())
    # Who is healthy has had a read agreed upon by a quorum of those that etcd counts; who names an
    # alarm, too: etcdctl asks for alarms after that read.
    agreed = any(member["healthy"] or member["alarm"] for member in found.values())
    return {"members": found, "healthy": healthy, "quorum": agreed}


def _member(answer: str) -> Mapping[str, Any]:
    first, _, health = answer.partition("\n")
    try:
        status = json.loads(first)[0]["Status"]
    except (ValueError, LookupError, TypeError):
        unknown = {"healthy": False, "leader": False, "version": None, "size_bytes": None}
        return {**unknown, "alarm": None, "advisories": [], "disk": said(answer)}
    return {
        "healthy": "is healthy" in health,
        # left out of the JSON while there is none
        "leader": status.get("leader") == status["header"]["member_id"],
        "alarm": _alarm(health),
        "version": status["version"],
        "size_bytes": status["dbSize"],
        "advisories": advisories.etcd(status["version"]),
        "disk": said(answer),
    }


def _alarm(health: str) -> str | None:
    """etcdctl names it where it says why a member is not healthy."""
    found = re.search(r"Active Alarm\(s\):? *([A-Z, ]+)", health)
    return found[1].strip(" ,") if found else None


def _rows(summary: Mapping[str, Any]) -> Sequence[str]:
    members = summary["members"]
    quorum = "quorum" if summary["quorum"] else "NO QUORUM"
    yield_rows = [f"{summary['healthy']} of {len(members)} healthy, {quorum}"]
    for name, member in members.items():
        state = "healthy" if member["healthy"] else "NOT HEALTHY"
        if member["alarm"]:
            state = f"ALARM {member['alarm']} (pgha-build ops defragment-etcd)"
        role = "leader" if member["leader"] else ""
        parts = f"{name:<12} {state:<12} {role:<8} {member['version'] or '':<8}"
        yield_rows.append(f"{parts} {row(member['disk'])}".rstrip())
    return [*yield_rows, *dict.fromkeys(f for m in members.values() for f in m["advisories"])]


def needed(spec: ClusterSpec, host: Host, status: Mapping[str, Any]) -> str:
    """Without the host, and whoever is ill, a majority must remain, or nobody can be added."""
    etcd = status["etcd"]["members"]
    if host.name not in etcd:
        return ""
    healthy = [name for name, member in etcd.items() if member["healthy"] and name != host.name]
    if len(healthy) > len(etcd) // 2:
        return ""
    left = ", ".join(healthy) or "none"
    return f"of {len(etcd)} etcd members only {left} would be left: no quorum"


STATUS = StatusProbe(script=_script, summarise=_summarise, rows=_rows)
