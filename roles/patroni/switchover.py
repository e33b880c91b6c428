"""Moving the lead: a switchover, without loss, and a failover, the last resort. Pure: courses."""

from __future__ import annotations

from collections.abc import Sequence

from builder.health import SYNCHRONOUS
from builder.operations.course import Confirm, Course, On, OperationError, Target, Whole
from builder.resources.steps import Await
from builder.spec.model import ClusterSpec
from roles.patroni.ask import can_spare_the_leader
from roles.patroni.contents import api
from roles.patroni.preconditions import (
    Patroni,
    all_back,
    is_well,
    leader_of,
    lock_holder,
    look,
    look_again,
    look_for_leader,
    refuse_silent,
    refuse_stranger,
)

_TRIES = 3
_MAX_LAG_BYTES = 1024 * 1024  # maximum_lag_on_failover


def switchover(target: Target) -> Course:
    """Move the lead to a replica that lacks nothing."""
    seen = yield from look_for_leader()
    leader = leader_of(seen)
    chosen = target.word or _best(seen, leader)
    refuse_stranger(target.spec, chosen)
    if chosen == leader:
        yield Whole()
        return
    _refuse_candidate(target.spec, seen, chosen)
    yield Confirm(question=f"Move the lead from {leader} to {chosen}? Writes pause for seconds.")
    yield from _hand_over(target, leader, chosen)
    yield Whole()


def _hand_over(target: Target, leader: str, chosen: str) -> Course:
    """Patroni asks the candidate once, for two seconds: its refusal may mean that one was busy."""
    order = {"leader": leader, "candidate": chosen}
    send = api(target.spec, target.secrets).send("POST", "/switchover", order, 60, tries=_TRIES)
    ready = Await(
        what="a replica may take over",
        condition=can_spare_the_leader(target.spec),
        timeout_seconds=60,
    )
    try:
        yield On(host=leader, label=f"hands over to {chosen}", steps=(ready, send))
    except OperationError as error:
        seen = yield from look_again()
        if seen["leader"] != chosen:  # else it was only slow
            raise OperationError(
                error.what,
                do="pgha-build status shows who leads; to go on: pgha-build ops switchover "
                f"{chosen}",
            ) from error
    yield On(host=chosen, label="leads, and all follow", steps=(all_back(target.spec),))


def failover(target: Target) -> Course:
    """Make a member the leader where there is none: the last resort, which may lose writes."""
    seen = yield from look()
    if leader := seen["leader"] or lock_holder(seen):
        raise OperationError(
            f"{leader} leads",
            why="A failover would lose what the replica has not received.",
            do="Move the lead without loss: pgha-build ops switchover. Where it is gone, its "
            "lock runs out in a minute: pgha-build status",
        )
    refuse_stranger(target.spec, target.word)
    refuse_silent(seen, target.word, do="Name another member.")
    yield Confirm(
        question=f"Make {target.word} the leader? Writes that only the lost leader had are gone."
    )
    rest = api(target.spec, target.secrets)
    send = rest.send("POST", "/failover", {"candidate": target.word}, 60)
    leads = Await(
        what="it leads",
        condition=f"{{ {rest.curl('/leader', '-f')}; }} >/dev/null",
        timeout_seconds=120,
    )
    yield On(host=target.word, label="takes the lead", steps=(send, leads))


# ── who may take over ───────────────────────────────────────────────────────────────────────────
def _best(seen: Patroni, leader: str) -> str:
    """A synchronous standby before others, then who lags least."""
    others = {name: member for name, member in seen["members"].items() if name != leader}
    if not others:
        raise OperationError("there is no other member", do="Add a database host to cluster.yml.")
    return str(min(others, key=lambda name: _rank(others[name])))


def _rank(member: Patroni) -> tuple[bool, bool, int]:
    return not is_well(member), member["role"] not in SYNCHRONOUS, _lag(member)


def _refuse_candidate(spec: ClusterSpec, seen: Patroni, name: str) -> None:
    """What keeps a member from taking over without loss."""
    member = seen["members"][name]
    reasons: Sequence[tuple[bool, str]] = (
        (seen["paused"], "Patroni is paused"),
        (bool(seen.get("failsafe")), "there is no etcd that could say so"),
        (not member["answers"], f"Patroni on {name} does not answer"),
        (not is_well(member), f"{name} is {member['state'] or 'not known to Patroni'}"),
        (member["lag_bytes"] == "unknown", f"nobody knows how far {name} lags"),
        (_lag(member) > _MAX_LAG_BYTES, f"{name} lags by {_lag(member) // 1024} KiB"),
        (
            _is_synchronous(spec, seen) and member["role"] == "replica",
            f"{name} is not the synchronous standby",
        ),
    )
    if reason := next((text for holds, text in reasons if holds), ""):
        raise OperationError(
            f"{name} cannot take over: {reason}",
            why="A switchover to it would fail, or lose writes.",
            do="Wait until it has caught up, or name another: pgha-build status",
        )


def _lag(member: Patroni) -> int:
    """In bytes; where Patroni says «unknown», it has no position, and is no candidate."""
    lag = member["lag_bytes"]
    return lag if isinstance(lag, int) else _MAX_LAG_BYTES + 1 if lag == "unknown" else 0


def _is_synchronous(spec: ClusterSpec, seen: Patroni) -> bool:
    roles = {member["role"] for member in seen["members"].values()}
    return bool(spec.sections["failover"]["synchronous"] and "sync_standby" in roles)
