"""Looking at hosts: one script, one round trip each. The pure part builds and reads it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from builder.engine import manifest as manifests
from builder.engine.manifest import Entry, Manifest
from builder.engine.script import in_place
from builder.errors import AuthenticationError, ConnectionLost, TransportError
from builder.resources.base import Absent, Observed, Present, Resource, Unknown
from builder.transport.base import Connection

PROBE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one host said. `error` is set where it could not be asked at all."""

    host: str
    observed: Mapping[str, Observed] = field(default_factory=dict)
    manifest: Manifest = Manifest()
    system: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    error: TransportError | None = None


@dataclass(kw_only=True)
class Probe:
    """The script that looks at resources of one host, and the reader of its answer.

    `extra` are further fragments by name (a role's status), whose output is handed through.
    """

    host: str
    wanted: Sequence[Resource]
    extra: Mapping[str, str] = field(default_factory=dict)
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    def text(self) -> str:
        mark = f"printf '\\n@look-{self.nonce} %s\\n'"
        parts = [
            f"{mark} manifest; p={manifests.PATH}; [ ! -e $p ] || cat $p || echo unreadable",
            f"{mark} system; cat /etc/os-release",
            f"{mark} clock; date +%s",
        ]
        for kind, wanted in _by_kind(self.wanted).items():
            parts.append(f"{mark} kind:{kind}\n{type(wanted[0]).probe(wanted)}")
        parts.extend(f"{mark} extra:{name}\n{script}" for name, script in self.extra.items())
        return in_place(self.host, "\n".join([*parts, f"{mark} end"]))

    def read(self, output: str) -> Look:
        sections = self._sections(output)
        observed: dict[str, Observed] = {}
        for kind, wanted in _by_kind(self.wanted).items():
            found = type(wanted[0]).parse(wanted, sections.get(f"kind:{kind}", ""))
            for resource in wanted:
                said = found.get(resource.name, Unknown("the probe said nothing about it"))
                observed[resource.address] = said
        return Look(
            host=self.host,
            observed=observed,
            manifest=_manifest(self.host, sections.get("manifest", "")),
            system=_system(sections),
            extra={name: sections.get(f"extra:{name}", "") for name in self.extra},
        )

    def _sections(self, output: str) -> Mapping[str, str]:
        parts = output.split(f"\n@look-{self.nonce} ")[1:]
        named = (part.partition("\n") for part in parts)
        sections = {name: text for name, _, text in named}
        if "end" not in sections:
            raise ConnectionLost(self.host, "its answer was cut short", do="Run it again.")
        return sections


def _by_kind(wanted: Iterable[Resource]) -> Mapping[str, list[Resource]]:
    kinds: dict[str, list[Resource]] = {}
    for resource in wanted:
        if resource.observed_in_plan:
            kinds.setdefault(resource.kind, []).append(resource)
    return kinds


def _manifest(host: str, text: str) -> Manifest:
    try:
        return manifests.load(text)
    except ValueError as error:
        raise TransportError(
            host,
            f"cannot read {manifests.PATH}: {error}",
            why="It says what pgha-build manages there; without it, nothing can be removed safely.",
            do="Restore it, or move it away: then everything counts as not yet managed.",
        ) from error


def _system(sections: Mapping[str, str]) -> Mapping[str, str]:
    pairs = (line.split("=", 1) for line in sections.get("system", "").splitlines() if "=" in line)
    system = {key: value.strip('"') for key, value in pairs}
    return system | {"clock": sections.get("clock", "").strip()}


def look(
    connections: Mapping[str, Connection | TransportError],
    resources: Sequence[Resource],
    extra: Mapping[str, Mapping[str, str]] | None = None,
) -> Mapping[str, Look]:
    """Look at all hosts in parallel. A host that cannot be asked yields a Look with its error."""
    probes = [
        Probe(
            host=host,
            wanted=[resource for resource in resources if host in resource.hosts],
            extra=(extra or {}).get(host, {}),
        )
        for host in connections
    ]
    with ThreadPoolExecutor(max_workers=max(1, len(probes))) as pool:
        looks = pool.map(lambda probe: ask(connections[probe.host], probe), probes)
    return {seen.host: seen for seen in looks}


def ask(connection: Connection | TransportError, probe: Probe) -> Look:
    """Look at one host."""
    if isinstance(connection, TransportError):
        return Look(host=probe.host, error=connection)
    try:
        done = connection.run(probe.text(), timeout_seconds=PROBE_SECONDS)
        if done.status and not done.stdout and (said := _of_sudo(done.stderr)):
            raise AuthenticationError(
                probe.host,
                said,
                do="Let the user use sudo without a password, or set machines.sudo_password.",
            )
        return probe.read(done.stdout)
    except TransportError as error:
        return Look(host=probe.host, error=error)


def _of_sudo(said: str) -> str:
    """What sudo has against us, or the shell against sudo; "" where it is neither."""
    lines = [line for line in said.strip().splitlines() if "sudo" in line]
    return lines[-1] if lines else ""


def merged(resource: Resource, looks: Mapping[str, Look]) -> Observed:
    """What is known of a resource, from all hosts that can answer for it."""
    return merged_with_host(resource, looks)[0]


def merged_with_host(resource: Resource, looks: Mapping[str, Look]) -> tuple[Observed, str]:
    """What is known of a resource, and the host that said it.

    Where several can answer, one that has it decides, then one that looked and has it not, then
    one that could not look; only when there is nothing anywhere to hold it is it simply absent.
    """
    answers = [(_answer(resource, host, looks), host) for host in resource.hosts]
    return min(answers, key=lambda pair: _rank(pair[0]))


def _rank(answer: Observed) -> int:
    if isinstance(answer, Present):
        return 0
    if isinstance(answer, Absent):
        return 4 if answer.elsewhere else 1
    return 3 if answer.elsewhere else 2


def _answer(resource: Resource, host: str, looks: Mapping[str, Look]) -> Observed:
    seen = looks.get(host)
    if seen is None:
        return Unknown(f"{host} was not looked at")
    if seen.error is not None:
        return Unknown(seen.error.what)
    return seen.observed.get(resource.address, Unknown("the probe said nothing about it"))


def recorded(resource: Resource, looks: Mapping[str, Look]) -> Entry | None:
    """The manifest's entry of a resource, from the first host that has one."""
    found = (
        looks[host].manifest.entries.get(resource.address)
        for host in resource.hosts
        if host in looks
    )
    return next((item for item in found if item is not None), None)
