"""What an operator does to PostgreSQL under Patroni. Pure: courses, see `builder.operations`.

Invariant of all of them: a member is interrupted only while every other one is up, and the leader
only after another one has taken over; where that cannot be had, the operation is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Course,
    Keep,
    On,
    Operation,
    OperationError,
    Target,
    Whole,
)
from builder.resources.steps import Await, Shell
from builder.security.rotation import with_new_passwords
from builder.spec.model import ClusterSpec
from roles.patroni.adopt import adopt
from roles.patroni.ask import can_spare_the_leader, complete, gives_lead_away
from roles.patroni.contents import api, own_passwords
from roles.patroni.restart import restarted
from roles.patroni.settings import members

_MAX_LAG_BYTES = 1024 * 1024  # maximum_lag_on_failover
_REINIT_SECONDS = 6 * 3600
# When PostgreSQL had started before; while it is copied, Patroni tells no such time.
_BEFORE = "/run/pgha-build-reinit"

Patroni = Mapping[str, Any]


def switchover(target: Target) -> Course:
    """Move the lead to a replica that lacks nothing."""
    seen = yield from _look()
    leader = _leader(seen)
    chosen = target.word or _best(seen, leader)
    _refuse_stranger(target.spec, chosen)
    if chosen == leader:
        yield Whole()
        return
    _refuse_candidate(target.spec, seen, chosen)
    yield Confirm(question=f"Move the lead from {leader} to {chosen}? Writes pause for seconds.")
    yield from _hand_over(target, leader, chosen)
    yield Whole()


def _hand_over(target: Target, leader: str, chosen: str) -> Course:
    order = {"leader": leader, "candidate": chosen}
    send = api(target.spec, target.secrets).send("POST", "/switchover", order, 60)
    ready = Await(
        what="a replica may take over",
        condition=can_spare_the_leader(target.spec),
        timeout_seconds=60,
    )
    yield On(host=leader, label=f"hands over to {chosen}", steps=(ready, send))
    yield On(host=chosen, label="leads, and all follow", steps=(_all_back(target.spec),))


def restart(target: Target) -> Course:
    """Restart PostgreSQL on one host or on all: replicas first, the leader after a switchover."""
    seen = yield from _look()
    if target.word:
        _refuse_stranger(target.spec, target.word)
    hosts = [target.word] if target.word else [host.name for host in members(target.spec)]
    _refuse_broken(target.spec, seen)
    alone = len(members(target.spec)) == 1
    cost = "There is no other member: an outage." if alone else "Writes pause for seconds, once."
    if seen["leader"] not in hosts:
        cost = "Reads that are under way there end."
    yield Confirm(question=f"Restart PostgreSQL on {', '.join(hosts)}? {cost}")
    left = set(hosts)
    while left:
        seen = yield from _look()
        host = next((name for name in sorted(left) if name != seen["leader"]), seen["leader"])
        yield from _restart_one(target, host, leads=host == seen["leader"] and not alone)
        left.discard(host)
    yield Whole()


def _restart_one(target: Target, host: str, *, leads: bool) -> Course:
    """Who has just handed over was restarted by that."""
    all_back = _all_back(target.spec)
    if leads:
        away = gives_lead_away(target.spec, target.spec.hosts[host])
        wait = Await(what="it leads no more", condition=away, timeout_seconds=60)
        yield On(host=host, label="hands over, which restarts it", steps=(all_back, wait, all_back))
        return
    again = restarted(api(target.spec, target.secrets))
    yield On(host=host, label="restarts PostgreSQL", steps=(all_back, again, all_back))


def reinit(target: Target) -> Course:
    """Throw a replica's data away and copy it anew from the leader."""
    seen = yield from _look()
    _refuse_stranger(target.spec, target.word)
    leader = _leader(seen)
    if target.word == leader:
        raise OperationError(
            f"{leader} is the leader: its data is the one that counts",
            do="Make another member the leader first: pgha-build ops switchover",
        )
    if not seen["members"][target.word]["answers"]:
        raise OperationError(
            f"Patroni on {target.word} does not answer",
            do="Start it (pgha-build apply), or replace the machine: pgha-build ops replace",
        )
    yield Confirm(
        question=f"Delete the data of {target.word} and copy it from {leader}? Until that has "
        "ended it can neither serve reads nor take over."
    )
    rest = api(target.spec, target.secrets)
    send = rest.send("POST", "/reinitialize", {"force": True}, 60)
    since = (
        f"{{ {rest.curl('/patroni')}; }} 2>/dev/null | grep -o '\"postmaster_start_time\": [^,]*'"
    )
    before = Shell(script=f"{since} >{_BEFORE} || :")
    copied = Await(
        what="PostgreSQL runs on the copy",
        condition=f'now=$({since}) && [ "$now" != "$(cat {_BEFORE})" ]',
        timeout_seconds=_REINIT_SECONDS,
    )
    whole = Await(
        what="the copy streams",
        condition=complete(target.spec),
        timeout_seconds=300,
    )
    yield On(host=target.word, label="copies the data anew", steps=(before, send, copied))
    yield On(host=leader, label=f"until {target.word} streams", steps=(whole,))
    yield Whole()


