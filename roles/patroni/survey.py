"""What runs on the database hosts of a cluster that was set up by hand: asked, and judged. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder import debian
from builder.operations.course import OperationError
from builder.resources.base import quoted
from builder.spec.model import ClusterSpec
from roles.patroni.settings import data_directory

KEPT = "/var/lib/pgha-build/before"
UNDER_WAY = f"{KEPT}/adopting"
_MARK = "Managed by pgha-build"

# One line per fact. The old configuration is the last word of the unit's command line.
_SURVEY = """\
data={data}
config=$(systemctl show -P ExecStart patroni.service 2>/dev/null \
| sed -n 's/.*argv\\[\\]=\\([^;]*[^; ]\\) *;.*/\\1/p' | awk '{{ print $NF }}')
[ -f "$config" ] || config=
echo "config $config"
[ ! -e {under_way} ] || echo "adopting yes"
systemctl -q is-active patroni.service && echo "patroni runs"
[ -z "$config" ] || ! grep -q '{mark}' "$config" || echo "ours yes"
[ -z "$config" ] || echo "scope $(sed -n 's/^scope: *["'\\'']*\\([^"'\\'' ]*\\).*/\\1/p' "$config")"
if [ -e "$data/PG_VERSION" ]; then
  echo "version $(cat "$data/PG_VERSION")"
  [ -e "$data/postgresql.conf" ] && echo "settings there"
  [ -e "$data/standby.signal" ] && echo "standby yes"
  echo "system $(LC_ALL=C {binaries}/pg_controldata -D "$data" 2>/dev/null \
| sed -n 's/^Database system identifier: *//p' | head -n 1)"
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
  [ -n "$pid" ] && [ "/proc/$pid/cwd" -ef "$data" ] && echo "postgresql runs"
fi
exit 0
"""


def survey(data: str) -> str:
    """Shell that tells what runs on a database host, and whose it is."""
    return _SURVEY.format(
        data=quoted([data]),
        mark=_MARK,
        under_way=UNDER_WAY,
        binaries=debian.postgresql_binaries("*"),
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found on a database host."""

    config: str = ""
    scope: str = ""
    version: str = ""
    system: str = ""
    ours: bool = False
    adopting: bool = False
    patroni_runs: bool = False
    postgresql_runs: bool = False
    standby: bool = False
    settings: bool = False

    @classmethod
    def read(cls, output: str) -> Found:
        said = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
        return cls(
            config=said.get("config", ""),
            scope=said.get("scope", ""),
            version=said.get("version", ""),
            system=said.get("system", ""),
            ours=said.get("ours") == "yes",
            adopting=said.get("adopting") == "yes",
            patroni_runs=said.get("patroni") == "runs",
            postgresql_runs=said.get("postgresql") == "runs",
            standby=said.get("standby") == "yes",
            settings=said.get("settings") == "there",
        )

    @property
    def leads(self) -> bool:
        return self.postgresql_runs and not self.standby

    @property
    def run_by_us(self) -> bool:
        return self.ours and self.patroni_runs


def find_leader(spec: ClusterSpec, found: Mapping[str, Found]) -> str:
    """Who holds the rows that count. Raises OperationError where that is not certain."""
    if all(item.run_by_us and not item.adopting for item in found.values()):
        raise OperationError(
            "this cluster is run by pgha-build already", do="pgha-build plan shows what differs."
        )
    where = data_directory(spec)
    leaders = [host for host, item in found.items() if item.leads]
    if not leaders:
        there = ", ".join(host for host, item in found.items() if item.version) or "no host"
        raise OperationError(
            f"nobody runs PostgreSQL as the leader on {where} ({there} has data there)",
            why="The one that leads must start first, so it has to be known.",
            do="Set postgresql.data_directory to where the data is, and have the old cluster run.",
        )
    if len(leaders) > 1:
        raise OperationError(
            f"{' and '.join(leaders)} both take writes",
            why="One of them holds rows that the other has not.",
            do="Decide which counts, and stop PostgreSQL and Patroni on the other.",
        )
    leader = leaders[0]
    for host, item in found.items():
        if reason := _misfit(spec, item, found[leader]):
            raise OperationError(f"{host}: {reason[0]}", do=reason[1])
    return leader


def _misfit(spec: ClusterSpec, item: Found, leader: Found) -> tuple[str, str] | None:
    """Why a host's PostgreSQL cannot be taken over, and what helps."""
    version = str(spec.sections["postgresql"]["version"])
    if not item.version:
        return None  # a replica that is copied anew
    if item.version != version:
        return f"its data is of PostgreSQL {item.version}", "Set postgresql.version to that."
    if item.system != leader.system:
        return (
            f"its data is of another cluster (system {item.system or 'unknown'})",
            "Move that data directory away; the host becomes a new replica.",
        )
    if not item.settings:
        return (
            "its postgresql.conf is not in the data directory",
            "Debian's pg_createcluster keeps it in /etc/postgresql: copy its files there.",
        )
    return None


def summary(spec: ClusterSpec, found: Mapping[str, Found], leader: str) -> Iterator[str]:
    yield f"Found, with its data in {data_directory(spec)}:"
    for host, item in found.items():
        if not item.version:
            yield f"  {host}: no data; it will be copied from {leader}"
            continue
        role = "leads" if host == leader else "replica" if item.postgresql_runs else "stopped"
        by = "of pgha-build" if item.ours else f"scope {item.scope}" if item.scope else "none"
        runs = "" if item.patroni_runs else ", not running"
        yield f"  {host}: PostgreSQL {item.version}, {role}; Patroni: {by}{runs}"
