"""The traffic: writers and readers that behave as an application would, and record what they see.

They talk to the cluster's own address only, are bounded in rate and time, and end by themselves.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from builder.drill.history import Attempt, Kind, Outcome
from builder.drill.judge import USUAL_SECONDS

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA = "pgha_drill"
TABLE = f"{SCHEMA}.writes"
STATEMENT_SECONDS = 5.0
NUMBERS = itertools.count(1)
_CLIENTS = itertools.count(1)
_BACK_OFF_SECONDS = 0.1
_SLOW_SSH_SECONDS = 1.5
_PATIENCE_SECONDS = 30

# What a careful application sets: bounded connecting, dead peers noticed, silence not endured.
OPTIONS: Mapping[str, Any] = {
    "application_name": "pgha-drill",
    "tcp_user_timeout": 3000,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
}
WRITE = (
    "INSERT INTO pgha_drill.writes (number) VALUES (%s) RETURNING"
    " ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,"
    " host(inet_server_addr())"
)
READ = (
    "SELECT 0, host(inet_server_addr())"
    " FROM (SELECT max(number) FROM pgha_drill.writes WHERE number < %s) AS newest"
)
_NOTHING_DONE = ("25006", "57P03", "53300")  # read-only, starting up, too many connections


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How many clients of each kind, and how far apart the statements of one are.

    Those that are `fresh` open a connection for each statement.

    `connect_seconds` is how long each waits for a connection; `slowness` as in `History`.
    """

    writers: int = 6
    fresh_writers: int = 2
    readers: int = 1
    fresh_readers: int = 1
    interval_seconds: float = 0.04
    fresh_interval_seconds: float = 0.2
    connect_seconds: int = 2
    slowness: float = 1.0

    def bearable(self, took_seconds: float, ssh_seconds: float) -> Traffic:
        """What a cluster can bear on which one connection took so long, and one over SSH."""
        return self.slowed(max(1.0, took_seconds / USUAL_SECONDS, ssh_seconds / _SLOW_SSH_SECONDS))

    def slowed(self, times: float) -> Traffic:
        """Fewer clients that pause and wait so many times longer."""
        return replace(
            self,
            writers=max(1, round(self.writers / times)),
            fresh_writers=max(1, round(self.fresh_writers / times)),
            interval_seconds=self.interval_seconds * times,
            fresh_interval_seconds=self.fresh_interval_seconds * times,
            connect_seconds=ceil(self.connect_seconds * times),
            slowness=self.slowness * times,
        )


