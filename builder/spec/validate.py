"""From a document to a ClusterSpec, or to all its mistakes at once. Pure.

Three stages, each on the ground of the one before: the schema, the model, the rules across keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.diagnostics import Diagnostic
from builder.errors import SpecError
from builder.spec.build import build
from builder.spec.check import check_hosts
from builder.spec.document import Document
from builder.spec.model import ClusterSpec, Problem
from builder.spec.schema import DEFAULT_PROVIDER, cluster_schema
from builder.spec.section import Section, Vocabulary
from builder.spec.validator import errors_in, with_defaults


def validate(document: Document, vocabulary: Vocabulary, path: Path) -> ClusterSpec:
    """The spec in `document`; SpecError with every mistake, sorted by line."""
    rule = cluster_schema(vocabulary, _provider(document.values))
    values = _with_demanded_sections(document.values, vocabulary)
    if errors := errors_in(values, rule):
        from builder.spec.explain import explain

        _raise_any(document.diagnose(explain(errors, rule, vocabulary)))
    _raise_any(document.diagnose(()))
    with_all_sections: dict[str, Any] = {name: {} for name in vocabulary.sections}
    complete = with_defaults({**with_all_sections, **values}, rule)
    spec = build(complete, vocabulary, path)
    _raise_any(document.diagnose(_across_keys(spec, vocabulary, values)))
    return spec


def _raise_any(diagnostics: tuple[Diagnostic, ...]) -> None:
    if diagnostics:
        raise SpecError(diagnostics)


def _across_keys(
    spec: ClusterSpec, vocabulary: Vocabulary, values: Mapping[str, Any]
) -> Iterator[Problem]:
    yield from check_hosts(spec)
    for section in _complete_sections(vocabulary, values):
        yield from section.check(spec)
    for check in vocabulary.checks:
        yield from check(spec)


def _complete_sections(vocabulary: Vocabulary, values: Mapping[str, Any]) -> Iterator[Section]:
    """The sections whose required keys are all there (see `_with_demanded_sections`)."""
    return (section for name, section in vocabulary.sections.items() if name in values)


def _provider(values: Mapping[str, Any]) -> str:
    machines = values.get("machines")
    provider = machines.get("provider") if isinstance(machines, dict) else None
    if provider is None:
        return DEFAULT_PROVIDER
    return provider if isinstance(provider, str) else ""


def _with_demanded_sections(values: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """Add an empty mapping for what counts but is not written, so that its keys are asked for.

    A section counts once a host has its role. Nobody without an HAProxy host need say anything
    about HAProxy; who has one is told what is missing.
    """
    carried = _carried_roles(values)
    demanded: dict[str, Any] = {
        name: {}
        for name in vocabulary.sections
        if values.get(name) is None
        and (name in values or vocabulary.owners.get(name, "") in {"", *carried})
    }
    return {**values, **demanded}


def _carried_roles(values: Mapping[str, Any]) -> frozenset[str]:
    """The roles of all hosts, in values of which nothing is known yet."""
    hosts = values.get("hosts")
    hosts = hosts.values() if isinstance(hosts, dict) else ()
    lists = [host.get("roles") for host in hosts if isinstance(host, dict)]
    found = (role for roles in lists if isinstance(roles, list) for role in roles)
    return frozenset(role for role in found if isinstance(role, str))
