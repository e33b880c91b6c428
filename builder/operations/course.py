"""What an operation is made of. Pure.

An operation is a *course*: a generator that yields what it wants to know or to have done, and is
sent the answer. It does no IO, so its order can be tested by answering it, and by ending it after
every single step; `builder.operations.run` carries it out on real hosts.

A course holds to two rules. It may be ended after any step (the controller dies, Ctrl-C), and the
cluster then still serves. And it decides nothing on what it knew before a step: it asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.errors import PghaError
from builder.resources.steps import Step
from builder.role import Needed
from builder.security.store import SecretStore
from builder.spec.model import ClusterSpec


@dataclass(frozen=True)
class Ask:
    """Look at the whole cluster: answered with the JSON of `pgha-build status`."""


@dataclass(frozen=True, kw_only=True)
class Confirm:
    """Ask a person, who is told what it costs; the operation ends there on a no."""

    question: str


@dataclass(frozen=True, kw_only=True)
class On:
    """Carry out steps on one host. Raises OperationError into the course when they fail."""

    host: str
    label: str
    steps: Sequence[Step]


@dataclass(frozen=True, kw_only=True)
class Converge:
    """Plan and apply cluster.yml, as `apply` does; `versions` are wanted of packages, by host.

    `only` narrows it to hosts, roles and addresses, and to what they need. Not `cautious`: the
    operation has seen to what a role's `caution` warns of.
    """

    why: str
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    only: Sequence[str] = ()
    cautious: bool = True


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Show what `Converge` would change. Raises OperationError where a host is out of reach."""


@dataclass(frozen=True, kw_only=True)
class Hear:
    """Ask many hosts something at once: answered with what each printed, by host.

    Raises OperationError into the course where one fails; `scripts` change nothing of ours.
    """

    label: str
    scripts: Mapping[str, str]
    timeout_seconds: int


@dataclass(frozen=True, kw_only=True)
class Tell:
    """Say something to the person; it is part of the result."""

    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Change the secrets file, before any host gets to know; answered when it is on disk."""

    label: str
    change: Callable[[SecretStore], None]


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Wait until the cluster is whole again: all members up, and traffic where it belongs."""

    timeout_seconds: int = 180


Request = Ask | Confirm | On | Hear | Tell | Preview | Converge | Keep | Whole
Course = Generator[Request, Any, None]


class OperationError(PghaError):
    """An operation was refused, or a step of it failed."""


def refuse_unreachable(status: Mapping[str, Any]) -> None:
    """Before anything is kept or changed that all hosts must learn: `status` answers an `Ask`."""
    refuse_left_behind(status["unreachable"])


def refuse_left_behind(unreachable: Collection[str]) -> None:
    """Also of hosts that have left the spec, and carry something still."""
    if unreachable:
        raise OperationError(
            f"cannot be reached: {', '.join(unreachable)}",
            why="Half of the hosts would be left behind.",
            do="Bring them up, or take them out of cluster.yml and, where they are gone for good, "
            "pgha-build state forget HOST; nothing has been changed.",
        )


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an operation is about: the spec, its secrets, and the words after its name.

    `refusals` are the roles' reasons why a host cannot be spared now (`Role.needed`); `packages`
    are those that the spec leads to, by host, and `sizes` the number of resources of a host.
    `locked`: cluster.lock.yml says which versions.
    """

    spec: ClusterSpec
    secrets: SecretStore
    refusals: tuple[Needed, ...] = ()
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    locked: bool = False

    @property
    def word(self) -> str:
        return self.words[0] if self.words else ""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`argument` is shown in the help: `[HOST]` may be left out, `HOST` may not, "" takes none.

    `options` maps a flag's name to its help. `takes_over`: what already runs on a host is what the
    operation is about; otherwise it keeps a host that nothing was applied to from being changed.
    """

    name: str
    doc: str
    begin: Callable[[Target], Course]
    argument: str = ""
    options: tuple[tuple[str, str], ...] = ()
    takes_over: bool = False
