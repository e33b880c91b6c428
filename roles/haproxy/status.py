"""What `status` says about HAProxy. Pure."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from builder.role import StatusProbe
from builder.spec.model import ClusterSpec, Host


def _script(spec: ClusterSpec, host: Host) -> str:
    port = spec.sections["haproxy"]["status_port"]
    return f"curl -sS -m 3 'http://127.0.0.1:{port}/stats;csv' 2>&1"


def writes_to(spec: ClusterSpec, host: Host) -> str:
    """Prints `up:NAME` for each server that would get a write."""
    port = spec.sections["haproxy"]["status_port"]
    return (
        f"curl -sS -m 1 'http://127.0.0.1:{port}/stats;csv' | awk -F, '$1 == \"primary\" "
        '&& $2 !~ /^(FRONT|BACK)END$/ && $18 ~ /^UP/ { print "up:" $2 }\''
    )


def _summarise(spec: ClusterSpec, answers: Mapping[str, str]) -> Mapping[str, Any]:
    found = {h.name: _balancer(answers.get(h.name, "")) for h in spec.with_role("haproxy")}
    return {"balancers": found}


def _balancer(answer: str) -> Mapping[str, Any]:
    if not answer.startswith("# pxname"):
        return {"answers": False, "primary": [], "replica": [], "sessions": None}
    rows = list(csv.DictReader(StringIO(answer.removeprefix("# "))))
    servers = [row for row in rows if row["svname"] not in {"FRONTEND", "BACKEND"}]
    fronts = [row for row in rows if row["svname"] == "FRONTEND" and row["pxname"] in _PORTS]
    return {
        "answers": True,
        **{
            name: [s["svname"] for s in servers if s["pxname"] == name and _up(s)]
            for name in _PORTS
        },
        "sessions": sum(int(row["scur"] or 0) for row in fronts),
    }


_PORTS = ("primary", "replica")


def _up(row: Mapping[str, str]) -> bool:
    return row["status"].startswith("UP")


def _rows(summary: Mapping[str, Any]) -> Sequence[str]:
    return [_row(name, balancer) for name, balancer in summary["balancers"].items()]


def _row(name: str, balancer: Mapping[str, Any]) -> str:
    if not balancer["answers"]:
        return f"{name:<12} DOES NOT ANSWER"
    writes = ", ".join(balancer["primary"]) or "NOBODY"
    reads = ", ".join(balancer["replica"]) or "nobody"
    return f"{name:<12} writes to {writes}, reads from {reads}, {balancer['sessions']} sessions"


STATUS = StatusProbe(script=_script, summarise=_summarise, rows=_rows)
