"""ClusterSpec × roles → desired resources. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from builder.engine.graph import by_address
from builder.errors import PlanError
from builder.resources.base import Resource
from builder.resources.package import Lock, Package
from builder.resources.python_environment import PREFIX, PythonEnvironment
from builder.role import Context, Opening, Role, Secrets
from builder.spec.model import ClusterSpec, Host

_NO_VERSIONS: Mapping[str, Mapping[str, str]] = {}
_NO_LOCK: Lock = {}


@dataclass(frozen=True, kw_only=True)
class Desired:
    """All resources that the spec asks for; `origins` says which roles asked for an address."""

    resources: Sequence[Resource]
    origins: Mapping[str, frozenset[str]]


def desired(
    spec: ClusterSpec,
    roles: Mapping[str, Role],
    secrets: Secrets,
    now: datetime,
    *,
    versions: Mapping[str, Mapping[str, str]] = _NO_VERSIONS,
    locked: Lock = _NO_LOCK,
    bundled: bool = False,
) -> Desired:
    """What every host and the cluster as a whole must have.

    `versions` of packages, by host, go before cluster.yml's, and those before what is `locked`.
    `bundled`: packages come from what was carried to the hosts.
    """
    pairs = [
        (role, _packaged(_in_version(_as_locked(resource, locked), versions), bundled))
        for role, resource in _all(spec, roles, secrets, now)
    ]
    origins: dict[str, set[str]] = {}
    for role, resource in pairs:
        origins.setdefault(resource.address, set()).add(role)
    resources = by_address(resource for _, resource in pairs)
    return Desired(
        resources=tuple(resources.values()),
        origins={address: frozenset(names) for address, names in origins.items()},
    )


def _in_version(resource: Resource, versions: Mapping[str, Mapping[str, str]]) -> Resource:
    if not isinstance(resource, Package):
        return resource
    version = versions.get(resource.hosts[0], {}).get(resource.name)
    return replace(resource, version=version, sha256="") if version else resource


def _packaged(resource: Resource, bundled: bool) -> Resource:
    """Of whatever kind: what depends on where packages come from has that field."""
    if not bundled or not hasattr(resource, "bundled"):
        return resource
    changes: dict[str, Any] = {"bundled": True}
    return replace(resource, **changes)


def _as_locked(resource: Resource, locked: Lock) -> Resource:
    """What its host lacks in the lock is as all others have it, if they have it alike."""
    if isinstance(resource, PythonEnvironment):
        return _locked_environment(resource, locked)
    if not isinstance(resource, Package) or resource.version:
        return resource
    own = locked.get(resource.hosts[0], {}).get(resource.name)
    others = {entries[resource.name] for entries in locked.values() if resource.name in entries}
    entry = own or (others.pop() if len(others) == 1 else None)
    return replace(resource, version=entry.version, sha256=entry.sha256) if entry else resource


def _locked_environment(environment: PythonEnvironment, locked: Lock) -> PythonEnvironment:
    """All its packages, or none: pip takes checksums of everything or of nothing."""
    if not locked:
        return environment
    found = {
        host: {n.removeprefix(PREFIX): e for n, e in entries.items() if n.startswith(PREFIX)}
        for host, entries in locked.items()
    }
    own = found.get(environment.hosts[0])
    others = [entries for entries in found.values() if entries]
    alike = others[0] if others and all(entries == others[0] for entries in others) else {}
    return replace(environment, locked=own or alike)


def refuse_strays(resources: Iterable[Resource], locked: Lock) -> None:
    """Raises PlanError where there is a lock, and it does not have what is to be installed."""
    missing: dict[str, list[str]] = {}
    for item in resources:
        if isinstance(item, PythonEnvironment) and (strays := item.strays()):
            raise PlanError(
                f"cluster.lock.yml locks {'; '.join(strays)}, for {item.address}",
                why="cluster.yml asks for that version, and its checksums are not known.",
                do="pgha-build lock",
            )
        if locked and isinstance(item, Package) and not item.version:
            missing.setdefault(item.hosts[0], []).append(item.name)
    if missing:
        words = "; ".join(f"{', '.join(names)} on {host}" for host, names in missing.items())
        raise PlanError(
            f"cluster.lock.yml does not lock {words}",
            why="With a lock, a host gets what is locked for it, or what all others have alike, "
            "or nothing.",
            do="pgha-build lock adds what those hosts have, or what their sources would give them. "
            "Where such a source is new, bring it there first: "
            "apply --only HOST/file:/etc/apt/sources.list.d/pgha-NAME.sources",
        )


def refuse_idle_pins(pins: Iterable[str], resources: Iterable[Resource]) -> None:
    """Raises PlanError for a pin in cluster.yml that is of no package."""
    known = sorted({item.name for item in resources if isinstance(item, Package)})
    idle = [name for name in pins if name not in known]
    if not idle:
        return
    near = [match for name in idle for match in difflib.get_close_matches(name, known, 1)]
    question = f"Did you mean {', '.join(near)}? " if near else ""
    raise PlanError(
        f"packages.versions: no host of this cluster needs a package {', '.join(idle)}",
        why="Such a pin keeps nothing back: what it was meant for would be updated.",
        do=f"{question}There are: {', '.join(known)}.",
    )


def _all(
    spec: ClusterSpec, roles: Mapping[str, Role], secrets: Secrets, now: datetime
) -> Iterator[tuple[str, Resource]]:
    for host in spec.hosts.values():
        for role in roles_of(host, roles):
            context = _context(spec, host, roles, secrets, now)
            yield from ((role.name, resource) for resource in role.resources(context))
    for role in present(spec, roles):
        found = role.cluster_resources(spec, secrets)
        yield from ((role.name, resource) for resource in found)


def roles_of(host: Host, roles: Mapping[str, Role]) -> Iterable[Role]:
    """Those that every host carries, then its own, in the order of the file."""
    yield from (role for role in roles.values() if role.everywhere)
    yield from (roles[name] for name in host.roles)


def present(spec: ClusterSpec, roles: Mapping[str, Role]) -> Sequence[Role]:
    """The roles that at least one host carries."""
    carried = {name for host in spec.hosts.values() for name in host.roles}
    return [role for name, role in roles.items() if role.everywhere or name in carried]


def _context(
    spec: ClusterSpec, host: Host, roles: Mapping[str, Role], secrets: Secrets, now: datetime
) -> Context:
    own = tuple(roles_of(host, roles))
    return Context(
        spec=spec,
        host=host,
        secrets=secrets,
        now=now,
        openings=tuple(opening for role in own for opening in role.openings(spec, host)),
        protected_units=tuple(sorted({unit for role in own for unit in role.services})),
    )


def listening(spec: ClusterSpec, roles: Mapping[str, Role], host: Host) -> Sequence[Opening]:
    """Every port of a host, of all its roles."""
    return [o for role in roles_of(host, roles) for o in role.openings(spec, host)]
