"""Asking the local PostgreSQL as its superuser over the Unix socket (peer authentication). Pure.

All questions of a host travel in one psql call. A replica answers «elsewhere»: what it holds may
lag, and it cannot be written to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.resources.base import Absent, Unknown, quoted
from builder.resources.steps import Shell, Step


@dataclass(frozen=True, kw_only=True)
class Server:
    """The PostgreSQL of a host: TCP `port`, its `socket` directory, and its `data` directory."""

    port: int = 5432
    socket: str = "/var/run/postgresql"
    data: str = ""

    def recall(self) -> Mapping[str, str]:
        return {"port": str(self.port), "socket": self.socket, "data": self.data}

    @classmethod
    def revive(cls, recalled: Mapping[str, str]) -> Server:
        return cls(
            port=int(recalled.get("port", "5432")),
            socket=recalled.get("socket", "/var/run/postgresql"),
            data=recalled.get("data", ""),
        )

    def psql(
        self, *options: str, database: str = "postgres", connect: int = 5, statement: int = 15
    ) -> str:
        """A psql command line; the statements come on stdin. Bounded on both sides, in seconds."""
        words = ("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-p", str(self.port))
        environment = f"PGCONNECT_TIMEOUT={connect} PGOPTIONS='-c statement_timeout={statement}s'"
        user = "setpriv --reuid postgres --regid postgres --init-groups"
        return f"{environment} {user} {quoted((*words, *options, '-d', database))}"

    def ask(self, statement: str) -> str:
        """Shell that prints `role …` (primary, replica, absent, down) and the answer's rows."""
        return (
            f"if [ ! -e {quoted([self.data + '/PG_VERSION'])} ]; then echo 'role absent'; else "
            f"{self.psql()} 2>&1 <<'PGHA_SQL' || echo 'role down'\n"
            "SELECT 'role ' || CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END;\n"
            f"{statement}\nPGHA_SQL\nfi"
        )

    def change(self, statements: str, database: str = "postgres") -> Step:
        """Carry out statements where this host is the primary; nothing of them is logged.

        Some wait for a checkpoint (DROP DATABASE), and on a busy server that takes minutes.
        """
        quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1;\n"
        quiet += "SET log_min_error_statement = 'panic'; SET client_min_messages = 'warning';\n"
        psql = self.psql(database=database, connect=30, statement=240)
        return Shell(script=psql, stdin=(quiet + statements).encode())


def literal(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def answer(output: str) -> Sequence[Sequence[str]] | Absent | Unknown:
    """The rows, split at `|`, where the primary answered; else why there are none."""
    lines = output.splitlines()
    if "role absent" in lines:
        return Absent(elsewhere=True)
    if "role down" in lines or "role primary" not in lines:
        if "role replica" in lines:
            return Unknown("a replica: the primary decides", elsewhere=True)
        said = next((line for line in lines if line and not line.startswith("role ")), "")
        return Unknown(f"PostgreSQL does not answer: {said}"[:200])
    return [line.split("|") for line in lines if not line.startswith("role ")]
