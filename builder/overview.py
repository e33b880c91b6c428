"""The whole cluster at a glance: one look at every host, as `pgha-build status --json` says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder import registry
from builder.engine.desired import present, roles_of
from builder.engine.observe import Look, look
from builder.expiry import DaysLeft, alarm, days_left
from builder.health import ailments
from builder.resources.certificate import Certificate
from builder.transport.base import Connections
from builder.workspace import Workspace


def status(workspace: Workspace, connections: Connections) -> dict[str, Any]:
    """One look at everything, as the JSON that `--json` prints."""
    looks = _looks(workspace, connections)
    document: dict[str, Any] = {
        "cluster": workspace.spec.name,
        "unreachable": {host: seen.error.what for host, seen in looks.items() if seen.error},
    }
    for role in present(workspace.spec, registry.roles()):
        if role.status:
            answers = {
                host: seen.extra[role.name]
                for host, seen in looks.items()
                if role.name in seen.extra
            }
            document[role.name] = role.status.summarise(workspace.spec, answers)
    certificates = _certificates(looks)
    return {
        **document,
        "ailments": [*ailments(workspace.spec, document), *alarm(certificates)],
        "certificates": certificates,
        "managed": {host: len(seen.manifest.entries) for host, seen in looks.items()},
        "connection": dict(workspace.connection_strings()),
    }


def _looks(workspace: Workspace, connections: Connections) -> Mapping[str, Look]:
    """What each role asks its hosts, and the certificates that are there."""
    roles = registry.roles()
    extra = {
        host.name: {
            role.name: role.status.script(workspace.spec, host)
            for role in roles_of(host, roles)
            if role.status
        }
        for host in workspace.spec.hosts.values()
    }
    certificates = [r for r in workspace.desired.resources if isinstance(r, Certificate)]
    return look(connections, certificates, extra)


def _certificates(looks: Mapping[str, Look]) -> DaysLeft:
    return days_left(
        (host, address.partition(":")[2], said)
        for host, seen in looks.items()
        for address, said in seen.observed.items()
    )
