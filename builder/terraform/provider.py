"""The provider `pgha`: its resources and its data source.

Terraform's state holds what the configuration says and what may be shown: names, addresses,
connection strings without passwords. Secrets stay in the secrets file beside cluster.yml.
"""

from __future__ import annotations

import threading

from tf.iface import Config, DataSource, Resource
from tf.iface import Provider as ProviderInterface
from tf.schema import Schema
from tf.utils import Diagnostics

from builder.engine.execute import Apply
from builder.terraform.cluster import ClusterResource
from builder.terraform.inside import DatabaseResource, RoleResource
from builder.terraform.status import StatusSource


class PghaProvider(ProviderInterface):  # type: ignore[misc]
    """Knows what is being applied, so that it can be asked to stop."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._running: list[Apply] = []

    def stop(self) -> None:
        """Running steps end, nothing new begins."""
        self._stopping.set()
        for run in list(self._running):
            run.stop()

    def started(self, run: Apply) -> None:
        self._running.append(run)
        if self._stopping.is_set():
            run.stop()

    def get_model_prefix(self) -> str:
        return "pgha_"

    def full_name(self) -> str:
        return "registry.terraform.io/pgha/pgha"

    def get_provider_schema(self, diags: Diagnostics) -> Schema:
        return Schema(description="Highly available PostgreSQL clusters on your own machines.")

    def validate_config(self, diags: Diagnostics, config: Config) -> None:
        """There is nothing to configure."""

    def configure_provider(self, diags: Diagnostics, config: Config) -> None:
        """There is nothing to configure."""

    def get_data_sources(self) -> list[type[DataSource]]:
        return [StatusSource]

    def get_resources(self) -> list[type[Resource]]:
        return [ClusterResource, RoleResource, DatabaseResource]
