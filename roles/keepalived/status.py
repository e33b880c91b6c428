"""What `status` says about the virtual IP. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from builder.role import StatusProbe
from builder.spec.model import ClusterSpec, Host
from roles.keepalived.settings import NAME


def _script(spec: ClusterSpec, host: Host) -> str:
    address = spec.sections[NAME]["virtual_ip"].split("/")[0]
    return f"ip -o -4 address show to {address}/32; systemctl is-active keepalived"


def holds(spec: ClusterSpec, host: Host) -> str:
    """Prints `holder` where the address is, at each line that it reads."""
    address = spec.sections[NAME]["virtual_ip"].split("/")[0]
    shown = f"ip -o -4 address show to {address}/32"
    return f"while read -r _; do case $({shown}) in *inet*) echo holder ;; *) echo ;; esac; done"


def _summarise(spec: ClusterSpec, answers: Mapping[str, str]) -> Mapping[str, Any]:
    address = spec.sections[NAME]["virtual_ip"]
    hosts = [host.name for host in spec.with_role(NAME)]
    holders = [name for name in hosts if "inet " in answers.get(name, "")]
    running = [
        name
        for name in hosts
        if answers.get(name, "").rstrip().endswith("\nactive")
        or answers.get(name, "").strip() == "active"
    ]
    return {"virtual_ip": address, "holders": holders, "running": running, "hosts": hosts}


def _rows(summary: Mapping[str, Any]) -> Sequence[str]:
    holders = summary["holders"]
    who = {0: "NOBODY holds it", 1: f"held by {holders[0]}" if holders else ""}
    said = who.get(len(holders), f"HELD BY {len(holders)}: {', '.join(holders)}")
    stopped = [host for host in summary["hosts"] if host not in summary["running"]]
    tail = f"; keepalived does not run on {', '.join(stopped)}" if stopped else ""
    return [f"{summary['virtual_ip']} {said}{tail}"]


STATUS = StatusProbe(script=_script, summarise=_summarise, rows=_rows)
