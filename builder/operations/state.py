"""What the manifests say, and changing that without changing anything on a host.

The edge that reads and writes manifests is here; what becomes of them is computed in pure parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from builder.engine import manifest as manifests
from builder.engine.manifest import Entry, Manifest, drifted, entry
from builder.engine.observe import Look, merged_with_host
from builder.engine.script import Piece, Script
from builder.errors import PlanError, TransportError
from builder.resources.base import Present, Resource, digest, shown
from builder.transport.base import Connection


@dataclass(frozen=True, kw_only=True)
class State:
    """All manifests of a cluster, by host; and what its hosts said of what is wanted."""

    cluster: str
    looks: Mapping[str, Look]
    wanted: Mapping[str, Resource]

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Every resource that is managed, by address."""
        found = (e for seen in self.looks.values() for e in seen.manifest.entries.values())
        return {item.address: item for item in sorted(found, key=lambda item: item.address)}

    def record(self, address: str) -> Mapping[str, Any]:
        """One entry, with what is there now. Raises PlanError for an unknown address."""
        item = self._entry(address)
        seen = self._observed(address)
        return {
            "address": item.address,
            "hosts": list(item.hosts),
            "needs": list(item.needs),
            "unfinished": str(item.pending) if item.pending is not None else None,
            "attributes": {
                key: {
                    "now": self._shown(address, key, seen),
                    "as_applied": seen is not None and key not in drifted(item, seen),
                }
                for key in item.attributes
            },
        }

    def without(self, word: str) -> Mapping[str, Manifest]:
        """The manifests that change when a resource, or a host that has left, is forgotten."""
        known = {h: seen.manifest for h, seen in self.looks.items() if not seen.error}
        remembered = {name for item in known.values() for name in item.hosts}
        if word in remembered and word not in self._hosts:
            changed = {h: self._without_host(item, word) for h, item in known.items()}
        else:
            self._entry(word)
            changed = {h: item.without([word]) for h, item in known.items()}
        return {h: item for h, item in changed.items() if item != known[h]}

    def with_imported(self, address: str) -> Mapping[str, Manifest]:
        """The manifests in which a resource counts as ours, as it is now."""
        resource = self.wanted.get(address)
        if resource is None:
            raise PlanError(
                f"cluster.yml asks for nothing called {address}",
                do="pgha-build plan --json lists addresses; write it into cluster.yml first.",
            )
        seen = self._observed(address)
        if seen is None:
            raise PlanError(
                f"{address} is not there, so there is nothing to take over",
                do="pgha-build apply makes it.",
            )
        now = {key: digest(seen.attributes.get(key)) for key in resource.attributes()}
        item = replace(entry(resource), attributes=now)
        return {
            host: replace(
                self.looks[host].manifest,
                cluster=self.cluster,
                entries={**self.looks[host].manifest.entries, address: item},
            )
            for host in resource.hosts
            if not self.looks[host].error
        }

    @property
    def _hosts(self) -> set[str]:
        return {host for resource in self.wanted.values() for host in resource.hosts}

    def _entry(self, address: str) -> Entry:
        if address not in self.entries:
            raise PlanError(
                f"nothing that is managed is called {address}", do="pgha-build state list"
            )
        return self.entries[address]

    def _observed(self, address: str) -> Present | None:
        resource = self.wanted.get(address)
        seen = merged_with_host(resource, self.looks)[0] if resource else None
        return seen if isinstance(seen, Present) else None

    def _shown(self, address: str, key: str, seen: Present | None) -> Any:
        if seen is None:
            return None
        resource = self.wanted[address]
        return "(sensitive)" if resource.hides(key) else shown(seen.attributes.get(key))

    @staticmethod
    def _without_host(item: Manifest, host: str) -> Manifest:
        hosts = {name: address for name, address in item.hosts.items() if name != host}
        return replace(item, hosts=hosts)


def write(connections: Mapping[str, Connection], changed: Mapping[str, Manifest]) -> Sequence[str]:
    """Put manifests on their hosts; which were written. Raises TransportError."""
    for host, manifest in changed.items():
        script = Script(host=host, pieces=[Piece(label="", steps=(manifests.put(manifest),))])
        outcome = script.outcome(connections[host].run(script.text(), timeout_seconds=60).stdout)
        if outcome.failed is not None:
            raise TransportError(host, f"its manifest could not be written: {outcome.said}")
    return list(changed)
