"""`pgha_cluster`: a whole cluster, from its machines (where they are ours to make) on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf.iface import (
    Config,
    CreateContext,
    DeleteContext,
    ImportContext,
    PlanContext,
    ReadContext,
    Resource,
    State,
    UpdateContext,
)
from tf.schema import Schema
from tf.types import Unknown
from tf.utils import Diagnostics

from builder.errors import MachineError, PghaError
from builder.resources.base import Impact
from builder.terraform.schema import CLUSTER, COMPUTED, IMPACTS, LIMITS
from builder.terraform.text import complain, spec_text
from builder.terraform.work import SPEC_FILE, Cluster, Done, Seen, tell


def cluster_of(block: Mapping[str, Any]) -> Cluster:
    return Cluster(spec_text(block), str(block.get("directory") or "."))


class ClusterResource(Resource):  # type: ignore[misc]
    """`pgha_cluster`: all of a cluster, from its machines (where they are ours to make) on."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        return "cluster"

    @classmethod
    def get_schema(cls) -> Schema:
        return CLUSTER

    def validate(self, diags: Diagnostics, type_name: str, config: Config) -> None:
        super().validate(diags, type_name, config)
        if diags.has_errors() or not _known(config):
            return
        if (limit := config.get("max_impact")) and limit not in map(str, Impact):
            diags.add_error(f"`{limit}` is no impact", f"One of {IMPACTS}.", path=["max_impact"])
        try:
            cluster_of(config)
        except PghaError as error:
            complain(diags, error)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────
    def read(self, ctx: ReadContext, current: State) -> State | None:
        """What differs from the configuration becomes `drift`: it is in the next plan."""
        try:
            cluster = cluster_of(current)
            seen = cluster.look()
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return current
        _warn(ctx.diagnostics, seen)
        silent = [f"! {host} cannot be reached" for host in seen.unreachable]
        silent += [f"! {what}" for what in seen.unknown]
        return {**_filled(current, cluster), "drift": [*silent, *seen.changes]}

    def plan(self, ctx: PlanContext, current: State | None, planned: State) -> State | None:
        """Whether and what an apply would change, as the engine says; else all stays."""
        current = current or {}
        asked = {"spec", "name", "settings", "host", "directory"}
        changed = any(_differs(current.get(key), planned.get(key)) for key in asked)
        if not changed and not current.get("drift"):
            kept = {**planned, **{a.name: current.get(a.name) for a in COMPUTED}}
            limits = any(_differs(current.get(a.name), planned.get(a.name)) for a in LIMITS)
            return {**kept, "changes": [], "impact": str(Impact.NONE)} if limits else kept
        if not _known(planned):
            return {**planned, **{a.name: Unknown for a in COMPUTED if a.name != "id"}}
        try:
            cluster = cluster_of(planned)
            if changed and cluster.name != current["id"]:
                ctx.diagnostics.add_error(
                    f"{current['id']} cannot become {cluster.name}",
                    "Another name is another cluster: make a second resource.",
                    path=["spec"],
                )
                return planned
            seen = cluster.look()
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return planned
        _warn(ctx.diagnostics, seen)
        return {
            **planned,
            **cluster.outputs(),
            "ca_certificate": current.get("ca_certificate"),
            "changes": list(seen.changes),
            "impact": seen.impact,
            "drift": [],
        }

    # ── changing ────────────────────────────────────────────────────────────────────────────────
    def create(self, ctx: CreateContext, planned: State) -> State | None:
        """The machines first, where they are ours to make. What has come about is never lost."""
        try:
            cluster = cluster_of(planned)
            cluster.make_machines(tell)
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return None
        return self._applied(ctx, cluster, _new(planned, cluster), expected=None)

    def update(self, ctx: UpdateContext, current: State, planned: State) -> State | None:
        cluster = cluster_of(planned)
        wanted, changes = _filled(planned, cluster), planned.get("changes")
        if not changes:
            return wanted
        cluster.make_machines(tell)
        expected = None if changes is Unknown else changes
        return self._applied(ctx, cluster, wanted, expected=expected)

    def _applied(
        self,
        ctx: CreateContext | UpdateContext,
        cluster: Cluster,
        state: State,
        *,
        expected: Sequence[str] | None,
    ) -> State:
        """An interruption is no error: of a new resource, Terraform would think that it is broken
        and to be destroyed. What was left is drift, which the next apply sees to."""
        try:
            done = cluster.apply(
                tell,
                expected=expected,
                max_impact=state.get("max_impact"),
                started=self.provider.started,
            )
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return state
        _report(ctx.diagnostics, cluster, done)
        return state

    def delete(self, ctx: DeleteContext, current: State) -> State | None:
        if current.get("deletion_protection"):
            ctx.diagnostics.add_error(
                f"{current['id']} is protected",
                "Every row in its databases would be gone. Set deletion_protection = false and "
                "apply, then destroy. After a create that failed, Terraform wants to replace the "
                "cluster: `terraform untaint` it, and apply again.",
                path=["deletion_protection"],
            )
            return current
        cluster = cluster_of(current)
        try:
            cluster.destroy(tell)
        except MachineError as error:
            if cluster.made_by_us:  # they may run still: Terraform must go on knowing them
                complain(ctx.diagnostics, error)
                return current
            ctx.diagnostics.add_warning(
                f"{current['id']} goes on running, and is no longer Terraform's",
                "\n".join(filter(None, (error.what, error.why, error.do))),
            )
        return None

    def import_(self, ctx: ImportContext, id: str) -> State | None:
        """`id` is the path of the cluster.yml of a cluster that the command has made."""
        path = Path(id)
        file = path / SPEC_FILE if path.is_dir() else path
        try:
            text = file.read_text()
        except OSError as error:
            ctx.diagnostics.add_error(f"{file} cannot be read: {error.strerror}")
            return None
        block = {"spec": text, "directory": str(file.parent)}
        try:
            cluster = cluster_of(block)
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return None
        empty = dict.fromkeys(attribute.name for attribute in CLUSTER.attributes)
        return _new({**empty, "host": [], **block, "deletion_protection": True}, cluster)


