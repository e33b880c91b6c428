"""etcd is lost for good, by its majority or altogether. Pure: a course, see `builder.operations`.

Where a member has kept its data, it becomes the only one (`--force-new-cluster`; etcd docs,
disaster recovery), and knows what it knew. Members of the old cluster that come back are told by it
that they have been removed, and end.

Where nobody has, the new etcd knows nobody, and whoever asks it first founds the cluster anew and
leads (Patroni docs, existing_data.rst). So the host whose data counts asks first. A Patroni that
has seen the old etcd takes a new one, whose raft term is lower, for one that lags behind, and asks
on for ever (patroni/dcs/etcd3.py): it is killed, and systemd starts it. PostgreSQL runs on
meanwhile (`KillMode=process`), and takes writes for as long as Patroni's failsafe mode lets it.

Interrupted anywhere, the same command goes on: what it finds says how far it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Course,
    Hear,
    On,
    OperationError,
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
from roles.patroni.positions import Data, position, whose_data
from roles.patroni.settings import members

_LOOK_SECONDS = 30
_STOP_SECONDS = 120
_START_SECONDS = 60
_ALONE = "pgha-recover-etcd.service"


def recover_etcd(target: Target) -> Course:
    """Get etcd back after its majority, or all of it, has been lost for good."""
    seen = yield Ask()
    hosts = [host.name for host in etcd_members(target.spec)]
    found = yield Hear(
        label="looks for etcd's data",
        scripts={h: _knows(target.spec) for h in hosts if h not in seen["unreachable"]},
        timeout_seconds=_LOOK_SECONDS,
    )
    kept = [host for host, said in found.items() if "data" in said.split()]
    words = {word for said in found.values() for word in said.split()}
    if not kept or ("new" in words and "cluster" not in words):
        yield from _from_nothing(target, seen)
    elif seen["etcd"]["quorum"] and not len(kept) == 1 < len(hosts):
        raise OperationError(
            "etcd has a quorum: it is not lost",
            do="pgha-build apply lets members join that have lost their data.",
        )
    else:
        yield from _from_member(target, seen, kept)


def _knows(spec: ClusterSpec) -> str:
    """Shell: `data` where there is any; `cluster` where Patroni's is in it, `new` where not."""
    own = f"{etcdctl(_own(spec))} --command-timeout=4s"
    key = quoted([f"/service/{spec.name}/initialize"])
    return (
        f"[ ! -d {ETCD_DATA}/member/wal ] || echo data\n"
        f"said=$({own} get {key} --print-value-only 2>/dev/null) || exit 0\n"
        '[ -n "$said" ] && echo cluster || echo new'
    )


def _own(spec: ClusterSpec) -> str:
    return f"https://127.0.0.1:{spec.sections['etcd']['client_port']}"


# ── a member has kept its data ──────────────────────────────────────────────────────────────────
def _from_member(target: Target, seen: Mapping[str, Any], kept: Sequence[str]) -> Course:
    chosen = _kept_by(target, seen, kept)
    others = [host.name for host in etcd_members(target.spec) if host.name != chosen]
    silent = [host for host in others if host in seen["unreachable"]]
    if not seen["etcd"]["members"][chosen]["healthy"]:
        yield Confirm(question=_risk(chosen, silent))
        yield On(host=chosen, label="becomes the only member", steps=_alone(target.spec))
        said = yield Hear(
            label="asks what it knows",
            scripts={chosen: _knows(target.spec)},
            timeout_seconds=_LOOK_SECONDS,
        )
        if "new" in said[chosen].split():  # a founding that did not come to its end
            yield from _from_nothing(target, seen)
            return
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


def _risk(chosen: str, silent: Sequence[str]) -> str:
    asks = f"Make {chosen} etcd's only member, with the data that it has? The others join it anew."
    if not silent:
        return asks
    return (
        f"{asks} Nobody knows what became of {', '.join(silent)}. If they run, cut off from us, "
        "with a database host beside them, there will be two leaders: make sure that they are off."
    )


