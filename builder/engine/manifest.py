"""What we manage on a host, kept on that host. Pure: JSON in, JSON out.

An entry holds, per resource, a digest of each attribute as we last applied it, never a value: so
drift can be told from a wanted change, what has left the spec can be removed, and no secret is
kept. An entry is written *before* its change begins, with `pending` set, and again when the change
has been seen to hold. An apply that was killed therefore leaves traces that the next one finishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from builder.resources.base import Impact, Observed, Present, Resource, digest
from builder.resources.steps import Put

PATH = "/var/lib/pgha-build/manifest.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One resource. `pending` is the act that an unfinished apply still owes a unit."""

    address: str
    kind: str
    name: str
    hosts: tuple[str, ...]
    attributes: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    recall: Mapping[str, str] = field(default_factory=dict)
    pending: Impact | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All entries of a host by address, and the cluster they belong to ("" for none yet).

    `secrets` is the id of the secrets file that it was made with ("" where nobody noted it).
    `hosts` are all hosts of the cluster with their addresses, so that one which leaves the spec is
    still known, and can be cleaned.
    """

    cluster: str = ""
    secrets: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def begun(self, cluster: str, resources: Iterable[tuple[Resource, Impact]]) -> Manifest:
        """With these changes marked as under way."""
        entries = dict(self.entries)
        for resource, act in resources:
            old = entries.get(resource.address)
            known = dict(old.attributes) if old else {}
            owed = max(act, (old and old.pending) or Impact.NONE)
            entries[resource.address] = replace(entry(resource), attributes=known, pending=owed)
        return replace(self, cluster=cluster, entries=entries)

    def settled(self, cluster: str, resources: Iterable[Resource]) -> Manifest:
        """With these resources as wanted."""
        entries = dict(self.entries)
        entries.update({resource.address: entry(resource) for resource in resources})
        return replace(self, cluster=cluster, entries=entries)

    def without(self, addresses: Iterable[str]) -> Manifest:
        gone = frozenset(addresses)
        kept = {address: item for address, item in self.entries.items() if address not in gone}
        return replace(self, entries=kept)


def entry(resource: Resource) -> Entry:
    """The entry of a resource that is as wanted; what it acts for counts as needed."""
    return Entry(
        address=resource.address,
        kind=resource.kind,
        name=resource.name,
        hosts=resource.hosts,
        attributes={key: digest(value) for key, value in resource.attributes().items()},
        needs=tuple(dict.fromkeys((*resource.needs, *resource.triggers()))),
        recall=dict(resource.recall()),
    )


def drifted(item: Entry, observed: Observed) -> frozenset[str]:
    """The attributes whose observed value is not the one we applied."""
    if not isinstance(observed, Present):
        return frozenset(item.attributes)
    return frozenset(
        key
        for key, applied in item.attributes.items()
        if digest(observed.attributes.get(key)) != applied
    )


def dump(manifest: Manifest) -> str:
    """One entry per line, so that a person can read a difference."""
    lines = ",\n".join(
        json.dumps(_record(item), sort_keys=True) for _, item in sorted(manifest.entries.items())
    )
    names = dict(sorted(manifest.hosts.items()))
    whose = {"cluster": manifest.cluster, "secrets": manifest.secrets}
    head = json.dumps({"version": VERSION, **whose, "hosts": names})[:-1]
    return f'{head}, "entries": [\n{lines}\n]}}\n'


def put(manifest: Manifest) -> Put:
    """The step that writes it on its host."""
    return Put(path=PATH, content=dump(manifest).encode(), mode="0600")


def load(text: str) -> Manifest:
    """Raises ValueError for what is not a manifest of ours."""
    if not text.strip():
        return Manifest()
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError("not a manifest of this version of pgha-build")
    try:
        entries = [_entry(record) for record in document["entries"]]
        cluster, hosts = document["cluster"], dict(document.get("hosts", {}))
        secrets = document.get("secrets", "")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"damaged: {error}") from error
    by_address = {item.address: item for item in entries}
    return Manifest(cluster=cluster, secrets=secrets, hosts=hosts, entries=by_address)


def _record(item: Entry) -> Mapping[str, Any]:
    record: dict[str, Any] = {
        "address": item.address,
        "kind": item.kind,
        "name": item.name,
        "hosts": item.hosts,
        "attributes": dict(item.attributes),
        "needs": item.needs,
    }
    if item.recall:
        record["recall"] = dict(item.recall)
    if item.pending is not None:
        record["pending"] = str(item.pending)
    return record


def _entry(record: Mapping[str, Any]) -> Entry:
    try:
        pending = record.get("pending")
        return Entry(
            address=record["address"],
            kind=record["kind"],
            name=record["name"],
            hosts=tuple(record["hosts"]),
            attributes=record["attributes"],
            needs=tuple(record["needs"]),
            recall=record.get("recall", {}),
            pending=None if pending is None else Impact[pending.upper()],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged entry: {error}") from error
