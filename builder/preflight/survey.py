"""Asking the hosts: the thin IO edge of the preflight."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from builder import registry
from builder.engine.desired import listening
from builder.engine.observe import Look, look
from builder.engine.plan import Plan
from builder.errors import PlanError
from builder.preflight import questions
from builder.preflight.finding import Level
from builder.preflight.judge import Survey, judge
from builder.spec.model import ClusterSpec, Host
from builder.transport.base import Connections


def survey(
    spec: ClusterSpec,
    connections: Connections,
    hosts: Collection[str],
    script: Callable[[Host], str],
) -> Survey:
    """Ask `hosts`, all at once, in one round trip each."""
    scripts = {name: {"check": script(spec.hosts[name])} for name in hosts}
    begin = time.monotonic()
    looks = look({name: connections[name] for name in hosts}, (), scripts)
    took = time.monotonic() - begin
    return Survey(
        spec=spec,
        answers={
            host: questions.read(seen.extra["check"])
            for host, seen in looks.items()
            if not seen.error
        },
        openings={
            host.name: listening(spec, registry.roles(), host) for host in spec.hosts.values()
        },
        unreachable={
            host: seen.error.what.removeprefix(f"{host}: ")
            for host, seen in looks.items()
            if seen.error
        },
        took_seconds=took,
        ours=frozenset(host for host, seen in looks.items() if seen.manifest.cluster == spec.name),
    )


def refuse_obstacles(
    spec: ClusterSpec, connections: Connections, plan: Plan, looks: Mapping[str, Look]
) -> None:
    """The cheap part, of hosts that nothing has been applied to: PlanError with all errors."""
    fresh = _fresh(plan, looks)
    if not fresh:
        return
    found = judge(survey(spec, connections, fresh, lambda host: questions.cheap(spec, host)))
    errors = [finding for finding in found if finding.level is Level.ERROR]
    if errors:
        raise PlanError(
            "\n".join(f"{finding.host}: {finding.what}" for finding in errors),
            why="Nothing was changed.",
            do="pgha-build check says what to do about it; pgha-build apply --no-check leaves "
            "this out.",
        )


def _fresh(plan: Plan, looks: Mapping[str, Look]) -> list[str]:
    """Hosts that are to change, that answer, and that nothing has been applied to yet."""
    concerned = {host for change in plan.pending for host in change.resource.hosts}
    return [
        host
        for host in looks
        if host in concerned and not looks[host].error and not looks[host].manifest.entries
    ]
