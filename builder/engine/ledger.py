"""The manifests of all hosts while a plan is carried out. Pure.

Beforehand they say what is under way, afterwards what holds: an apply that is killed at any moment
leaves behind what the next one has to finish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from builder.engine import manifest as manifests
from builder.engine.manifest import Manifest
from builder.engine.plan import Plan
from builder.engine.script import Piece
from builder.resources.base import Action, Change, Impact, Present


class Ledger:
    """`found` are the manifests of the hosts that are reached, as they were under the lock."""

    def __init__(self, plan: Plan, found: Mapping[str, Manifest]) -> None:
        self._plan = plan
        self._on_host = {host: manifests.dump(manifest) for host, manifest in found.items()}
        self._manifests = {host: self._begun(host, manifest) for host, manifest in found.items()}

    def piece(self, host: str) -> Piece:
        """The work that writes a host's manifest as it is now."""
        self._on_host.pop(host, None)  # scripts may arrive in another order: the last word is ours
        return Piece(label="", steps=(manifests.put(self._manifests[host]),))

    def done(self, change: Change) -> None:
        """Note a change that was seen to hold."""
        resource = change.resource
        if not resource.observed_in_plan:
            return
        for host in self._manifests.keys() & set(resource.hosts):
            manifest = self._manifests[host]
            if change.action is Action.DELETE:
                self._manifests[host] = manifest.without([change.address])
            else:
                self._manifests[host] = manifest.settled(self._plan.cluster, [resource])

    def close(self) -> None:
        """Note, at the end, what was in sync to begin with, and forget what is gone.

        A host that has left the spec is known until nothing of ours is left there.
        """
        found = {host: self._settled(host, m) for host, m in self._manifests.items()}
        departed = self._plan.departed
        clean = {host for host in departed if host in found and not found[host].entries}
        left = {host: address for host, address in departed.items() if host not in clean}
        hosts = {**self._plan.hosts, **left}
        self._manifests = {
            host: Manifest() if host in clean else replace(manifest, hosts=hosts)
            for host, manifest in found.items()
        }

    def outdated(self) -> Sequence[str]:
        """Hosts whose own copy may say something else."""
        return [
            host
            for host, manifest in self._manifests.items()
            if manifests.dump(manifest) != self._on_host.get(host)
        ]

    def _begun(self, host: str, manifest: Manifest) -> Manifest:
        begun = [
            (change.resource, _owed(change))
            for change in (*self._plan.pending, *self._plan.owed)
            if host in change.resource.hosts
            and (change.triggered or change.action in {Action.CREATE, Action.UPDATE})
        ]
        hosts = {**self._plan.departed, **self._plan.hosts}
        known = replace(manifest, hosts=hosts, secrets=self._plan.secrets)
        return known.begun(self._plan.cluster, begun)

    def _settled(self, host: str, manifest: Manifest) -> Manifest:
        unchanged = [
            change.resource
            for change in self._plan.changes.values()
            if change.action is Action.NONE
            and isinstance(change.observed, Present)
            and host in change.resource.hosts
        ]
        settled = manifest.settled(self._plan.cluster, unchanged)
        return settled.without(self._plan.forgotten)


def _owed(change: Change) -> Impact:
    """A unit that does not run yet owes no restart: its start reads what is new."""
    runs = change.impact or change.action is Action.DECIDE
    return change.trigger if runs else Impact.NONE
