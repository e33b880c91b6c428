"""The cluster on which drills are done, and what a drill asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.drill import clients
from builder.drill.inject import Injector, Tell
from builder.drill.scene import Scene, scene
from builder.engine.desired import present
from builder.errors import PghaError
from builder.health import ailments
from builder.role import Role
from builder.spec.model import ClusterSpec


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The cluster to drill on. `status` and `differences` look anew at each call.

    `may_harm` raises PghaError where it must not be harmed any more.
    """

    spec: ClusterSpec
    roles: Mapping[str, Role]
    provider: Any
    uris: Mapping[str, str]
    status: Callable[[], Mapping[str, Any]]
    differences: Callable[[], Sequence[str]]
    tell: Tell
    traffic: clients.Traffic = clients.Traffic()
    may_harm: Callable[[], None] = lambda: None

    @property
    def injector(self) -> Injector:
        return Injector(self.provider.endpoints(), self.provider, self.tell)

    def promises(self) -> Mapping[str, float]:
        roles = present(self.spec, self.roles)
        return {p.fault: p.seconds for role in roles for p in role.promises(self.spec)}

    def healthy_scene(self) -> Scene:
        """Who is who; refuses a cluster that is not whole."""
        status = self.status()
        wrong = ailments(self.spec, status)
        if wrong:
            raise PghaError(
                f"{self.spec.name} is not healthy: {'; '.join(wrong)}",
                why="A second fault on top of this one could cost data or service.",
                do="See `pgha-build status` and `pgha-build plan`; drill when all is well.",
            )
        return scene(self.spec, status)