class Client(threading.Thread):
    """One client. `allowed` is asked before each connection: no lab, no traffic."""

    def __init__(
        self,
        kind: Kind,
        uri: str,
        tell: Callable[[Attempt], None],
        *,
        interval: float,
        fresh: bool,
        connect_seconds: int,
        allowed: Callable[[], bool],
        deadline: float,
    ) -> None:
        super().__init__(daemon=True)
        self.kind, self.fresh, self.client = kind, fresh, next(_CLIENTS)
        self._uri, self._tell, self._interval = uri, tell, interval
        self._options = {**OPTIONS, "connect_timeout": connect_seconds}
        self._allowed, self._deadline = allowed, deadline
        self.stopping = threading.Event()
        self._connection: Connection[Any] | None = None
        self._busy_since: float | None = None

    def run(self) -> None:
        while not self.stopping.is_set() and time.monotonic() < self._deadline:
            begin = time.monotonic()
            attempt = self._attempt(begin, next(NUMBERS))
            if attempt:
                self._tell(attempt)
            failed = attempt is None or attempt.outcome is not Outcome.ACK
            pause = _BACK_OFF_SECONDS if failed else self._interval
            self.stopping.wait(max(0.0, pause - (time.monotonic() - begin)))
        self._disconnect()

    def _attempt(self, begin: float, number: int) -> Attempt | None:
        from psycopg import Error

        sent = None
        try:
            connection = self._connected()
            if connection is None:
                return None
            if self.stopping.is_set():
                return None
            sent = self._busy_since = time.monotonic()
            row = connection.execute(
                WRITE if self.kind is Kind.WRITE else READ, [number]
            ).fetchone()
            timeline, member = row or (0, "")
            found = {"timeline": timeline, "member": member}
            return self._record(begin, sent, number, Outcome.ACK, **found)
        except (Error, OSError) as error:
            unknown = sent is not None and not _refused(error)
            outcome = Outcome.UNKNOWN if unknown else Outcome.ERROR
            self._busy_since = None
            self._disconnect()
            said = str(error).split("\n")[0][:160]
            return self._record(begin, sent, number, outcome, said=said)
        finally:
            self._busy_since = None
            if self.fresh:
                self._disconnect()

    def _record(
        self, begin: float, sent: float | None, number: int, outcome: Outcome, **more: Any
    ) -> Attempt:
        return Attempt(
            kind=self.kind,
            fresh=self.fresh,
            client=self.client,
            number=number,
            begin=begin,
            sent=sent,
            end=time.monotonic(),
            outcome=outcome,
            **more,
        )

    def _connected(self) -> Connection[Any] | None:
        import psycopg

        if self._connection is None:
            if not self._allowed():
                self.stopping.set()
                return None
            self._connection = psycopg.connect(self._uri, autocommit=True, **self._options)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def end_overdue(self) -> None:
        """Called from another thread: a statement without an answer is given up."""
        since, connection = self._busy_since, self._connection
        if since is None or connection is None or time.monotonic() - since < STATEMENT_SECONDS:
            return
        with suppress(Exception):
            duplicate = socket.socket(fileno=os.dup(connection.fileno()))
            duplicate.shutdown(socket.SHUT_RDWR)
            duplicate.close()


def _refused(error: BaseException) -> bool:
    """Did the server say that it did nothing?"""
    state = getattr(error, "sqlstate", None) or ""
    return bool(state) and state.startswith(_NOTHING_DONE)


def _clients(traffic: Traffic, uris: Mapping[str, str], **common: Any) -> Iterator[Client]:
    pace, slow = traffic.interval_seconds, traffic.fresh_interval_seconds
    common["connect_seconds"] = traffic.connect_seconds
    for _ in range(traffic.writers):
        yield Client(Kind.WRITE, uris["primary"], interval=pace, fresh=False, **common)
    for _ in range(traffic.fresh_writers):
        yield Client(Kind.WRITE, uris["primary"], interval=slow, fresh=True, **common)
    for _ in range(traffic.readers):
        yield Client(Kind.READ, uris["replica"], interval=slow, fresh=False, **common)
    for _ in range(traffic.fresh_readers):
        yield Client(Kind.READ, uris["replica"], interval=slow, fresh=True, **common)


@contextmanager
def running(traffic: Traffic, uris: Mapping[str, str], **common: Any) -> Iterator[Sequence[Client]]:
    """Clients at work while the block runs; `common` goes to each."""
    clients = list(_clients(traffic, uris, **common))
    ended = threading.Event()

    def guard() -> None:
        while not ended.wait(0.1):
            for client in clients:
                client.end_overdue()

    guarding = threading.Thread(target=guard, daemon=True)
    guarding.start()
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join(STATEMENT_SECONDS + 5)
        ended.set()


def connect_seconds(uri: str) -> float:
    """The shortest of three connections when nothing is wrong. Raises psycopg.Error."""
    return min(_connect_once(uri) for _ in range(3))


def _connect_once(uri: str) -> float:
    import psycopg

    begin = time.monotonic()
    psycopg.connect(uri, autocommit=True, connect_timeout=_PATIENCE_SECONDS, **OPTIONS).close()
    return time.monotonic() - begin


def read_back(uri: str) -> frozenset[int]:
    """All numbers in the table."""
    import psycopg

    patient = {**OPTIONS, "connect_timeout": _PATIENCE_SECONDS}
    with psycopg.connect(uri, autocommit=True, **patient) as connection:
        rows = connection.execute("SELECT number FROM pgha_drill.writes").fetchall()
    return frozenset(number for (number,) in rows)
