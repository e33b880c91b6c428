"""What `status` says about HAProxy. Pure."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from builder.resources.base import quoted
from builder.role import StatusProbe
from builder.spec.model import ClusterSpec, Host


def _script(spec: ClusterSpec, host: Host) -> str:
    port = spec.sections["haproxy"]["status_port"]
    return f"curl -sS -m 3 'http://127.0.0.1:{port}/stats;csv' 2>&1"


_WRITES_TO = """\
use IO::Socket::INET;
$| = 1;
while (<STDIN>) {
    my @up;
    eval {
        local $SIG{ALRM} = sub { die };
        alarm 1;
        my $asked = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or die;
        print $asked "GET /stats;csv HTTP/1.0\\r\\n\\r\\n";
        while (<$asked>) {
            my @row = split /,/;
            next if $row[0] ne "primary" or $row[1] =~ /^(FRONT|BACK)END$/;
            push @up, "up:$row[1]" if $row[17] =~ /^UP/;
        }
    };
    alarm 0;
    print "@up\\n";
}
"""


def writes_to(spec: ClusterSpec, host: Host) -> str:
    """Prints `up:NAME` for each server that would get a write, at each line that it reads.

    Perl is on every Debian host, and one that runs costs a tenth of a curl that is started.
    """
    return quoted(("perl", "-e", _WRITES_TO, "--", str(spec.sections["haproxy"]["status_port"])))


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
