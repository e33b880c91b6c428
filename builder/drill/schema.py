"""The table that a drill writes to: made before, read back and dropped after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from builder.drill import clients
from builder.drill.ground import Ground
from builder.drill.inject import undisturbed
from builder.drill.scene import Scene
from builder.errors import PghaError
from builder.resources.sql import Server, identifier

_DROP = f"DROP SCHEMA IF EXISTS {clients.SCHEMA} CASCADE;"


@contextmanager
def table(ground: Ground, who: Scene) -> Iterator[None]:
    """A schema of our own in the first database, owned by the user whom the clients are."""
    from psycopg.conninfo import conninfo_to_dict

    said = conninfo_to_dict(ground.uris["primary"])
    user, database = identifier(str(said["user"])), str(said["dbname"])
    _sql(ground, who.leader, database, _DROP + _create(user))
    try:
        yield
    finally:
        with undisturbed():
            _drop(ground, database)


def _create(user: str) -> str:
    return (
        f"CREATE SCHEMA {clients.SCHEMA} AUTHORIZATION {user};"
        f"CREATE TABLE {clients.TABLE} (number bigint PRIMARY KEY);"
        f"ALTER TABLE {clients.TABLE} OWNER TO {user};"
    )


def _drop(ground: Ground, database: str) -> None:
    """On whoever leads by now; failing to is no reason to hide what went wrong before."""
    try:
        leader = ground.status()["patroni"]["leader"]
        if not leader:
            raise PghaError("there is no leader")
        _sql(ground, leader, database, _DROP)
    except PghaError as error:
        ground.tell("", f"the schema {clients.SCHEMA} is left behind: {error.what}")


def _sql(ground: Ground, host: str, database: str, statements: str) -> None:
    server = Server(port=ground.spec.sections["postgresql"]["port"])
    quiet = "SET client_min_messages = 'warning';"
    ground.injector.run(
        host, f"{server.psql(database=database)} <<'PGHA_SQL'\n{quiet}{statements}\nPGHA_SQL"
    )


def stored(ground: Ground) -> frozenset[int] | None:
    """The numbers in the table; None where nobody could be asked."""
    from psycopg import Error

    for _ in range(3):
        try:
            return clients.read_back(ground.uris["primary"])
        except Error as error:
            ground.tell("", f"cannot read back yet: {error}")
            time.sleep(2)  # before the next attempt
    return None
