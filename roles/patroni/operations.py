"""What an operator does to PostgreSQL under Patroni. Pure: courses, see `builder.operations`."""

from __future__ import annotations

from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Course,
    Keep,
    On,
    Operation,
    OperationError,
    Preview,
    Target,
    Whole,
    refuse_unreachable,
)
from builder.resources.steps import Await, Shell
from builder.security.rotation import with_new_passwords
from roles.patroni.adopt import adopt
from roles.patroni.ask import complete, gives_lead_away
from roles.patroni.check import asked_first
from roles.patroni.contents import api, own_passwords
from roles.patroni.preconditions import (
    Patroni,
    all_back,
    leader_of,
    look,
    look_again,
    look_for_leader,
    refuse_broken,
    refuse_silent,
    refuse_stranger,
)
from roles.patroni.recovery import recover_etcd
from roles.patroni.restart import restarted
from roles.patroni.settings import COPY_SECONDS, members
from roles.patroni.switchover import failover, switchover

# When PostgreSQL had started before; while it is copied, Patroni tells no such time.
_BEFORE = "/run/pgha-build-reinit"


def restart(target: Target) -> Course:
    """Restart PostgreSQL on one host or on all: replicas first, the leader after a switchover.

    Invariant: a member is interrupted only while every other one is up, and a leader that has
    replicas only after one of them has taken over; where that cannot be had, it is refused.
    """
    seen = yield from look_again()
    if target.word:
        refuse_stranger(target.spec, target.word)
    hosts = [target.word] if target.word else [host.name for host in members(target.spec)]
    refuse_broken(seen)
    alone = len(members(target.spec)) == 1
    cost = "There is no other member: an outage." if alone else "Writes pause for seconds, once."
    if seen["leader"] not in hosts:
        cost = "Reads that are under way there end."
    yield Confirm(question=f"Restart PostgreSQL on {', '.join(hosts)}? {cost}")
    left = set(hosts)
    while left:
        seen = yield from look_for_leader()
        host = next((name for name in sorted(left) if name != seen["leader"]), seen["leader"])
        yield from _restart_one(target, host, leads=host == seen["leader"] and not alone)
        left.discard(host)
    yield Whole()


def _restart_one(target: Target, host: str, *, leads: bool) -> Course:
    """Who has just handed over was restarted by that."""
    whole = all_back(target.spec)
    if leads:
        away = gives_lead_away(target.spec, target.spec.hosts[host])
        wait = Await(what="it leads no more", condition=away, timeout_seconds=60)
        yield On(host=host, label="hands over, which restarts it", steps=(whole, wait, whole))
        return
    again = restarted(api(target.spec, target.secrets))
    yield On(host=host, label="restarts PostgreSQL", steps=(whole, again, whole))


def reinit(target: Target) -> Course:
    """Throw a replica's data away and copy it anew from the leader."""
    refuse_stranger(target.spec, target.word)
    seen = yield from look_for_leader()
    leader = leader_of(seen)
    if target.word == leader:
        raise OperationError(
            f"{leader} is the leader: its data is the one that counts",
            do="Make another member the leader first: pgha-build ops switchover",
        )
    refuse_silent(
        seen,
        target.word,
        do="Start it (pgha-build apply), or replace the machine: pgha-build ops replace",
    )
    yield Confirm(
        question=f"Delete the data of {target.word} and copy it from {leader}? Until that has "
        "ended it can neither serve reads nor take over."
    )
    rest = api(target.spec, target.secrets)
    asked = f"{{ {rest.curl('/patroni')}; }} 2>/dev/null"
    # Given again, it waits for the copy that is under way: sent again, that would begin anew.
    copies = f'{asked} | grep \'"state": "creating replica"\' >/dev/null'
    send = rest.send("POST", "/reinitialize", {"force": True}, 60, only_if=f"! {copies}")
    since = f"{asked} | grep -o '\"postmaster_start_time\": [^,]*'"
    before = Shell(script=f"{since} >{_BEFORE} || :")
    copied = Await(
        what="PostgreSQL runs on the copy",
        condition=f'now=$({since}) && [ "$now" != "$(cat {_BEFORE})" ] || '
        f'{{ {asked} | grep -o \'"state": "[^"]*"\' | head -n 1; exit 1; }}',
        timeout_seconds=COPY_SECONDS,
    )
    whole = Await(what="the copy streams", condition=complete(target.spec), timeout_seconds=300)
    yield On(host=target.word, label="copies the data anew", steps=(before, send, copied))
    yield On(host=leader, label=f"until {target.word} streams", steps=(whole,))
    yield Whole()


def pause(target: Target) -> Course:
    """Let Patroni only watch: it neither promotes nor restarts, so nothing fails over."""
    seen = yield from look()
    if seen["paused"]:
        return
    yield Confirm(question="Pause Patroni? Until it is resumed, no failure leads to a failover.")
    yield from _paused(target, seen, wanted=True)


def resume(target: Target) -> Course:
    """Let Patroni act again."""
    seen = yield from look()
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
    send = rest.patch_config({"pause": wanted or None})
    yield On(host=first, label=f"{verb} Patroni everywhere", steps=(send,))
    told = f"{{ {rest.curl('/patroni')}; }} | grep -q '\"pause\": true'"
    for name, member in seen["members"].items():
        if member["answers"]:
            condition = told if wanted else f"! {told}"
            heard = Await(what="it has heard", condition=condition, timeout_seconds=60)
            yield On(host=name, label=verb, steps=(heard,))


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
    status = yield Ask()
    refuse_unreachable(status)
    refuse_broken(status["patroni"])
    yield Preview()
    yield from asked_first(target.spec)
    yield Confirm(
        question=f"New passwords for {', '.join(known[name] for name in chosen)}? Applications "
        "need those of their users from then on; connections that are open live on."
    )
    yield Keep(
        label="new passwords", change=lambda s: s.rotate(lambda c: with_new_passwords(c, chosen))
    )
    seen = yield from look()
    others = [word for name, word in known.items() if name != word]
    statements = own_passwords(target.spec, target.secrets, others)
    yield On(host=leader_of(seen), label="the database learns the passwords", steps=statements)
    yield Converge(why="the hosts learn the passwords")
    yield Whole()


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
        name="recover-etcd",
        doc="get etcd back whose majority, or all of it, is lost for good",
        argument="[HOST]",
        begin=recover_etcd,
    ),
    Operation(
        name="adopt",
        doc="take over a cluster that was set up by hand",
        begin=adopt,
        takes_over=True,
    ),
)
