"""What every command starts from: the spec, its secrets, its machines, and the connections.

The thin IO edge in which the pure parts meet; commands call it and print what it returns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from builder import lockfile, registry
from builder.engine.desired import Desired, desired, present, refuse_idle_pins, refuse_strays
from builder.engine.leftovers import leftovers
from builder.engine.manifest import PATH as MANIFEST
from builder.engine.manifest import Manifest
from builder.engine.observe import Look, look
from builder.engine.plan import Plan, make_plan, narrowed
from builder.engine.texts import with_diffs
from builder.errors import ChangedHostKeyError, PghaError, PlanError, SecretsError
from builder.machines.base import Provider
from builder.preflight.survey import refuse_obstacles
from builder.resources.base import Action, Change
from builder.resources.package import Lock
from builder.security.store import SecretStore, open_store
from builder.spec.model import ClusterSpec, Host
from builder.spec.read import read_spec
from builder.transport.base import Connections


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One cluster.yml and everything that follows from it without a connection.

    `versions`: of packages, by host, as this run wants them: pins that cluster.yml does not have.
    `locked`: those of cluster.lock.yml.
    """

    spec: ClusterSpec
    store: SecretStore
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    locked: Lock = field(default_factory=dict)
    bundled: bool = False

    @classmethod
    def open(cls, file: Path, content: bytes | None = None) -> Workspace:
        """Of a cluster.yml; `content` stands for what is in the file."""
        spec = read_spec(file, content)
        locked = lockfile.read(lockfile.beside(spec.path))
        return cls(spec=spec, store=open_store(spec.path, spec.name), locked=locked)

    def anew(self, **changes: Any) -> Workspace:
        """The same, with everything that follows from the secrets derived again."""
        return replace(self, **changes)

    @cached_property
    def provider(self) -> Provider:
        return registry.provider(self.spec)

    @cached_property
    def desired(self) -> Desired:
        return desired(
            self.spec,
            registry.roles(),
            self.store,
            datetime.now(UTC),
            versions=self.versions,
            locked=self.locked,
            bundled=self.bundled,
        )

    @cached_property
    def promises(self) -> tuple[str, ...]:
        roles = present(self.spec, registry.roles())
        found = (promise for role in roles for promise in role.promises(self.spec))
        return tuple(f"{p.fault} {p.seconds:g} s" for p in found)

    @contextmanager
    def connected(self) -> Iterator[Connections]:
        """Connections to all hosts, or why there is none, closed at the end.

        What is desired is worked out meanwhile: connecting is mostly waiting.
        """
        with ThreadPoolExecutor(max_workers=1) as pool:
            meanwhile = pool.submit(lambda: self.desired)
            from builder.transport.ssh import SshConnections

            with SshConnections(self.provider.endpoints()) as connections:
                meanwhile.result()
                yield connections

    # ── looking ─────────────────────────────────────────────────────────────────────────────────
    def look(self, connections: Connections) -> Mapping[str, Look]:
        """Everything wanted; and then, where a manifest lists more, that too.

        A host that has left the spec is connected to and looked at, until it is clean.
        """
        refuse_changed_keys(connections)
        looks = dict(look(connections, self.desired.resources))
        self.refuse_foreign(looks)
        looks |= self._look_at_departed(connections, looks)
        extra = leftovers(self.desired.resources, looks, registry.kinds())
        if not extra:
            return looks
        hosts = {host for resource in extra for host in resource.hosts}
        more = look({h: c for h, c in connections.items() if h in hosts}, extra)
        return {h: _joined(seen, more[h]) if h in more else seen for h, seen in looks.items()}

    def _look_at_departed(
        self, connections: Connections, looks: Mapping[str, Look]
    ) -> Mapping[str, Look]:
        """Hosts that other hosts remember and that are still ours, or do not answer."""
        gone = self._departed(looks)
        if not gone:
            return {}
        hosts = {name: Host(name=name, address=a, roles=(), ssh=self.spec.ssh) for name, a in gone}
        endpoints = registry.provider(replace(self.spec, hosts=hosts)).endpoints()
        connections.reach({n: e for n, e in endpoints.items() if n not in connections})
        found = look({name: connections[name] for name in hosts}, ())
        ours = {
            name: seen
            for name, seen in found.items()
            if seen.error or (seen.manifest.entries and self._is_ours(seen.manifest))
        }
        for name in found.keys() - ours.keys():
            connections.drop(name)
        return ours

    def _departed(self, looks: Mapping[str, Look]) -> Sequence[tuple[str, str]]:
        """Name and address of every host that a manifest lists and the spec does not."""
        remembered = {n: a for seen in looks.values() for n, a in seen.manifest.hosts.items()}
        return [(name, a) for name, a in remembered.items() if name not in self.spec.hosts]

    def _is_ours(self, manifest: Manifest) -> bool:
        """Of this name, and made with these secrets; who made an older one is not noted."""
        same = manifest.secrets in {"", self.store.id}
        return manifest.cluster == self.spec.name and same

    def refuse_foreign(self, looks: Mapping[str, Look]) -> None:
        """Raises PlanError or SecretsError where a host is another cluster's."""
        for host, seen in looks.items():
            if seen.manifest.cluster not in {"", self.spec.name}:
                raise PlanError(
                    f"{host} belongs to the cluster {seen.manifest.cluster}",
                    why=f"This spec describes {self.spec.name}; both would undo each other's work.",
                    do="Check the host's address, or destroy the other cluster first.",
                )
            if self.store.is_new and seen.manifest.entries:
                raise SecretsError(
                    f"{host} carries {self.spec.name} already, and {self.store.path} is not there",
                    why="New secrets would replace every password and CA of a running cluster.",
                    do="Bring the secrets file of this cluster back, from your copy.",
                )
            if seen.manifest.entries and not self._is_ours(seen.manifest):
                raise SecretsError(
                    f"{host} was set up with other secrets than those in {self.store.path}",
                    why=f"It belongs to another cluster that is called {self.spec.name}, or that "
                    "file is a new one. Every password and CA of a cluster that runs would be "
                    "replaced.",
                    do="Check the host's address; bring the secrets file back, from your copy. "
                    "Where that cluster was given up: pgha-build destroy; on machines that were "
                    f"there before, stop its services, and remove their data and {MANIFEST}.",
                )

    def _refuse_renamed(self, departed: Mapping[str, str]) -> None:
        """The same machine would be cleaned under its old name, data and all."""
        names = {host.address: host.name for host in self.spec.hosts.values()}
        for old, address in departed.items():
            if address in names:
                raise PlanError(
                    f"{names[address]} has the address of {old}, which has left cluster.yml",
                    why=f"What is there is known as {old}'s, and would be removed as such.",
                    do=f"Call it {old} again. Where the machine was installed anew: "
                    f"pgha-build state forget {old}",
                )

    # ── planning ────────────────────────────────────────────────────────────────────────────────
    def keep_secrets(self) -> None:
        """Write down what the spec newly needs, before any host gets it."""
        _ = self.desired
        if not self.store.save():
            raise SecretsError(
                f"somebody else has written {self.store.path} in the meantime",
                do="Run the command again: it will use those secrets.",
            )

    def plan(
        self, connections: Connections, looks: Mapping[str, Look], only: Collection[str] = ()
    ) -> Plan:
        """The plan, with unified diffs of what a person may read."""
        refuse_idle_pins(self.spec.sections["packages"]["versions"], self.desired.resources)
        departed = {name: a for name, a in self._departed(looks) if name in looks}
        self._refuse_renamed(departed)
        plan = make_plan(
            self.spec.name,
            self.desired.resources,
            looks,
            registry.kinds(),
            promises=self.promises,
            refine=self._refine,
            guard=self._guard,
            hosts={host.name: host.address for host in self.spec.hosts.values()},
            departed=departed,
            secrets=self.store.id,
        )
        wanted = self._narrowed(plan, only)
        coming = (c.resource for c in wanted.differences if c.action is not Action.DELETE)
        refuse_strays(coming, self.locked)
        return with_diffs(wanted, connections)

    def plan_to_apply(
        self,
        connections: Connections,
        looks: Mapping[str, Look],
        only: Collection[str] = (),
        *,
        check: bool = True,
        cautious: bool = True,
    ) -> Plan:
        """The plan of whoever carries it out next: all of them come this way.

        New secrets are kept first. With `check`, PlanError where a host that nothing was applied
        to yet carries somebody else's work: it would be overwritten; and, unless not `cautious`,
        where a role advises against it.
        """
        self.keep_secrets()
        plan = self.plan(connections, looks, only)
        if check:
            refuse_obstacles(self.spec, connections, plan, looks)
            if cautious:
                self._be_cautious(plan.changes)
        return plan

    def _refine(self, changes: Mapping[str, Change]) -> Mapping[str, Change]:
        """Each role's word on the changes as a whole."""
        refined = dict(changes)
        for role in present(self.spec, registry.roles()):
            if role.refine:
                refined |= role.refine(self.spec, refined)
        return refined

    def _guard(self, changes: Mapping[str, Change]) -> None:
        """Each role may refuse the plan, also one that no host carries any more."""
        for role in registry.roles().values():
            if role.guard:
                role.guard(self.spec, changes)

    def _be_cautious(self, changes: Mapping[str, Change]) -> None:
        for role in registry.roles().values():
            if role.caution:
                role.caution(self.spec, changes)

    def _narrowed(self, plan: Plan, only: Collection[str]) -> Plan:
        """Only what was asked for, and what that needs."""
        if not only:
            return plan
        for word in only:
            if not any(self._asked_for(change, [word]) for change in plan.changes.values()):
                raise PlanError(
                    f"--only {word}: nothing has that host, role or address",
                    do=f"Hosts: {', '.join(self.spec.hosts)}.",
                )
        return narrowed(plan, {a for a, c in plan.changes.items() if self._asked_for(c, only)})

    def _asked_for(self, change: Change, only: Collection[str]) -> bool:
        origins = self.desired.origins.get(change.address, frozenset())
        own = change.resource.hosts if len(change.resource.hosts) == 1 else ()
        return bool({change.address, *own, *origins} & set(only))

    def connection_strings(self) -> Mapping[str, str]:
        for role in present(self.spec, registry.roles()):
            if role.connection:
                return role.connection(self.spec)
        return {}


def _joined(one: Look, other: Look) -> Look:
    return replace(one, observed={**one.observed, **other.observed})


def refuse_changed_keys(connections: Connections) -> None:
    """Somebody else may answer at one address: then nothing is planned or changed at any."""
    changed = [c for c in connections.values() if isinstance(c, ChangedHostKeyError)]
    if changed:
        raise PghaError("\n".join(c.what for c in changed), why=changed[0].why, do=changed[0].do)
