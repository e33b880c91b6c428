"""What an operation asks of the cluster before it interrupts a member. Pure."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from builder.health import says_only_running, streams
from builder.operations.course import Ask, OperationError
from builder.resources.steps import Await
from builder.spec.model import ClusterSpec
from roles.patroni.ask import complete
from roles.patroni.settings import members

_LOOKS = 8  # more: each is a round trip to all hosts, and asks Patroni

Patroni = Mapping[str, Any]  # what `status` says of it


def look() -> Generator[Ask, Any, Patroni]:
    status = yield Ask()
    found: Patroni = status["patroni"]
    return found


def lock_holder(seen: Patroni) -> str:
    """Who leads by what the members know of etcd, also where we cannot reach it; "" for nobody."""
    members = seen["members"].items()
    return next((name for name, member in members if member["role"] == "leader"), "")


def look_for_leader() -> Generator[Ask, Any, Patroni]:
    """As `look_again` does; raises OperationError where nobody leads."""
    seen = yield from look_again()
    leader_of(seen)
    return seen


def look_again() -> Generator[Ask, Any, Patroni]:
    """Until somebody leads: who has the lock promotes for a moment before, and may answer late."""
    seen = yield from look()
    for _ in range(_LOOKS):
        if seen["leader"]:
            break
        seen = yield from look()
    return seen


def leader_of(seen: Patroni) -> str:
    if not seen["leader"] and (holder := lock_holder(seen)):
        raise OperationError(
            f"{holder} leads, and says nothing to us",
            do="Bring it within reach (pgha-build status says more), or wait until another leads.",
        )
    if not seen["leader"]:
        raise OperationError(
            "PostgreSQL has no leader",
            do="Wait for Patroni to elect one; where nobody can: pgha-build ops failover HOST",
        )
    return str(seen["leader"])


def is_well(member: Patroni) -> bool:
    """A replica that streams, or a leader that runs.

    Its lag, which changes with each loop of Patroni's, is no matter here: each step asks for that.
    """
    runs_well = member["role"] == "leader" or says_only_running(member)
    return member["answers"] and (streams(member) or (runs_well and member["state"] == "running"))


def refuse_stranger(spec: ClusterSpec, name: str) -> None:
    known = [host.name for host in members(spec)]
    if name not in known:
        raise OperationError(
            f"{name or 'no host'} is not a database host", do=f"One of: {', '.join(known)}."
        )


def refuse_silent(seen: Patroni, name: str, *, do: str) -> None:
    if not seen["members"][name]["answers"]:
        raise OperationError(f"Patroni on {name} does not answer", do=do)


def refuse_broken(seen: Patroni) -> None:
    broken = [name for name, member in seen["members"].items() if not is_well(member)]
    if broken or not seen["leader"]:
        raise OperationError(
            f"not all members are well: {', '.join(broken) or 'there is no leader'}",
            why="With one more down, a failure would be an outage.",
            do="Bring them back first: pgha-build status, pgha-build apply",
        )
    if seen["paused"]:
        raise OperationError("Patroni is paused", do="pgha-build ops resume")
    if seen.get("failsafe"):
        raise OperationError(
            "PostgreSQL goes on without etcd",
            why="Who stops leading cannot lead again, and nobody else can.",
            do="Bring etcd back first: pgha-build status; where it is lost, pgha-build ops "
            "recover-etcd",
        )


def all_back(spec: ClusterSpec) -> Await:
    return Await(what="all members are back", condition=complete(spec), timeout_seconds=300)
