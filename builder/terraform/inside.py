"""`pgha_role` and `pgha_database`: what lives inside the database beside what cluster.yml names.

A role's password is made here, kept in the secrets file, and never in Terraform's state.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tf.iface import (
    CreateContext,
    DeleteContext,
    PlanContext,
    ReadContext,
    Resource,
    State,
    UpdateContext,
)
from tf.schema import Attribute, Schema
from tf.types import Bool, List, Number, String, Unknown

from builder.errors import PghaError
from builder.resources.base import Absent, Present
from builder.terraform.text import complain
from builder.terraform.work import Cluster

_CLUSTER = [
    Attribute(
        "spec",
        String(),
        required=True,
        description="The cluster: `pgha_cluster.NAME.spec`, or the text of its cluster.yml.",
    ),
    Attribute(
        "directory",
        String(),
        optional=True,
        computed=True,
        default=".",
        description="Folder of the cluster's secrets file. Default: the working directory.",
    ),
]
_ONE_AT_A_TIME = threading.Lock()  # each may add a password to the secrets file
_ID = Attribute("id", String(), computed=True, description="Cluster and name.")


def _cluster(state: Mapping[str, Any]) -> Cluster:
    return Cluster(str(state["spec"]), str(state.get("directory") or "."))


class _Inside(Resource):  # type: ignore[misc]
    """Looks at, makes and changes `wanted` on whoever leads."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    def wanted(self, cluster: Cluster, state: Mapping[str, Any]) -> Sequence[Any]:
        raise NotImplementedError

    def seen(self, state: State, found: Mapping[str, Any]) -> State:
        """The state with what was found of the first of `wanted`."""
        raise NotImplementedError

    def read(self, ctx: ReadContext, current: State) -> State | None:
        try:
            cluster = _cluster(current)
            first, *others = self.wanted(cluster, current)
            observed = cluster.see([first, *others])
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return current
        found = observed[first.address]
        if isinstance(found, Absent):
            return None
        if not isinstance(found, Present):
            ctx.diagnostics.add_warning(f"{first.address} cannot be looked at", str(found))
            return current
        whole = all(isinstance(observed[item.address], Present) for item in others)
        wrong = [
            n for n, v in first.attributes().items() if first.differs(n, v, found.attributes.get(n))
        ]
        return {**self.seen(current, found.attributes), "current": whole and not wrong}

    def plan(self, ctx: PlanContext, current: State | None, planned: State) -> State | None:
        return {**planned, "current": True}

    def create(self, ctx: CreateContext, planned: State) -> State | None:
        return self._brought(ctx, planned, before=None)

    def update(self, ctx: UpdateContext, current: State, planned: State) -> State | None:
        return self._brought(ctx, planned, before=current) or current

    def _brought(
        self, ctx: CreateContext | UpdateContext, planned: State, *, before: State | None
    ) -> State | None:
        try:
            with _ONE_AT_A_TIME:
                cluster = _cluster(planned)
                known = self.wanted(cluster, before) if before is not None else ()
                cluster.bring(self.wanted(cluster, planned), before=known)
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return None
        return {**planned, "id": f"{cluster.name}/{planned['name']}", "current": True}


_CURRENT = Attribute(
    "current",
    Bool(),
    computed=True,
    description="Whether it is as the configuration says, its password included.",
)


class RoleResource(_Inside):
    """`pgha_role`."""

    @classmethod
    def get_name(cls) -> str:
        return "role"

    @classmethod
    def get_schema(cls) -> Schema:
        own = [
            Attribute(
                "name",
                String(),
                required=True,
                requires_replace=True,
                description="Name of the role; not one of cluster.yml's.",
            ),
            Attribute(
                "login",
                Bool(),
                optional=True,
                computed=True,
                default=True,
                description="Whether it may log in, through the balancers; then it gets a "
                "password, which is in the secrets file, and in `.pgha/CLUSTER/pgpass`.",
            ),
            Attribute(
                "options",
                List(String()),
                optional=True,
                description="Any of superuser, createdb, createrole, replication.",
            ),
            Attribute(
                "member_of", List(String()), optional=True, description="Roles that it is granted."
            ),
            Attribute(
                "connection_limit",
                Number(),
                optional=True,
                computed=True,
                default=-1,
                description="Most connections at a time. Default: -1, no limit.",
            ),
        ]
        return Schema(
            attributes=[*_CLUSTER, *own, _CURRENT, _ID], description="A role in the database."
        )

    def wanted(self, cluster: Cluster, state: Mapping[str, Any]) -> Sequence[Any]:
        login, limit = state.get("login"), state.get("connection_limit")
        return [
            cluster.role(
                str(state["name"]),
                login=True if login in {None, Unknown} else bool(login),
                options=tuple(state.get("options") or ()),
                member_of=tuple(state.get("member_of") or ()),
                connection_limit=-1 if limit in {None, Unknown} else int(limit),
            )
        ]

    def seen(self, state: State, found: Mapping[str, Any]) -> State:
        options = sorted(set(found["flags"]) - {"login"})
        known = sorted(state.get("options") or ())
        return {
            **state,
            "login": "login" in found["flags"],
            "options": state.get("options") if options == known else options,
            "connection_limit": found["connection_limit"],
        }

    def delete(self, ctx: DeleteContext, current: State) -> State | None:
        try:
            cluster = _cluster(current)
            (role,) = self.wanted(cluster, current)
            cluster.take_away(role, role.removal())
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return current
        return None


class DatabaseResource(_Inside):
    """`pgha_database`."""

    @classmethod
    def get_name(cls) -> str:
        return "database"

    @classmethod
    def get_schema(cls) -> Schema:
        own = [
            Attribute(
                "name",
                String(),
                required=True,
                requires_replace=True,
                description="Name of the database; not one of cluster.yml's.",
            ),
            Attribute(
                "owner",
                String(),
                optional=True,
                computed=True,
                default="postgres",
                description="The role that owns it. Default: postgres.",
            ),
            Attribute(
                "extensions",
                List(String()),
                optional=True,
                description="Extensions to create in it; one that leaves the list stays.",
            ),
            Attribute(
                "drop_on_destroy",
                Bool(),
                optional=True,
                computed=True,
                default=False,
                description="Whether destroying drops it, with all its rows. Default: false; it "
                "stays, and is no longer Terraform's.",
            ),
        ]
        return Schema(attributes=[*_CLUSTER, *own, _CURRENT, _ID], description="A database.")

    def wanted(self, cluster: Cluster, state: Mapping[str, Any]) -> Sequence[Any]:
        owner = state.get("owner")
        return cluster.database(
            str(state["name"]),
            owner="postgres" if owner in {None, Unknown} else str(owner),
            extensions=tuple(state.get("extensions") or ()),
        )

    def seen(self, state: State, found: Mapping[str, Any]) -> State:
        return {**state, "owner": found["owner"]}

    def delete(self, ctx: DeleteContext, current: State) -> State | None:
        if not current.get("drop_on_destroy"):
            ctx.diagnostics.add_warning(
                f"The database {current['name']} stays, and is no longer Terraform's",
                "With drop_on_destroy = true it would have been dropped.",
            )
            return None
        try:
            cluster = _cluster(current)
            database, *_ = self.wanted(cluster, current)
            cluster.take_away(database, database.drop())
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return current
        return None
