"""What a cluster.yml may say, as far as roles and machine providers decide it. Pure values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from builder.spec.model import ClusterSpec, Problem


def none(_: ClusterSpec) -> Iterable[Problem]:
    """The check of a section whose schema says everything."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """One top-level key of cluster.yml, declared by a role.

    `schema` is the Cerberus schema of its keys (see `builder.spec.types`), `doc` one or two
    sentences for the reference page, `check` the rules across keys: pure, on the finished model.
    """

    schema: Mapping[str, Any]
    doc: str
    check: Callable[[ClusterSpec], Iterable[Problem]] = none


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All sections, role names, and settings of machine providers (by provider).

    `owners` says which role a section belongs to: its required keys are demanded, and its check
    runs, once a host carries that role or the section is written. A section without an owner
    always counts. `checks` are rules across all sections.
    """

    sections: Mapping[str, Section]
    roles: frozenset[str]
    machines: Mapping[str, Mapping[str, Any]]
    owners: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[Callable[[ClusterSpec], Iterable[Problem]], ...] = ()
