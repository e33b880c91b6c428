"""A role in the database. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown
from builder.resources.sql import Server, answer, identifier, literal
from builder.resources.steps import Step
from builder.security.secret import Secret

_MEMBER_OF = "member_of."
_COLUMNS = {
    "login": "rolcanlogin",
    "superuser": "rolsuper",
    "createdb": "rolcreatedb",
    "createrole": "rolcreaterole",
    "replication": "rolreplication",
    "bypassrls": "rolbypassrls",
}
_FOR_EVER = "infinity"


@dataclass(frozen=True, kw_only=True)
class DatabaseRole(Resource):
    """A role; `verifier` is its SCRAM verifier, computed here, so no server ever logs a password.

    `flags` are the attributes it has of login, superuser, createdb, createrole, replication,
    bypassrls; all others are taken away. Its password never expires.
    `member_of` lists roles it is granted. Each is an attribute of its own:
    so the manifest knows which we granted, and those are revoked when they leave the spec;
    memberships that others granted are left alone.
    `may_execute` lists functions of pg_catalog as PostgreSQL writes them, such as `f(text,bigint)`.
    """

    kind: ClassVar[str] = "role"
    late: ClassVar[bool] = True
    at_once: ClassVar[bool] = True

    server: Server = Server()
    verifier: Secret | None = field(default=None, repr=False)
    flags: tuple[str, ...] = ("login",)
    member_of: tuple[str, ...] = ()
    connection_limit: int = -1
    may_execute: tuple[str, ...] = ()

    def attributes(self) -> Mapping[str, object]:
        wanted: dict[str, object] = {"flags": tuple(sorted(self.flags))}
        if self.verifier is not None:
            text = self.verifier.reveal()
            wanted["password"] = hashlib.sha256(text.encode()).hexdigest()
        wanted |= _memberships(self.member_of)
        wanted["connection_limit"] = self.connection_limit
        wanted["valid_until"] = _FOR_EVER
        if self.may_execute:
            wanted["may_execute"] = tuple(sorted(self.may_execute))
        return wanted

    def hides(self, attribute: str) -> bool:
        return attribute == "password"

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        names = ", ".join(literal(role.name) for role in wanted)
        flags = ", ".join(
            f"CASE WHEN {column} THEN '{flag} ' ELSE '' END" for flag, column in _COLUMNS.items()
        )
        statement = (
            f"SELECT a.rolname, concat({flags}), rolconnlimit, "
            f"coalesce(rolvaliduntil::text, '{_FOR_EVER}'), "
            "coalesce(encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex'), 'none'), "
            "(SELECT coalesce(string_agg(g.rolname, ' '), '') FROM pg_auth_members m "
            "JOIN pg_roles g ON g.oid = m.roleid "
            "WHERE m.member = a.oid AND g.rolname !~ '[|[:space:]]'), "
            f"{_executable({name for role in wanted for name in role.may_execute})} "
            f"FROM pg_authid a WHERE a.rolname IN ({names});"
        )
        return wanted[0].server.ask(statement)

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        rows = answer(output)
        if isinstance(rows, Absent | Unknown):
            return {role.name: rows for role in wanted}
        found = {row[0]: row for row in rows if len(row) == 7}
        return {
            role.name: role._observed(found[role.name]) if role.name in found else Absent()
            for role in wanted
        }

    def _observed(self, row: Sequence[str]) -> Observed:
        _, flags, limit, until, password, groups, functions = row
        seen: dict[str, object] = {"flags": tuple(sorted(flags.split()))}
        if self.verifier is not None:
            seen["password"] = password
        seen |= _memberships(groups.split())
        seen["connection_limit"] = int(limit)
        seen["valid_until"] = until
        if self.may_execute:
            seen["may_execute"] = tuple(sorted(set(functions.split()) & set(self.may_execute)))
        return Present(attributes=seen)

    def steps(self, change: Change) -> Sequence[Step]:
        name = identifier(self.name)
        verb = "ALTER" if isinstance(change.observed, Present) else "CREATE"
        options = [flag if flag in self.flags else f"no{flag}" for flag in _COLUMNS]
        options.append(f"connection limit {self.connection_limit} valid until '{_FOR_EVER}'")
        if self.verifier is not None:
            options.append(f"password {literal(self.verifier.reveal())}")
        grants = [f"GRANT {identifier(group)} TO {name};" for group in self.member_of]
        revokes = [f"REVOKE {identifier(group)} FROM {name};" for group in _left(change)]
        statement = f"{verb} ROLE {name} WITH {' '.join(options)};"
        lets = self.execution_grants()
        return (self.server.change("\n".join([statement, *grants, *revokes, *lets])),)

    def execution_grants(self) -> Sequence[str]:
        name = identifier(self.name)
        return [f"GRANT EXECUTE ON FUNCTION pg_catalog.{f} TO {name};" for f in self.may_execute]

    def password_steps(self) -> Sequence[Step]:
        """Set the password of a role that is there, and nothing else."""
        if self.verifier is None:
            return ()
        password = literal(self.verifier.reveal())
        return (self.server.change(f"ALTER ROLE {identifier(self.name)} PASSWORD {password};"),)

    def recall(self) -> Mapping[str, str]:
        return self.server.recall()

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name, server=Server.revive(recalled))

    def removal(self) -> Sequence[Step]:
        """A role that still owns something is refused by PostgreSQL, and that is right."""
        return (self.server.change(f"DROP ROLE {identifier(self.name)};"),)


def _memberships(groups: Iterable[str]) -> Mapping[str, str]:
    return {f"{_MEMBER_OF}{group}": "granted" for group in sorted(groups)}


def _left(change: Change) -> Iterator[str]:
    """The roles that it is no longer to be a member of."""
    for item in change.attributes:
        if item.name.startswith(_MEMBER_OF) and item.after is None:
            yield item.name.removeprefix(_MEMBER_OF)


def _executable(functions: Iterable[str]) -> str:
    """SQL: those of the functions that the role `a` may execute, in this database."""
    names = ", ".join(literal(name) for name in sorted(functions))
    may = "has_function_privilege(a.oid, to_regprocedure(f)::oid, 'execute')"
    return (
        "(SELECT coalesce(string_agg(f, ' '), '') "
        f"FROM unnest(ARRAY[{names}]::text[]) f WHERE {may})"
    )
