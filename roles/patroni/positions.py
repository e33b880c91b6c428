"""How far each host's data is, and whose counts where etcd does not know any more. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder import debian
from builder.operations.course import OperationError
from builder.resources.base import quoted
from builder.spec.model import ClusterSpec
from roles.patroni.preconditions import refuse_stranger
from roles.patroni.settings import data_directory, server


@dataclass(frozen=True, kw_only=True)
class Data:
    """`role`: primary, replica, down, absent, or unclear: it runs, and does not say."""

    role: str
    at: str

    @classmethod
    def read(cls, output: str) -> Data:
        said = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
        return cls(role=said.get("role", "down"), at=said.get("at", "unknown"))


def position(spec: ClusterSpec) -> str:
    """Shell: `role …` and `at …`, by PostgreSQL or by what lies on its disk."""
    data = quoted([data_directory(spec)])
    binaries = debian.postgresql_binaries(spec.sections["postgresql"]["version"])
    control = f"LC_ALL=C {binaries}/pg_controldata -D {data} 2>/dev/null"
    return (
        f"said=$({server(spec).ask(_AT)})\nprintf '%s\\n' \"$said\"\n"
        "case $said in *'role down'*)\n"
        f"  pid=$(head -n 1 {data}/postmaster.pid 2>/dev/null) || :\n"
        f'  [ -z "$pid" ] || [ ! "/proc/$pid/cwd" -ef {data} ] || echo "role unclear"\n'
        f"  {control} | awk -F': *' {quoted([_ON_DISK])} ;;\n"
        "esac"
    )


_ON_DISK = """\
/^Latest checkpoint location/ { wal = $2 }
/^Latest checkpoint.s TimeLineID/ { timeline = $2 }
/^Minimum recovery ending location/ && $2 != "0/0" { wal = $2; recovered = 1 }
/^Min recovery ending loc.s timeline/ && recovered { timeline = $2 }
END { print "at timeline " timeline ", WAL " wal " or more" }"""
# The timeline of the last checkpoint would be that before the last promotion.
_AT = """\
SELECT 'at timeline ' || CASE WHEN pg_is_in_recovery() THEN greatest(
    (SELECT received_tli FROM pg_stat_wal_receiver),
    (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
    (SELECT timeline_id FROM pg_control_checkpoint()))
  ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END
  || ', WAL ' || CASE WHEN pg_is_in_recovery()
  THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
  ELSE pg_current_wal_lsn() END;"""


def primary(found: Mapping[str, Data]) -> str:
    """Who takes writes; "" where nobody does. Raises OperationError where it is not certain."""
    unclear = [host for host, data in found.items() if data.role == "unclear"]
    if unclear:
        raise OperationError(
            f"PostgreSQL runs on {', '.join(unclear)}, and does not say whether it takes writes",
            do="Give the command again once it answers psql, or has been stopped.",
        )
    primaries = [host for host, data in found.items() if data.role == "primary"]
    if len(primaries) > 1:
        raise OperationError(
            f"{' and '.join(primaries)} both take writes",
            why="One of them holds rows that the other has not.",
            do="Decide which counts, and stop Patroni and PostgreSQL on the other.",
        )
    return next(iter(primaries), "")


def whose_data(spec: ClusterSpec, word: str, found: Mapping[str, Data]) -> str:
    """The leader that runs, or who is named. Raises OperationError where it is not certain."""
    leads = primary(found)
    if word:
        refuse_stranger(spec, word)
    there = [host for host, data in found.items() if data.role != "absent"]
    if leads and word not in {"", leads}:
        raise OperationError(
            f"{leads} takes writes, and {word} does not",
            do=f"pgha-build ops recover-etcd {leads}; move the lead after that.",
        )
    if not there or (word and word not in there):
        raise OperationError(
            f"{word} has no data of PostgreSQL" if word else "no host has data of PostgreSQL",
            do=f"One of: {', '.join(there)}."
            if there
            else "pgha-build apply founds a new cluster, where that is wanted.",
        )
    if chosen := leads or word or (there[0] if len(there) == 1 else ""):
        return chosen
    raise OperationError(
        "etcd's data is gone, and no PostgreSQL takes writes: "
        + "; ".join(f"{host} is at {found[host].at}" for host in there),
        why="Who leads from now on decides which writes are kept.",
        do="Say whose data counts, mostly that which is furthest: pgha-build ops recover-etcd HOST",
    )
