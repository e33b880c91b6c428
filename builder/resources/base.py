"""The contract of a resource type. Pure.

An instance is what the spec asks of one thing on one host; the class says how such things are
looked at, compared, and brought about. A new type is one file with one class:

    probe(wanted)        one shell fragment that prints what is there, for all instances of a host
    parse(wanted, text)  what that output says about each instance
    steps(change)        how to bring a change about, as values

`probe` is given all instances of the type on a host at once, so that looking at forty files costs
one `stat` and one `sha256sum`, not eighty processes.
"""

from __future__ import annotations

import enum
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from builder.resources.steps import Step
from builder.security.secret import MASK, Secret

Value = (
    Any  # str | int | bool | None | tuple | Mapping, JSON-like; Secret where it must not be shown
)


class Action(enum.StrEnum):
    """What happens to a resource."""

    NONE = "none"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    WAIT = "wait"  # a gate
    DECIDE = "decide"  # cannot be looked at yet; looked at again when its needs are done


class Impact(enum.IntEnum):
    """What a change costs the service, in rising order."""

    NONE = 0
    RELOAD = 1
    RESTART = 2
    SWITCHOVER = 3
    OUTAGE = 4

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Present:
    """The thing exists, with these attributes. `note` is a warning that the plan shows."""

    attributes: Mapping[str, Value]
    note: str = ""


@dataclass(frozen=True)
class Absent:
    """The thing does not exist: looked, and it was not there.

    `elsewhere` says that this host has nothing to hold it (no database yet); another may.
    """

    elsewhere: bool = False


@dataclass(frozen=True)
class Unknown:
    """Could not look, and why. Never treated as absent.

    `elsewhere` says that this host is not the one to ask (a replica, asked about a role in the
    database); another host's answer decides.
    """

    reason: str
    elsewhere: bool = False


Observed = Present | Absent | Unknown


@dataclass(frozen=True, kw_only=True)
class AttributeChange:
    """One attribute's difference; `before` is None where the resource was absent."""

    name: str
    before: Value
    after: Value


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing on a host, or of the cluster: `hosts` then lists all that can answer for it.

    `needs` are addresses of resources that come first. So are `mended_first`, of those that are
    `at_once`: in order only, where they could be looked at, and whether they succeed or not.
    """

    kind: ClassVar[str]
    observed_in_plan: ClassVar[bool] = True  # False: nothing to look at (a gate)
    late: ClassVar[bool] = False  # True: what there is, is known only when its needs are done
    at_once: ClassVar[bool] = False  # True: who could look at it can change it, and passes no gate

    hosts: tuple[str, ...]
    name: str
    needs: tuple[str, ...] = field(default=(), kw_only=True)
    mended_first: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def address(self) -> str:
        """`host/kind:name`; `cluster/kind:name` where several hosts can answer for it."""
        return address(self.hosts, self.kind, self.name)

    # ── what is wanted ──────────────────────────────────────────────────────────────────────────
    def attributes(self) -> Mapping[str, Value]:
        """The attributes that are compared with the observed ones, in the order of display."""
        raise NotImplementedError

    def triggers(self) -> Mapping[str, Impact]:
        """Addresses whose change makes this resource act too (a unit reloads for its file)."""
        return {}

    def hides(self, attribute: str) -> bool:
        """Whether the attribute's values must not be shown."""
        return False

    def ages(self, attribute: str) -> bool:
        """Whether the attribute changes by itself, as time goes by: then that is nobody's drift."""
        return False

    def text(self) -> str | None:
        """The wanted text, for a unified diff; None where there is none or it must not be shown."""
        return None

    def text_probe(self) -> str:
        """Shell that prints the text that is there now, for the same diff."""
        return ""

    def impact(self, change: Change) -> Impact:
        """What carrying the change out costs the service."""
        return Impact.NONE

    def turn(self) -> str:
        """Shell that prints a number: of changes that must take turns, the lowest goes first."""
        return ""

    # ── how to look ─────────────────────────────────────────────────────────────────────────────
    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """POSIX shell that prints what is there; no side effects, exit status ignored."""
        raise NotImplementedError

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        """The probe's output, per `name`. A name that is left out counts as unknown."""
        raise NotImplementedError

    def differs(self, attribute: str, desired: Value, observed: Value) -> bool:
        """Whether the observed value is not what is wanted."""
        return bool(desired != observed)

    # ── what to do ──────────────────────────────────────────────────────────────────────────────
    def steps(self, change: Change) -> Sequence[Step]:
        """How to create or update."""
        raise NotImplementedError

    @classmethod
    def merge(cls, changes: Sequence[Change]) -> Sequence[tuple[Sequence[Change], Sequence[Step]]]:
        """Changes that can be carried out together; by default each on its own."""
        return [((change,), change.steps()) for change in changes]

    def diagnose(self) -> str:
        """Shell that prints why a step of this resource may have failed (a unit's journal)."""
        return ""

    # ── when it has left the spec ───────────────────────────────────────────────────────────────
    def recall(self) -> Mapping[str, str]:
        """What the manifest must remember so that the thing can be looked at and removed later."""
        return {}

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        """An instance good enough to probe and delete, from the manifest's entry."""
        raise NotImplementedError

    def removal(self) -> Sequence[Step]:
        """How to delete; empty where forgetting is enough."""
        return ()

    def is_gone(self, observed: Present) -> bool:
        """Whether what is still there after `removal` is not ours to take away."""
        return False


@dataclass(frozen=True, kw_only=True)
class Change:
    """The difference between desired and observed, for one resource.

    `trigger` is the strongest act asked for by other changes (reload, restart), `triggered` names
    them. `diff` is the unified diff of a text, line by line. What `leaves` is not in the spec any
    more, and is to go.
    """

    resource: Resource
    action: Action
    observed: Observed
    attributes: tuple[AttributeChange, ...] = ()
    trigger: Impact = Impact.NONE
    triggered: tuple[str, ...] = ()
    impact: Impact = Impact.NONE
    diff: tuple[str, ...] = ()
    drift: bool = False
    leaves: bool = False
    reason: str = ""

    @property
    def address(self) -> str:
        return self.resource.address

    def steps(self) -> Sequence[Step]:
        if self.action is Action.DELETE:
            return self.resource.removal()
        return self.resource.steps(self)

    def changes(self, attribute: str) -> bool:
        return any(change.name == attribute for change in self.attributes)


def address(hosts: Sequence[str], kind: str, name: str) -> str:
    """How a resource is named everywhere: in plans, in manifests, in `--only`."""
    return f"{hosts[0] if len(hosts) == 1 else 'cluster'}/{kind}:{name}"


def digest(value: Value) -> str:
    """A short digest of an attribute's value; secrets take part by their text."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Value) -> Value:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def shown(value: Value) -> Value:
    """The value as a person or a JSON reader may see it."""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def quoted(words: Iterable[str]) -> str:
    """Words for a shell command line."""
    return " ".join(shlex.quote(word) for word in words)
