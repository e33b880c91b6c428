"""What an operator does to etcd. Pure: courses, see `builder.operations`.

etcd keeps old revisions until it is compacted, and their room until it is defragmented (etcd docs,
maintenance). One that has come to its quota raises an alarm and takes no more writes, Patroni's
among them, until somebody has made room and clears it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from builder.operations.course import (
    Ask,
    Confirm,
    Course,
    On,
    Operation,
    OperationError,
    Target,
    Whole,
)
from builder.resources.steps import Await, Shell
from builder.spec.model import ClusterSpec, Host
from roles.etcd.client import etcdctl
from roles.etcd.settings import members

_DEFRAGMENT_SECONDS = 120
_COMPACT = """\
r=$({ctl} endpoint status -w json | sed 's/.*"revision":\\([0-9]*\\).*/\\1/')
said=$({ctl} compaction "$r" 2>&1) || case $said in
  *'has been compacted'*) ;;
  *) echo "$said" >&2; exit 1 ;;
esac
"""


def defragment(target: Target) -> Course:
    """Give back what etcd does not need, and clear the alarm of one that was full.

    Invariant: one member at a time, for it answers nobody meanwhile, and its leader last; not
    begun unless every member answers.
    """
    seen = yield Ask()
    order = _order(target.spec, seen.get("etcd", {}).get("members", {}))
    yield Confirm(
        question="Compact etcd, and defragment its members one by one? Each is busy for a moment."
    )
    first = order[0]
    yield _on(target.spec, first, "compacts", _COMPACT.format(ctl=_own(target.spec, first)))
    for host in order:
        own = _own(target.spec, host)
        script = f"{own} --command-timeout={_DEFRAGMENT_SECONDS}s defrag"
        yield _on(target.spec, host, "defragments", script)
    yield _on(target.spec, first, "clears alarms", f"{_own(target.spec, first)} alarm disarm")
    healthy = Await(
        what="etcd takes writes again",
        condition=f"{_own(target.spec, first)} endpoint health 2>&1",
        timeout_seconds=30,
    )
    yield On(host=first, label="is asked whether there is room now", steps=(healthy,))
    yield Whole()


def _order(spec: ClusterSpec, found: Mapping[str, Any]) -> Sequence[str]:
    """Its leader last."""
    names = [host.name for host in members(spec)]
    silent = [name for name in names if found.get(name, {}).get("size_bytes") is None]
    if silent or not names:
        raise OperationError(
            f"etcd does not answer on {', '.join(silent) or 'any host'}",
            why="A member that is defragmented answers nobody; another one down, and none would.",
            do="Bring it back first: pgha-build status, pgha-build apply.",
        )
    return sorted(names, key=lambda name: bool(found[name]["leader"]))


def _on(spec: ClusterSpec, host: str, label: str, script: str) -> On:
    step = Shell(script=script, timeout_seconds=_DEFRAGMENT_SECONDS + 10)
    return On(host=host, label=label, steps=(step,))


def _own(spec: ClusterSpec, name: str) -> str:
    host: Host = spec.hosts[name]
    return etcdctl(f"https://{host.address}:{spec.sections['etcd']['client_port']}")


OPERATIONS = (
    Operation(
        name="defragment-etcd",
        doc="give back room that etcd does not need, and clear the alarm of a full one",
        begin=defragment,
    ),
)