def _alone(spec: ClusterSpec) -> Sequence[Step]:
    """A copy of the data is kept. The unit that forces it lives for a moment, and is in no file."""
    words = (
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={_ALONE}",
        f"--uid={ETCD_USER}",
        "--service-type=notify",
        f"--property=EnvironmentFile={ETCD_CONFIG}/etcd.env",
        f"--property=TimeoutStartSec={_START_SECONDS}",
        f"--property=RuntimeMaxSec={2 * _START_SECONDS}",
        "--setenv=ETCD_FORCE_NEW_CLUSTER=true",
        "/usr/bin/etcd",
    )
    force = (
        f"systemctl stop {_ALONE} 2>/dev/null || :\n"
        # Asked to stop without a quorum, it takes as long as systemd lets it; it is safe to kill.
        "systemctl kill -s KILL etcd.service 2>/dev/null || :; systemctl stop etcd.service\n"
        f"rm -rf {ETCD_DATA}.before && cp -a {ETCD_DATA} {ETCD_DATA}.before || exit 1\n"
        f"{quoted(words)} || {{ journalctl -u {_ALONE} -n 3 -o cat --no-pager; exit 1; }}\n"
        f"systemctl stop {_ALONE} && systemctl start --no-block etcd.service"
    )
    health = f"{etcdctl(_own(spec))} endpoint health 2>&1"
    return (
        Shell(script=force, timeout_seconds=_STOP_SECONDS + _START_SECONDS),
        Await(what="etcd answers", condition=health, timeout_seconds=_START_SECONDS),
    )


# ── nobody has ──────────────────────────────────────────────────────────────────────────────────
def _from_nothing(target: Target, seen: Mapping[str, Any]) -> Course:
    databases = [host.name for host in members(target.spec)]
    _refuse_silent(seen, [*(host.name for host in etcd_members(target.spec)), *databases])
    heard = yield Hear(
        label="asks how far the data is",
        scripts=dict.fromkeys(databases, position(target.spec)),
        timeout_seconds=_LOOK_SECONDS,
    )
    found = {host: Data.read(said) for host, said in heard.items()}
    chosen = whose_data(target, found)
    others = [host for host, data in found.items() if host != chosen and data.role != "absent"]
    if found[chosen].role == "primary":
        yield Confirm(
            question=f"Found a new etcd, in which {chosen} leads, as PostgreSQL does now? It runs "
            "on, and takes writes; only Patroni is started anew."
        )
    else:
        yield Confirm(
            question=f"Found a new etcd, in which {chosen} leads with its data? Nobody takes "
            f"writes now. What only {' or '.join(others) or 'another host'} has is gone then."
        )
        for host in (*others, chosen):
            stop = Shell(script="systemctl stop patroni.service", timeout_seconds=_STOP_SECONDS)
            yield On(host=host, label="stops Patroni", steps=(stop,))
    yield Converge(why="a new etcd", only=("etcd",), cautious=False)
    leads = _answers(target.spec, chosen, "/primary", "it leads")
    yield On(host=chosen, label="asks the new etcd first", steps=(_again(), leads))
    for host in others:
        yield On(host=host, label="asks the new etcd", steps=(_again(),))
    for host in others:
        runs = _answers(target.spec, host, "/health", "PostgreSQL runs under Patroni")
        yield On(host=host, label="until PostgreSQL runs", steps=(runs,))
    yield Converge(why="everything else")
    yield Whole()


def _refuse_silent(seen: Mapping[str, Any], needed: Iterable[str]) -> None:
    if silent := [host for host in needed if host in seen["unreachable"]]:
        raise OperationError(
            f"no etcd that can be reached has any data, and {', '.join(silent)} cannot be reached",
            why="There may be etcd's data, or a leader that runs on.",
            do="Bring them up, or make sure that they are off and take them out of cluster.yml.",
        )


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
