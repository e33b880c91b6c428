"""etcd is lost for good, by its majority or altogether. Pure: a course, see `builder.operations`.

Where a member has kept its data, it becomes the only one (`--force-new-cluster`; etcd docs,
disaster recovery), and knows what it knew. If it had been away for long, that may be another leader
than PostgreSQL has: then it forgets who led, before anybody can ask it. Members of the old cluster
that come back are told by it that they have been removed, and end.

Where nobody has, the new etcd knows nobody, and whoever asks it first founds the cluster anew and
leads (Patroni docs, existing_data.rst). So the host whose data counts asks first. A Patroni that
has seen the old etcd takes a new one, whose raft term is lower, for one that lags behind, and asks
on for ever (patroni/dcs/etcd3.py): it is killed, and systemd starts it. PostgreSQL runs on
meanwhile (`KillMode=process`), and takes writes for as long as Patroni's failsafe mode lets it.
Until all is done, a mark on the database hosts keeps `apply` from starting a Patroni too early.

Interrupted anywhere, the same command goes on: the mark and what it finds say how far it came.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Course,
    Hear,
    On,
    OperationError,
    Request,
    Target,
    Tell,
    Whole,
)
from builder.resources.base import quoted
from builder.resources.steps import Await, Shell, Step
from builder.spec.model import ClusterSpec
from roles.etcd.client import etcdctl
from roles.etcd.settings import CONFIG as ETCD_CONFIG
from roles.etcd.settings import DATA as ETCD_DATA
from roles.etcd.settings import USER as ETCD_USER
from roles.etcd.settings import members as etcd_members
from roles.patroni.ask import answers
from roles.patroni.data import RECOVERING
from roles.patroni.positions import Data, position, primary, whose_data
from roles.patroni.settings import members

_LOOK_SECONDS = 30
_STOP_SECONDS = 120
_START_SECONDS = 60
_ALONE = "pgha-recover-etcd.service"
_FORCED = "/run/pgha-recover-etcd.env"


def recover_etcd(target: Target) -> Course:
    """Get etcd back after its majority, or all of it, has been lost for good."""
    seen = yield Ask()
    hosts = [host.name for host in etcd_members(target.spec)]
    reached = [host for host in target.spec.hosts if host not in seen["unreachable"]]
    found = yield Hear(
        label="looks for etcd's data",
        scripts={host: _knows(target.spec, host) for host in reached},
        timeout_seconds=_LOOK_SECONDS,
    )
    kept = [host for host, said in found.items() if "data" in said.split()]
    words = {word for said in found.values() for word in said.split()}
    first = next((w.removeprefix(_FIRST) for w in words if w.startswith(_FIRST)), "")
    if first or not kept or ("new" in words and "cluster" not in words):
        yield from _from_nothing(target, seen, target.word or first)
    elif seen["etcd"]["quorum"] and ("alone" not in words or len(hosts) == 1):
        raise OperationError(
            "etcd has a quorum: it is not lost",
            do="For a member without data: pgha-build apply; for an alarm: ops defragment-etcd.",
        )
    else:
        yield from _from_member(target, seen, kept)


_FIRST = "first:"


def _knows(spec: ClusterSpec, host: str) -> str:
    """Shell: of an etcd host `data` where there is any, `alone` where it is the only member, and
    `cluster` where Patroni's is in it, `new` where not; of a database host its mark.
    """
    mark = f"[ ! -e {RECOVERING} ] || echo {_FIRST}$(cat {RECOVERING})"
    if host not in {member.name for member in etcd_members(spec)}:
        return mark
    own = f"{etcdctl(_own(spec))} --command-timeout=4s"
    return (
        f"{mark}\n"
        f"[ ! -d {ETCD_DATA}/member/wal ] || echo data\n"
        f'[ "$({own} member list 2>/dev/null | wc -l)" != 1 ] || echo alone\n'
        f"said=$({own} get {_key(spec, 'initialize')} --print-value-only 2>/dev/null) || exit 0\n"
        '[ -n "$said" ] && echo cluster || echo new'
    )


def _own(spec: ClusterSpec) -> str:
    return f"https://127.0.0.1:{spec.sections['etcd']['client_port']}"


def _key(spec: ClusterSpec, name: str) -> str:
    return quoted([f"/service/{spec.name}/{name}"])


def _data(target: Target, hosts: Sequence[str]) -> Generator[Request, Any, Mapping[str, Data]]:
    """Answered with `Data` by database host."""
    heard = yield Hear(
        label="asks who takes writes, and how far the data is",
        scripts=dict.fromkeys(hosts, position(target.spec)),
        timeout_seconds=_LOOK_SECONDS,
    )
    return {host: Data.read(said) for host, said in heard.items()}


# ── a member has kept its data ──────────────────────────────────────────────────────────────────
def _from_member(target: Target, seen: Mapping[str, Any], kept: Sequence[str]) -> Course:
    chosen = _kept_by(target, seen, kept)
    names = [host.name for host in members(target.spec)]
    found = yield from _data(target, [name for name in names if name not in seen["unreachable"]])
    leads = primary(found)
    if not seen["etcd"]["members"][chosen]["healthy"]:
        yield Confirm(question=_risk(target.spec, chosen, seen))
        steps = _alone(target.spec, leads)
        yield On(host=chosen, label="becomes the only member", steps=steps)
        said = yield Hear(
            label="asks what it knows",
            scripts={chosen: _knows(target.spec, chosen)},
            timeout_seconds=_LOOK_SECONDS,
        )
        if "new" in said[chosen].split():  # a founding that did not come to its end
            yield from _from_nothing(target, seen, target.word)
            return
    yield from _ask_it(target.spec, leads, found)
    if seen["unreachable"]:
        yield Tell(
            lines=[
                f"etcd answers, by {chosen} alone. Cannot be reached: "
                f"{', '.join(seen['unreachable'])}.",
                "Have machines stand in for them, or take them out of cluster.yml: then "
                "pgha-build apply lets the members join.",
            ]
        )
        return
    yield Converge(why="the other members join")
    yield Whole()


def _kept_by(target: Target, seen: Mapping[str, Any], kept: Sequence[str]) -> str:
    """Raises OperationError where it is not certain whose data it is to be."""
    names = [host.name for host in etcd_members(target.spec)]
    healthy = [host for host in kept if seen["etcd"]["members"][host]["healthy"]]
    if not healthy and len(kept) > len(names) // 2:
        raise OperationError(
            f"{', '.join(kept)} have etcd's data, and they are a majority",
            why="What keeps them from answering is something else, and nothing would be lost.",
            do="pgha-build status; pgha-build apply; on them: journalctl -u etcd. Where a member's "
            f"data is damaged: stop etcd there, move {ETCD_DATA} away, give the command again.",
        )
    databases = {host.name for host in members(target.spec)}
    word = "" if target.word in databases else target.word  # whose data counts, should it be empty
    if word and word not in kept:
        raise OperationError(
            f"{word} has no data of etcd that could be kept",
            do=f"One of: {', '.join(kept)}.",
        )
    chosen = [word] if word else healthy or kept
    if len(chosen) > 1:
        raise OperationError(
            f"{', '.join(chosen)} have data, and only one can be the first member",
            do="Say which; the other joins it, without its data: pgha-build ops recover-etcd HOST",
        )
    return chosen[0]


def _risk(spec: ClusterSpec, chosen: str, seen: Mapping[str, Any]) -> str:
    asks = f"Make {chosen} etcd's only member, with the data that it has? The others join it anew."
    silent = [host.name for host in etcd_members(spec) if host.name in seen["unreachable"]]
    if not silent:
        return asks
    return (
        f"{asks} Nobody knows what became of {', '.join(silent)}. If they run, cut off from us, "
        "with a database host beside them, there will be two leaders: make sure that they are off."
    )


def _alone(spec: ClusterSpec, leads: str) -> Sequence[Step]:
    """A copy of the data is kept. The unit that forces it lives for a moment, and only its own host
    can ask it: it must not know another leader than the one that takes writes.
    """
    words = (
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={_ALONE}",
        f"--uid={ETCD_USER}",
        "--service-type=notify",
        f"--property=EnvironmentFile={ETCD_CONFIG}/etcd.env",
        f"--property=EnvironmentFile={_FORCED}",
        f"--property=TimeoutStartSec={_START_SECONDS}",
        f"--property=RuntimeMaxSec={2 * _START_SECONDS}",
        "/usr/bin/etcd",
    )
    forced = ("FORCE_NEW_CLUSTER=true", f"LISTEN_CLIENT_URLS={_own(spec)}")
    own = etcdctl(_own(spec))
    force = (
        f"systemctl stop {_ALONE} 2>/dev/null || :\n"
        # Asked to stop without a quorum, it takes as long as systemd lets it; it is safe to kill.
        "systemctl kill -s KILL etcd.service 2>/dev/null || :; systemctl stop etcd.service\n"
        f"cp -a {ETCD_DATA} {ETCD_DATA}.before-$(date +%Y%m%dT%H%M%S) || exit 1\n"
        f"printf 'ETCD_%s\\n' {quoted(forced)} >{_FORCED}\n"
        f"{quoted(words)} || {{ journalctl -u {_ALONE} -n 3 -o cat --no-pager; exit 1; }}\n"
        f"{_forgets_others(spec, leads) if leads else ''}"
        f"rm -f {_FORCED}; systemctl stop {_ALONE} && systemctl start --no-block etcd.service"
    )
    return (
        Shell(script=force, timeout_seconds=_STOP_SECONDS + _START_SECONDS),
        Await(
            what="etcd answers",
            condition=f"{own} endpoint health 2>&1",
            timeout_seconds=_START_SECONDS,
        ),
    )


def _forgets_others(spec: ClusterSpec, leads: str) -> str:
    own, leader, synchronous = etcdctl(_own(spec)), _key(spec, "leader"), _key(spec, "sync")
    return (
        f"led=$({own} get {leader} --print-value-only) || exit 1\n"
        f'[ "$led" = {quoted([leads])} ] || '
        f"{{ {own} del {leader} && {own} del {synchronous}; }} >/dev/null || exit 1\n"
    )


# ── nobody has ──────────────────────────────────────────────────────────────────────────────────
def _from_nothing(target: Target, seen: Mapping[str, Any], word: str) -> Course:
    databases = [host.name for host in members(target.spec)]
    _refuse_silent(seen, [*(host.name for host in etcd_members(target.spec)), *databases])
    found = yield from _data(target, databases)
    chosen = whose_data(target.spec, word, found)
    others = [host for host, data in found.items() if host != chosen and data.role != "absent"]
    runs = found[chosen].role == "primary"
    yield Confirm(
        question=f"Found a new etcd, in which {chosen} leads, as PostgreSQL does now? It runs on, "
        "and takes writes; only Patroni is started anew."
        if runs
        else f"Found a new etcd, in which {chosen} leads with its data? Nobody takes writes now. "
        f"What only {' or '.join(others) or 'another host'} has is gone then."
    )
    mark = f"install -d -m 0700 {RECOVERING.rpartition('/')[0]}; echo {chosen} >{RECOVERING}"
    for host in databases:
        yield On(host=host, label="notes who asks first", steps=(Shell(script=mark),))
    for host in () if runs else (*others, chosen):
        stop = Shell(script="systemctl stop patroni.service", timeout_seconds=_STOP_SECONDS)
        yield On(host=host, label="stops Patroni", steps=(stop,))
    yield Converge(why="a new etcd", only=("etcd",), cautious=False)
    yield from _ask_it(target.spec, chosen, found)
    yield Converge(why="everything else", cautious=False)
    yield Whole()
    for host in databases:
        yield On(host=host, label="is done", steps=(Shell(script=f"rm -f {RECOVERING}"),))


def _refuse_silent(seen: Mapping[str, Any], needed: Iterable[str]) -> None:
    if silent := [host for host in needed if host in seen["unreachable"]]:
        raise OperationError(
            f"no etcd that can be reached has any data, and {', '.join(silent)} cannot be reached",
            why="There may be etcd's data, or a leader that runs on.",
            do="Bring them up, or make sure that they are off and take them out of cluster.yml.",
        )


# ── both ────────────────────────────────────────────────────────────────────────────────────────
def _ask_it(spec: ClusterSpec, leads: str, found: Mapping[str, Data]) -> Course:
    """Patroni begins anew where there is data: first on the host that leads, where one does."""
    others = [host for host, data in found.items() if host != leads and data.role != "absent"]
    if leads:
        steps = (_again(), _answers(spec, leads, "/primary", "it leads"))
        yield On(host=leads, label="asks the new etcd first", steps=steps)
    for host in others:
        yield On(host=host, label="asks the new etcd", steps=(_again(),))
    for host in others:
        runs = _answers(spec, host, "/health", "PostgreSQL runs under Patroni")
        yield On(host=host, label="until PostgreSQL runs", steps=(runs,))


def _answers(spec: ClusterSpec, host: str, path: str, what: str) -> Step:
    """Patroni says so, also after a restart, a rewind, or the WAL of hours."""
    return Await(what=what, condition=answers(spec, spec.hosts[host], path), timeout_seconds=300)


def _again() -> Step:
    """Whether it runs, waits or has been stopped."""
    return Shell(
        script="systemctl kill -s KILL --kill-whom=main patroni.service 2>/dev/null || :\n"
        "systemctl start patroni.service",
        timeout_seconds=_STOP_SECONDS,
    )
