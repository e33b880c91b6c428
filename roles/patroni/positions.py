"""How far each host's data is, and whose counts where etcd does not know any more. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder import debian
from builder.operations.course import OperationError, Target
from builder.resources.base import quoted
from builder.spec.model import ClusterSpec
from roles.patroni.preconditions import refuse_stranger
from roles.patroni.settings import data_directory, server


@dataclass(frozen=True, kw_only=True)
class Data:
    """`role`: primary, replica, down (PostgreSQL does not answer), absent. `at`: how far it is."""

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
        f"case $said in *'role down'*) {control} | awk -F': *' {quoted([_ON_DISK])} ;; esac"
    )


_ON_DISK = """\
/^Latest checkpoint location/ { wal = $2 }
/^Latest checkpoint.s TimeLineID/ { timeline = $2 }
/^Minimum recovery ending location/ && $2 != "0/0" { wal = $2 }
END { print "at timeline " timeline ", WAL " wal " or more" }"""
_AT = """\
SELECT 'at timeline ' || (SELECT timeline_id FROM pg_control_checkpoint()) || ', WAL ' ||
  CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
  ELSE pg_current_wal_lsn() END;"""


def whose_data(target: Target, found: Mapping[str, Data]) -> str:
    """The leader that runs, or who is named. Raises OperationError where it is not certain."""
    primaries = [host for host, data in found.items() if data.role == "primary"]
    if len(primaries) > 1:
        raise OperationError(
            f"{' and '.join(primaries)} both take writes",
            why="One of them holds rows that the other has not.",
            do="Decide which counts, and stop Patroni and PostgreSQL on the other.",
        )
    if target.word:
        refuse_stranger(target.spec, target.word)
    there = [host for host, data in found.items() if data.role != "absent"]
    if primaries and target.word not in {"", primaries[0]}:
        raise OperationError(
            f"{primaries[0]} takes writes, and {target.word} does not",
            do=f"pgha-build ops recover-etcd {primaries[0]}; move the lead after that.",
        )
    if not there or (target.word and target.word not in there):
        raise OperationError(
            f"{target.word or 'no host'} has data of PostgreSQL",
            do="pgha-build apply founds a new cluster, where that is wanted.",
        )
    if chosen := next(iter(primaries), target.word) or (there[0] if len(there) == 1 else ""):
        return chosen
    raise OperationError(
        "etcd's data is gone, and no PostgreSQL takes writes: "
        + "; ".join(f"{host} is at {found[host].at}" for host in there),
        why="Who leads from now on decides which writes are kept.",
        do="Say whose data counts, mostly that which is furthest: pgha-build ops recover-etcd HOST",
    )
