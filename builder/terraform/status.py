"""`pgha_status`: how a cluster is, right now."""

from __future__ import annotations

import json
from typing import Any

from tf.iface import Config, DataSource, ReadDataContext, State
from tf.schema import Attribute, Schema
from tf.types import Bool, List, String

from builder.errors import PghaError
from builder.terraform.cluster import cluster_of
from builder.terraform.schema import SOURCE
from builder.terraform.text import complain


class StatusSource(DataSource):  # type: ignore[misc]
    """The JSON of `pgha-build status`, and what it comes to."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        return "status"

    @classmethod
    def get_schema(cls) -> Schema:
        found = [
            Attribute("id", String(), computed=True, description="The cluster's name."),
            Attribute("healthy", Bool(), computed=True, description="Whether all is well."),
            Attribute("problems", List(String()), computed=True, description="What is not."),
            Attribute("leader", String(), computed=True, description="The host that leads."),
            Attribute(
                "json",
                String(),
                computed=True,
                description="All that `pgha-build status --json` says: use `jsondecode`.",
            ),
        ]
        source = [a for a in SOURCE if a.name in {"spec", "directory"}]
        return Schema(
            attributes=[*source, *found], description="How a cluster is: `pgha-build status`."
        )

    def read(self, ctx: ReadDataContext, config: Config) -> State | None:
        try:
            cluster = cluster_of(config)
            document, wrong = cluster.status()
        except PghaError as error:
            complain(ctx.diagnostics, error)
            return None
        return {
            "spec": config.get("spec"),
            "directory": config.get("directory") or ".",
            "id": cluster.name,
            "healthy": not wrong,
            "problems": wrong,
            "leader": str((document.get("patroni") or {}).get("leader") or ""),
            "json": json.dumps(document, sort_keys=True),
        }