def pause(target: Target) -> Course:
    """Let Patroni only watch: it neither promotes nor restarts, so nothing fails over."""
    seen = yield from _look()
    if seen["paused"]:
        return
    yield Confirm(question="Pause Patroni? Until it is resumed, no failure leads to a failover.")
    yield from _paused(target, seen, wanted=True)


def resume(target: Target) -> Course:
    """Let Patroni act again."""
    seen = yield from _look()
    if seen["paused"]:
        yield from _paused(target, seen, wanted=False)
        yield Whole()


def _paused(target: Target, seen: Patroni, *, wanted: bool) -> Course:
    """Every member that answers has heard of it."""
    rest = api(target.spec, target.secrets)
    first = next((name for name, member in seen["members"].items() if member["answers"]), "")
    if not first:
        raise OperationError("no Patroni answers", do="pgha-build status says more.")
    verb = "pauses" if wanted else "resumes"
    send = rest.send("PATCH", "/config", {"pause": wanted or None}, 15)
    yield On(host=first, label=f"{verb} Patroni everywhere", steps=(send,))
    told = f"{{ {rest.curl('/patroni')}; }} | grep -q '\"pause\": true'"
    for name, member in seen["members"].items():
        if member["answers"]:
            condition = told if wanted else f"! {told}"
            heard = Await(what="it has heard", condition=condition, timeout_seconds=60)
            yield On(host=name, label=verb, steps=(heard,))


def failover(target: Target) -> Course:
    """Make a member the leader where there is none: the last resort, which may lose writes."""
    seen = yield from _look()
    if seen["leader"]:
        raise OperationError(
            f"{seen['leader']} leads, and answers",
            why="A failover would lose what the replica has not received.",
            do="Move the lead without loss: pgha-build ops switchover",
        )
    _refuse_stranger(target.spec, target.word)
    if not seen["members"][target.word]["answers"]:
        raise OperationError(f"Patroni on {target.word} does not answer", do="Name another member.")
    yield Confirm(
        question=f"Make {target.word} the leader? Writes that only the lost leader had are gone."
    )
    send = api(target.spec, target.secrets).send(
        "POST", "/failover", {"candidate": target.word}, 60
    )
    leads = Await(
        what="it leads",
        condition=f"{{ {api(target.spec, target.secrets).curl('/leader', '-f')}; }} >/dev/null",
        timeout_seconds=120,
    )
    yield On(host=target.word, label="takes the lead", steps=(send, leads))


def rotate_passwords(target: Target) -> Course:
    """New passwords, of all or of those that are named.

    The database learns them first: connections that are open live on, and what opens one in the
    moment until the hosts know too (a replica that reconnects, Patroni's own) tries again. In the
    other order every replica would let go of its leader at once, and be refused.
    """
    known = {name: name.removeprefix("user-") for name in target.secrets.password_names}
    if strangers := set(target.words) - set(known.values()):
        raise OperationError(
            f"there is no password of {', '.join(sorted(strangers))}",
            do=f"One or more of: {', '.join(sorted(known.values()))}.",
        )
    chosen = [name for name, word in known.items() if not target.words or word in target.words]
    seen = yield from _look()
    _refuse_broken(target.spec, seen)
    yield Confirm(
        question=f"New passwords for {', '.join(known[name] for name in chosen)}? Applications "
        "need those of their users from then on; connections that are open live on."
    )
    yield Keep(
        label="new passwords", change=lambda s: s.rotate(lambda c: with_new_passwords(c, chosen))
    )
    seen = yield from _look()
    others = [word for name, word in known.items() if name != word]
    statements = own_passwords(target.spec, target.secrets, others)
    yield On(host=_leader(seen), label="the database learns the passwords", steps=statements)
    yield Converge(why="the hosts learn the passwords")
    yield Whole()


