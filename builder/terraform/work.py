"""What both Terraform and the command do with a cluster, without words for a person."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder import registry
from builder.connection_files import home_of, remove_connection_files, write_connection_files
from builder.engine import render
from builder.engine.desired import present
from builder.engine.diff import difference
from builder.engine.execute import Apply, Result
from builder.engine.hosts import Progress
from builder.engine.lock import locked
from builder.engine.manifest import entry
from builder.engine.observe import Look, look, merged, merged_with_host
from builder.engine.plan import Plan
from builder.engine.script import Piece, Script
from builder.errors import PghaError, TransportError
from builder.overview import status
from builder.resources.base import Action, Impact, Observed, Present, Resource, Unknown
from builder.resources.steps import Step
from builder.role import Inside
from builder.terraform.text import line
from builder.transport.base import Connection, Connections
from builder.workspace import Workspace

SPEC_FILE = "cluster.yml"


def tell(host: str, text: str) -> None:
    """Progress, for TF_LOG: Terraform reads a plugin's stderr, and the level in its lines."""
    print(f"[INFO] {f'{host}: ' if host else ''}{text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One look: what apply would change, and whom and what it could not look at."""

    changes: tuple[str, ...] = ()
    impact: str = ""
    unreachable: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Done:
    """What an apply came to; `left` is what it did not get to."""

    failures: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    interrupted: bool = False


class Cluster:
    """A cluster by the text of its cluster.yml, and the folder of its secrets."""

    def __init__(self, text: str, folder: str) -> None:
        self.workspace = Workspace.open(Path(folder) / SPEC_FILE, text.encode())

    @property
    def name(self) -> str:
        return self.workspace.spec.name

    def outputs(self) -> dict[str, Any]:
        """What follows from the spec alone; nothing of it is secret."""
        uris = self.workspace.connection_strings()
        return {
            "id": self.name,
            "addresses": {h.name: h.address for h in self.workspace.spec.hosts.values()},
            "primary_uri": uris.get("primary", ""),
            "replica_uri": uris.get("replica", ""),
            "promises": list(self.workspace.promises),
        }

    def ca_certificate(self) -> str:
        return self.workspace.store.authority("cluster").bundle_pem.decode()

    def look(self) -> Seen:
        with self.workspace.connected() as connections:
            return seen_in(self._plan(connections))

    def make_machines(self, progress: Progress) -> None:
        self.workspace.provider.up(progress)

    def apply(
        self,
        progress: Progress,
        *,
        expected: Sequence[str] | None,
        max_impact: str | None,
        started: Callable[[Apply], None],
    ) -> Done:
        """Bring the hosts to what the spec says. `expected` are the changes that were planned and
        agreed to: others are refused. `started` is handed what can be stopped."""
        with (
            self.workspace.connected() as connections,
            locked(connections.reached(), "terraform apply") as lock,
        ):
            looks = self.workspace.look(connections)
            plan = self.workspace.plan_to_apply(connections, looks)
            seen = seen_in(plan)
            _refuse_costly(plan, max_impact)
            if expected is not None and set(seen.changes) - set(expected):
                raise PghaError(
                    f"{self.name} has changed since it was planned",
                    why="Now this would be done as well: "
                    + ", ".join(sorted(set(seen.changes) - set(expected))[:5]),
                    do="Plan again.",
                )
            run = Apply(
                plan=plan,
                connections=connections.reached(),
                looks=looks,
                progress=progress,
                lock_lost=lock.loss,
            )
            started(run)
            result = run.run()
        done = done_by(plan, result)
        try:
            write_connection_files(self.workspace)
        except PghaError as error:  # what was done is told all the same
            return replace(done, failures=(*done.failures, str(error)))
        return done

    @property
    def made_by_us(self) -> bool:
        """Whether there are machines to unmake."""
        return self.workspace.spec.machines.provider != "existing"

    def destroy(self, progress: Progress) -> None:
        self.workspace.provider.destroy(progress)
        remove_connection_files(home_of(self.workspace))

    def status(self) -> tuple[Mapping[str, Any], list[str]]:
        """The JSON of `pgha-build status`, and what is wrong."""
        with self.workspace.connected() as connections:
            document = status(self.workspace, connections)
        return document, document["ailments"]

    # ── inside the database ─────────────────────────────────────────────────────────────────────
    def role(self, name: str, **options: Any) -> Resource:
        return self._inside.role(self.workspace.spec, self.workspace.store, name, **options)

    def database(self, name: str, **options: Any) -> Sequence[Resource]:
        return self._inside.database(self.workspace.spec, name, **options)

    def see(self, resources: Sequence[Resource]) -> Mapping[str, Observed]:
        """What is known of them, by address."""
        with self.workspace.connected() as connections:
            looks = self._looks(connections, resources)
        return {resource.address: merged(resource, looks) for resource in resources}

    def bring(self, resources: Sequence[Resource], before: Sequence[Resource] = ()) -> None:
        """Make them as wanted, in that order, where writes go to. Raises PghaError.

        `before` is what was wanted last time: what only that asked for is taken back."""
        applied = {resource.address: entry(resource) for resource in before}
        with self.workspace.connected() as connections:
            looks = self._looks(connections, resources)
            self.workspace.keep_secrets()
            for resource in resources:
                observed, host = merged_with_host(resource, looks)
                if isinstance(observed, Unknown):
                    raise PghaError(
                        f"{resource.address} cannot be looked at: {observed.reason}",
                        do="pgha-build status says how the cluster is.",
                    )
                change = difference(resource, observed, applied.get(resource.address))
                if change.action is not Action.NONE:
                    _carry_out(connections[host], host, resource, change.steps())
        write_connection_files(self.workspace)

    def take_away(self, resource: Resource, steps: Sequence[Step]) -> None:
        """Where it is; nothing to do where it is not."""
        with self.workspace.connected() as connections:
            looks = self._looks(connections, [resource])
            observed, host = merged_with_host(resource, looks)
            if isinstance(observed, Unknown):
                raise PghaError(f"{resource.address} cannot be looked at: {observed.reason}")
            if isinstance(observed, Present):
                _carry_out(connections[host], host, resource, steps)

    def _looks(self, connections: Connections, resources: Sequence[Resource]) -> Mapping[str, Look]:
        found = look(connections, resources)
        self.workspace.refuse_foreign(found)
        return found

    @property
    def _inside(self) -> Inside:
        roles = present(self.workspace.spec, registry.roles())
        found = next((role.inside for role in roles if role.inside), None)
        if found is None:
            raise PghaError("no host of this cluster carries PostgreSQL")
        return found

    def _plan(self, connections: Connections) -> Plan:
        return self.workspace.plan(connections, self.workspace.look(connections))


def _carry_out(
    connection: Connection | TransportError,
    host: str,
    resource: Resource,
    steps: Sequence[Step],
) -> None:
    if isinstance(connection, TransportError):
        raise connection
    script = Script(host=host, pieces=[Piece(label=resource.address, steps=steps)])
    said = connection.run(script.text(), timeout_seconds=script.timeout_seconds)
    outcome = script.outcome(said.stdout)
    if outcome.failed is not None:
        raise PghaError(f"{resource.address}: {outcome.said or said.stderr.strip()}")


def seen_in(plan: Plan) -> Seen:
    return Seen(
        changes=tuple(sorted(line(change) for change in plan.differences)),
        impact=render.impact(plan.pending),
        unreachable=plan.unreachable,
        unknown=_unknown(plan),
    )


def _unknown(plan: Plan) -> tuple[str, ...]:
    """What could not be looked at on hosts that answer; what needs it is not touched."""
    causes = (plan.changes[a] for a, cause in plan.blocked.items() if a == cause)
    return tuple(
        f"{change.address}: {change.reason}"
        for change in causes
        if set(change.resource.hosts) - plan.unreachable.keys()
    )


def done_by(plan: Plan, result: Result) -> Done:
    return Done(
        failures=tuple(
            [f"{failure.address}: {failure.said}" for failure in result.failed]
            + [*plan.unreachable.values()]
            + [f"cannot be looked at: {what}" for what in _unknown(plan)]
        ),
        left=tuple(sorted({*result.left, *plan.blocked})),
        interrupted=result.interrupted,
    )


def _refuse_costly(plan: Plan, allowed: str | None) -> None:
    if allowed and plan.impact > Impact[allowed.upper()]:
        raise PghaError(
            f"this costs more than max_impact {allowed}: {render.impact(plan.pending)}",
            do="Allow more, or change less at a time. Nothing was changed.",
        )
