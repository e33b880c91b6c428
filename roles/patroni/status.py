"""What `status` says about Patroni. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from builder import advisories
from builder.disk import asks, row, said
from builder.role import StatusProbe
from builder.spec.model import ClusterSpec, Host
from roles.patroni.settings import TLS, data_directory, members


def _script(spec: ClusterSpec, host: Host) -> str:
    port = spec.sections["patroni"]["rest_port"]
    url = f"https://{host.address}:{port}"
    curl = f"curl -sS -m 4 --cacert {TLS}/ca.crt"
    return (
        f"{curl} {url}/cluster; echo; own=$({curl} {url}/patroni); printf '%s\\n' \"$own\"\n"
        f"{asks(data_directory(spec))}\n{_LACKS_WAL}"
    )


# PostgreSQL's words come through Patroni's unit. They are looked for only where nothing streams.
_LACKS_WAL = """\
case $own in *'"role": "replica"'*)
  case $own in *'"replication_state": "streaming"'*) ;; *)
    journalctl -u patroni -n 40 -o cat --no-pager 2>/dev/null |
      grep -q 'requested WAL segment .* has already been removed' && echo 'lacks WAL' ;;
  esac ;;
esac"""


def _summarise(spec: ClusterSpec, answers: Mapping[str, str]) -> Mapping[str, Any]:
    """The view of the leader where it answers, else of any member; and who answers at all.

    Without etcd there is none: then of each what it says of itself, and of its replicas.
    """
    views = {name: _json(text, 0) for name, text in answers.items()}
    own = {name: _json(text, 1) for name, text in answers.items()}
    leader = next((n for n, view in own.items() if view.get("role") in _LEADING), None)
    cluster = views.get(leader or "") or next((view for view in views.values() if view), {})
    found = {member["name"]: member for member in cluster.get("members", [])}
    listed = found or _of_themselves(own, leader)
    return {
        "leader": leader,
        "paused": bool(cluster.get("pause")),
        "failsafe": bool(own.get(leader or "", {}).get("failsafe_mode_is_active")),
        "members": {
            host.name: {
                **_member(listed.get(host.name, {}), own.get(host.name, {})),
                "disk": said(answers.get(host.name, "")),
                "lacks_wal": "lacks WAL" in answers.get(host.name, "").splitlines(),
            }
            for host in members(spec)
        },
    }


_LEADING = frozenset({"primary", "master", "leader"})


def _of_themselves(
    own: Mapping[str, Mapping[str, Any]], leader: str | None
) -> Mapping[str, Mapping[str, Any]]:
    """As Patroni's list of members would have it."""
    sent = own.get(leader or "", {}).get("replication", [])
    waited_for = {r["application_name"] for r in sent if r["sync_state"] in {"sync", "quorum"}}
    return {
        name: {
            "role": "leader"
            if name == leader
            else "sync_standby"
            if name in waited_for
            else said.get("role"),
            "state": said.get("replication_state") or said.get("state"),
            "timeline": said.get("timeline"),
        }
        for name, said in own.items()
        if said
    }


def _member(listed: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    number = own.get("server_version")
    version = f"{number // 10000}.{number % 10000}" if number else None
    return {
        "answers": bool(own),
        "role": listed.get("role"),
        "state": listed.get("state"),
        "timeline": listed.get("timeline"),
        "lag_bytes": listed.get("lag"),
        "pending_restart": bool(own.get("pending_restart")),
        "postgresql": version,
        "advisories": advisories.postgresql(version),
        "patroni": own.get("patroni", {}).get("version"),
    }


def _json(text: str, line: int) -> Mapping[str, Any]:
    try:
        parsed = json.loads(text.splitlines()[line])
    except (ValueError, IndexError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _rows(summary: Mapping[str, Any]) -> Sequence[str]:
    head = f"leader {summary['leader'] or 'NONE'}" + (", paused" if summary["paused"] else "")
    head += ", in failsafe mode" if summary["failsafe"] else ""
    flaws = dict.fromkeys(f for m in summary["members"].values() for f in m["advisories"])
    return [head, *(_row(name, member) for name, member in summary["members"].items()), *flaws]


def _row(name: str, member: Mapping[str, Any]) -> str:
    if not member["answers"]:
        return f"{name:<12} DOES NOT ANSWER  {row(member['disk'])}".rstrip()
    lag = "" if member["lag_bytes"] is None else f"lag {member['lag_bytes']} B"
    pending = "restart pending" if member["pending_restart"] else ""
    parts = (
        f"{name:<12}",
        f"{member['role'] or '?':<13}",
        f"{member['state'] or '?':<10}",
        f"timeline {member['timeline'] or '?'}",
        f"PostgreSQL {member['postgresql'] or '?'}",
        lag,
        pending,
        row(member["disk"]),
    )
    return "  ".join(part for part in parts if part)


def needed(spec: ClusterSpec, host: Host, status: Mapping[str, Any]) -> str:
    """Somebody else must have the data, and lead with it."""
    patroni = status["patroni"]
    if host.name not in patroni["members"]:
        return ""
    if not patroni["leader"] or patroni["leader"] == host.name:
        return "no other host leads, so there may be no other copy of the data"
    return ""


STATUS = StatusProbe(script=_script, summarise=_summarise, rows=_rows)
