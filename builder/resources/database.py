"""A database and its extensions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown
from builder.resources.sql import Server, answer, identifier, literal
from builder.resources.steps import Step


@dataclass(frozen=True, kw_only=True)
class Database(Resource):
    """A database with its owner. Encoding and locale count at creation only."""

    kind: ClassVar[str] = "database"
    late: ClassVar[bool] = True
    at_once: ClassVar[bool] = True

    server: Server = Server()
    owner: str = "postgres"

    def attributes(self) -> Mapping[str, object]:
        return {"owner": self.owner}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        names = ", ".join(literal(database.name) for database in wanted)
        statement = (
            f"SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname IN ({names});"
        )
        return wanted[0].server.ask(statement)

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        rows = answer(output)
        if isinstance(rows, Absent | Unknown):
            return {database.name: rows for database in wanted}
        owners = {row[0]: row[1] for row in rows if len(row) == 2}
        return {
            database.name: Present(attributes={"owner": owners[database.name]})
            if database.name in owners
            else Absent()
            for database in wanted
        }

    def steps(self, change: Change) -> Sequence[Step]:
        name, owner = identifier(self.name), identifier(self.owner)
        if isinstance(change.observed, Present):
            return (self.server.change(f"ALTER DATABASE {name} OWNER TO {owner};"),)
        return (self.server.change(f"CREATE DATABASE {name} OWNER {owner};"),)

    def recall(self) -> Mapping[str, str]:
        return self.server.recall()

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, server=Server.revive(recalled))

    def removal(self) -> Sequence[Step]:
        """Never: a line deleted from a file must not delete data."""
        return ()

    def drop(self) -> Sequence[Step]:
        """With all its rows: for who has said so in words. One that is in use is refused."""
        return (self.server.change(f"DROP DATABASE IF EXISTS {identifier(self.name)};"),)


@dataclass(frozen=True, kw_only=True)
class Extension(Resource):
    """An extension in a database; `name` is `database/extension`."""

    kind: ClassVar[str] = "extension"
    late: ClassVar[bool] = True

    server: Server = Server()

    @property
    def _parts(self) -> tuple[str, str]:
        database, _, extension = self.name.partition("/")
        return database, extension

    def attributes(self) -> Mapping[str, object]:
        return {"installed": True}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        return "\n".join(item._probe() for item in wanted)

    def _probe(self) -> str:
        """A database that is not there yet holds no extension: that is absent, not unknown."""
        database, _ = self._parts
        inside = self.server.psql("-c", "SELECT extname FROM pg_extension", database=database)
        known = self.server.ask(
            f"SELECT 'database|' || datname FROM pg_database WHERE datname = {literal(database)};"
        )
        return (
            f"echo 'item {self.name}'; known=$({known}\n); echo \"${{known%%database|*}}\"\n"
            f"case $known in *'database|'*) {inside} 2>&1 </dev/null || echo 'role down';; esac"
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        parts = (part.partition("\n") for part in ("\n" + output).split("\nitem ")[1:])
        found = {name: text for name, _, text in parts}
        return {item.name: item._observed(found.get(item.name, "")) for item in wanted}

    def _observed(self, text: str) -> Observed:
        rows = answer(text)
        if isinstance(rows, Absent | Unknown):
            return rows
        installed = [self._parts[1]] in rows
        return Present(attributes={"installed": True}) if installed else Absent()

    def steps(self, change: Change) -> Sequence[Step]:
        database, extension = self._parts
        statement = f"CREATE EXTENSION IF NOT EXISTS {identifier(extension)};"
        return (self.server.change(statement, database=database),)

    def recall(self) -> Mapping[str, str]:
        return self.server.recall()

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, server=Server.revive(recalled))

    def removal(self) -> Sequence[Step]:
        """Never: dropping an extension drops what uses it."""
        return ()
