"""Which roles, resource types and machine providers there are. The only module that loads roles.

Ours are found by walking the package `roles`, strictly: one that cannot be imported is an error.
Others' come through the entry point group `pgha_build.roles`, whose entries name a `Role`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

from builder.errors import PghaError
from builder.machines.base import Provider
from builder.ports import collisions
from builder.resources.base import Resource
from builder.role import Role
from builder.spec.model import ClusterSpec, Problem
from builder.spec.section import Vocabulary

ENTRY_POINTS = "pgha_build.roles"


@cache
def roles() -> Mapping[str, Role]:
    """All roles by name."""
    found: dict[str, Role] = {}
    for role in (*_ours(), *_others()):
        if found.setdefault(role.name, role) is not role:
            raise PghaError(
                f"two packages bring a role named {role.name}", do="Uninstall one of them."
            )
    return found


def _ours() -> Iterator[Role]:
    package = importlib.import_module("roles")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):  # what several roles share, and is none itself
            yield importlib.import_module(f"roles.{module.name}").ROLE


def _others() -> Iterator[Role]:
    for point in entry_points(group=ENTRY_POINTS):
        yield point.load()


@cache
def kinds() -> Mapping[str, type[Resource]]:
    """All resource types by kind: ours, and those that roles define in their own packages."""
    package = importlib.import_module("builder.resources")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"builder.resources.{module.name}")
    roles()
    return {kind.kind: kind for kind in _subclasses(Resource) if not inspect.isabstract(kind)}


def _subclasses(base: type[Resource]) -> Iterator[type[Resource]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)


@cache
def vocabulary() -> Vocabulary:
    """All that a cluster.yml may say."""
    declared = [
        (name, item, role) for role in roles().values() for name, item in role.sections.items()
    ]
    return Vocabulary(
        sections={name: item for name, item, _ in declared},
        owners={name: role.name for name, _, role in declared if not role.everywhere},
        roles=frozenset(name for name, role in roles().items() if not role.everywhere),
        machines=_machine_schemas(),
        checks=(lambda spec: collisions(spec, roles()), *_machine_checks()),
    )


def _machine_schemas() -> Mapping[str, Mapping[str, object]]:
    return {name: module.SCHEMA for name, module in _providers()}


def _machine_checks() -> Iterator[Callable[[ClusterSpec], Iterable[Problem]]]:
    for _, module in _providers():
        yield from getattr(module, "CHECKS", ())


def _providers() -> Iterator[tuple[str, ModuleType]]:
    yield "lab", importlib.import_module("builder.machines.lab.settings")
    yield "vagrant", importlib.import_module("builder.machines.vagrant.settings")
    yield "existing", importlib.import_module("builder.machines.existing")


def provider(spec: ClusterSpec) -> Provider:
    """Where the spec's hosts come from."""
    if spec.machines.provider == "lab":
        from builder.machines.lab.provider import LabProvider

        return LabProvider(spec)
    if spec.machines.provider == "vagrant":
        from builder.machines.vagrant.provider import VagrantProvider

        return VagrantProvider(spec)
    from builder.machines.existing import ExistingProvider

    return ExistingProvider(spec)
