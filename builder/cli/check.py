"""`pgha-build check`: what could stand in the way of a first apply, of all hosts, all at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from builder.cli.output import show_json
from builder.errors import PghaError
from builder.preflight import questions
from builder.preflight.facts import facts, rows
from builder.preflight.finding import Finding, Level, error, warning
from builder.preflight.judge import Survey, judge
from builder.preflight.links import Link, attempt, blocked, links, listener
from builder.preflight.survey import survey
from builder.resources.package import Package
from builder.transport.base import Connection, Connections, Held
from builder.workspace import Workspace

_SECONDS = 60


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a program")


def run(arguments: argparse.Namespace) -> int:
    """0: nothing that keeps the cluster from working; 1: errors."""
    workspace = Workspace.open(arguments.file)
    with workspace.connected() as connections:
        asked, findings = check(workspace, connections)
    if arguments.json:
        hosts = {host: facts(said) for host, said in asked.answers.items()}
        show_json({"hosts": hosts, "findings": [asdict(finding) for finding in findings]})
    else:
        print("\n".join((*rows(asked.answers), "", *_text(workspace, findings))))
    return 1 if any(finding.level is Level.ERROR for finding in findings) else 0


def check(workspace: Workspace, connections: Connections) -> tuple[Survey, list[Finding]]:
    """One look at every host, and one try of every way between two of them."""
    packages: dict[str, list[str]] = {}
    for resource in workspace.desired.resources:
        if isinstance(resource, Package):
            packages.setdefault(resource.hosts[0], []).append(resource.name)
    spec = workspace.spec
    asked = survey(
        spec,
        connections,
        spec.hosts,
        lambda host: questions.thorough(spec, host, packages.get(host.name, ())),
    )
    return asked, judge(asked) + list(_ways(asked, connections))


def _ways(asked: Survey, connections: Connections) -> Iterator[Finding]:
    able = {
        host: connection
        for host, connection in connections.reached().items()
        if host in asked.answers and asked.answers[host].all("python")
    }
    wanted = [
        link
        for link in links(asked.spec, asked.openings)
        if link.source in able and link.target in able
    ]
    if not wanted:
        return
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=len(able)) as pool:
        held = pool.map(lambda pair: _listen(*pair), _by(wanted, able, lambda link: link.target))
        for script in held:
            if isinstance(script, Finding):
                yield script
            else:
                stack.callback(script.release)
        yield from (
            finding
            for found in pool.map(
                lambda pair: _attempt(*pair), _by(wanted, able, lambda link: link.source)
            )
            for finding in found
        )


def _by(wanted: Sequence[Link], able: Mapping[str, Connection], key: Any) -> list[Any]:
    groups: dict[str, list[Link]] = {}
    for link in wanted:
        groups.setdefault(key(link), []).append(link)
    return [(able[host], found) for host, found in groups.items()]


def _listen(connection: Connection, wanted: Sequence[Link]) -> Held | Finding:
    try:
        return connection.hold(listener(wanted), timeout_seconds=_SECONDS)
    except PghaError as failure:
        return warning(wanted[0].target, f"ways to it could not be tried: {failure.what}")


def _attempt(connection: Connection, wanted: Sequence[Link]) -> list[Finding]:
    try:
        done = connection.run(attempt(wanted), timeout_seconds=_SECONDS)
    except PghaError as failure:
        return [error(wanted[0].source, str(failure.what))]
    if done.status:
        said = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        return [warning(wanted[0].source, f"ways to other hosts could not be tried: {said}")]
    return list(blocked(wanted, done.stdout))


def _text(workspace: Workspace, findings: Sequence[Finding]) -> Iterator[str]:
    for level in Level:
        found = [finding for finding in findings if finding.level is level]
        if found:
            yield f"{level.capitalize()}s:"
            width = max(len(finding.host or "all") for finding in found)
            for finding in found:
                yield f"  {finding.host or 'all':<{width}}  {finding.what}"
                if finding.do:
                    yield f"  {'':<{width}}  → {finding.do}"
            yield ""
    errors = sum(finding.level is Level.ERROR for finding in findings)
    count = f"{errors} errors, {len(findings) - errors} warnings"
    yield f"{workspace.spec.name}: {len(workspace.spec.hosts)} hosts, {count}."