# ── guards ──────────────────────────────────────────────────────────────────────────────────────
def _look() -> Any:
    status = yield Ask()
    return status["patroni"]


def _leader(seen: Patroni) -> str:
    if not seen["leader"]:
        raise OperationError(
            "PostgreSQL has no leader",
            do="Wait for Patroni to elect one; where nobody can: pgha-build ops failover HOST",
        )
    return str(seen["leader"])


def _best(seen: Patroni, leader: str) -> str:
    """A synchronous standby before others, then who lags least."""
    others = {name: member for name, member in seen["members"].items() if name != leader}
    if not others:
        raise OperationError("there is no other member", do="Add a database host to cluster.yml.")
    return str(min(others, key=lambda name: _rank(others[name])))


def _rank(member: Patroni) -> tuple[bool, bool, int]:
    synchronous = member["role"] in {"sync_standby", "quorum_standby"}
    return not _streams(member), not synchronous, int(member["lag_bytes"] or 0)


def _streams(member: Patroni) -> bool:
    return member["answers"] and member["state"] in {"streaming", "running"}


def _refuse_stranger(spec: ClusterSpec, name: str) -> None:
    known = [host.name for host in members(spec)]
    if name not in known:
        raise OperationError(
            f"{name or 'no host'} is not a database host", do=f"One of: {', '.join(known)}."
        )


def _refuse_candidate(spec: ClusterSpec, seen: Patroni, name: str) -> None:
    """What keeps a member from taking over without loss."""
    member = seen["members"][name]
    reasons: Sequence[tuple[bool, str]] = (
        (seen["paused"], "Patroni is paused"),
        (not member["answers"], f"Patroni on {name} does not answer"),
        (not _streams(member), f"{name} is {member['state'] or 'not known to Patroni'}"),
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
    lag = member["lag_bytes"]
    return lag if isinstance(lag, int) else _MAX_LAG_BYTES + 1 if lag == "unknown" else 0


def _is_synchronous(spec: ClusterSpec, seen: Patroni) -> bool:
    roles = {member["role"] for member in seen["members"].values()}
    return bool(spec.sections["failover"]["synchronous"] and "sync_standby" in roles)


def _refuse_broken(spec: ClusterSpec, seen: Patroni) -> None:
    broken = [name for name, member in seen["members"].items() if not _streams(member)]
    if broken or not seen["leader"]:
        raise OperationError(
            f"not all members are well: {', '.join(broken) or 'there is no leader'}",
            why="With one more down, a failure would be an outage.",
            do="Bring them back first: pgha-build status, pgha-build apply",
        )
    if seen["paused"]:
        raise OperationError("Patroni is paused", do="pgha-build ops resume")


def _all_back(spec: ClusterSpec) -> Await:
    return Await(what="all members are back", condition=complete(spec), timeout_seconds=300)


OPERATIONS = (
    Operation(
        name="switchover",
        doc="move the lead to another database host, without loss",
        argument="[HOST]",
        begin=switchover,
    ),
    Operation(
        name="restart",
        doc="restart PostgreSQL: replicas first, the leader after a switchover",
        argument="[HOST]",
        begin=restart,
    ),
    Operation(
        name="reinit",
        doc="throw a replica's data away and copy it anew",
        argument="HOST",
        begin=reinit,
    ),
    Operation(
        name="rotate-passwords",
        doc="new passwords, of all or of those that are named, without an outage",
        argument="[NAME...]",
        begin=rotate_passwords,
    ),
    Operation(name="pause", doc="let Patroni only watch: no failover", begin=pause),
    Operation(name="resume", doc="let Patroni act again", begin=resume),
    Operation(
        name="failover",
        doc="make a host the leader where there is none; may lose writes",
        argument="HOST",
        begin=failover,
    ),
    Operation(
        name="adopt",
        doc="take over a cluster that was set up by hand",
        begin=adopt,
        takes_over=True,
    ),
)