# ── small parts ─────────────────────────────────────────────────────────────────────────────────
def _known(block: Mapping[str, Any]) -> bool:
    """Whether all that the spec comes from is known already: other resources may make it."""
    keys = ("spec", "name", "settings", "directory")
    hosts = block.get("host") or []
    return not any(block.get(key) is Unknown for key in keys) and not any(
        value is Unknown for host in hosts for value in host.values()
    )


def _differs(before: Any, after: Any) -> bool:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return sorted(json.dumps(item, sort_keys=True) for item in value)
        return value or None

    return after is Unknown or bool(plain(before) != plain(after))


def _new(state: State, cluster: Cluster) -> State:
    """As long as nothing was applied."""
    return _filled({**state, "changes": [], "impact": "", "drift": []}, cluster)


def _filled(state: State, cluster: Cluster) -> State:
    return {**state, **cluster.outputs(), "ca_certificate": cluster.ca_certificate()}


def _warn(diags: Diagnostics, seen: Seen) -> None:
    for host, why in seen.unreachable.items():
        diags.add_warning(f"{host} cannot be looked at", why)
    for what in seen.unknown:
        diags.add_warning("Something cannot be looked at", what)


def _report(diags: Diagnostics, cluster: Cluster, done: Done) -> None:
    left = ", ".join(done.left[:10]) + (" …" if len(done.left) > 10 else "")
    if done.interrupted:
        diags.add_warning(
            f"{cluster.name}: interrupted, and not finished",
            f"Not begun: {left}. Apply again: it goes on from here.",
        )
    for failure in done.failures:
        head, _, rest = failure.partition("\n")
        diags.add_error(head, rest)
