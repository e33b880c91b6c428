"""`pgha-build drill`: one fault at a time under write traffic, and what it cost."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import sample
from typing import Any

from builder import __version__, registry
from builder.cli.output import ProgressLines, confirmed, refuse_unwritable, show_json
from builder.connection_files import write_connection_files
from builder.drill import report
from builder.drill.fault import Fault
from builder.drill.faults import FAULTS
from builder.drill.ground import Ground
from builder.drill.inject import NotInjectedError, heal_leftovers
from builder.drill.run import NotPossibleError, drill, obstacle, recover
from builder.drill.scene import Scene
from builder.drill.table import line, rows
from builder.drill.verdict import Result
from builder.engine.lock import locked
from builder.errors import PghaError
from builder.overview import status
from builder.spec.model import ClusterSpec
from builder.transport.base import Connections
from builder.workspace import Workspace

INTERRUPTED = "interrupted"


@dataclass(kw_only=True)
class Record:
    """What was done and on which `software`, and what was not possible, and why.

    `failed`: what could not be carried out, though it was not left out. `interrupted`: by Ctrl-C.
    """

    software: Mapping[str, str]
    left_out: dict[str, str]
    results: list[Result] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def stopped(self) -> str:
        return "; ".join((*self.failed, *([INTERRUPTED] if self.interrupted else [])))

    def never_done(self) -> Mapping[str, str]:
        done = {result.fault.name for result in self.results}
        return {name: reason for name, reason in self.left_out.items() if name not in done}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="drills, in this order")
    parser.add_argument("--list", action="store_true", help="say which drills there are")
    parser.add_argument("--all", action="store_true", help="all that are possible here")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="so many times, each time in another order"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="for a program")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write an HTML page")


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list(arguments)
    _refuse_odd(arguments)
    workspace = Workspace.open(arguments.file)
    chosen = _chosen(arguments)
    with workspace.connected() as connections:
        return _carried_out(workspace, connections, chosen, arguments)


def _carried_out(
    workspace: Workspace,
    connections: Connections,
    chosen: Sequence[Fault],
    arguments: argparse.Namespace,
) -> int:
    ground = _ground(workspace, connections)
    with locked(connections.reached(), "drill"):
        if heal_leftovers(connections.reached(), ground.tell):
            recover(ground)
    who = ground.healthy_scene()
    possible, left_out = _possible(ground, who, chosen, forgiving=arguments.all)
    if arguments.rounds:
        possible = [f for _ in range(arguments.rounds) for f in sample(possible, len(possible))]
    if not arguments.yes and not _agreed(workspace.spec.name, possible, ground.promises()):
        print("Nothing was done.", file=sys.stderr)
        return 1
    software = {"pgha-build": __version__, **who.software}
    record = Record(software=software, left_out=left_out)
    try:
        _drilled(connections, ground, possible, record, forgiving=arguments.all)
    except Exception as error:  # a mistake of ours: what was measured before is told
        record.failed.append(_with_notes(repr(error), error))
        _told(workspace.spec, record, arguments)
        raise
    return _told(workspace.spec, record, arguments)


def _refuse_odd(arguments: argparse.Namespace) -> None:
    """Before the first fault, not after the last."""
    if arguments.all and arguments.names:
        raise PghaError("--all and names of drills do not go together", do="Give one of them.")
    if arguments.rounds is not None and arguments.rounds < 1:
        raise PghaError(f"--rounds {arguments.rounds}: at least one round, please")
    if arguments.report:
        report.require()
        refuse_unwritable(arguments.report)


def _list(arguments: argparse.Namespace) -> int:
    if arguments.json:
        show_json({"drills": [{"name": f.name, "doc": f.doc} for f in FAULTS.values()]})
        return 0
    width = max(map(len, FAULTS))
    for fault in FAULTS.values():
        print(f"{fault.name:<{width}}  {fault.doc}")
    return 0


def _chosen(arguments: argparse.Namespace) -> Sequence[Fault]:
    unknown = [name for name in arguments.names if name not in FAULTS]
    if unknown:
        raise PghaError(f"there is no drill {', '.join(unknown)}", do="See pgha-build drill --list")
    if arguments.all:
        return tuple(FAULTS.values())
    if not arguments.names:
        raise PghaError("no drill was named", do="pgha-build drill --list | NAME… | --all")
    return [FAULTS[name] for name in arguments.names]


def _ground(workspace: Workspace, connections: Connections) -> Ground:
    """What is looked at again and again is asked over connections that stay."""
    uris = workspace.connection_strings()
    if not uris:
        raise PghaError(
            "there is nobody to write as",
            why="Clients of the drill are the first user of postgresql.users.",
            do="Add one to cluster.yml, and apply.",
        )
    write_connection_files(workspace)

    def look() -> Mapping[str, Any]:
        connections.renew(workspace.provider.endpoints())
        return status(workspace, connections)

    def differences() -> Sequence[str]:
        connections.renew(workspace.provider.endpoints())
        plan = workspace.plan(connections, workspace.look(connections))
        wrong = [change.address for change in plan.differences]
        return (
            wrong
            or [*plan.unreachable.values()]
            or [f"{address} cannot be looked at" for address in plan.blocked]
        )

    return Ground(
        spec=workspace.spec,
        roles=registry.roles(),
        provider=workspace.provider,
        uris=uris,
        status=look,
        differences=differences,
        tell=ProgressLines(),
    )


def _possible(
    ground: Ground, who: Scene, chosen: Sequence[Fault], *, forgiving: bool
) -> tuple[Sequence[Fault], dict[str, str]]:
    """With an empty plan; what cannot be done is said, or refused."""
    found = {f.name: obstacle(f, who, ground.provider, ground.promises()) for f in chosen}
    reasons = {name: reason for name, reason in found.items() if reason}
    for name, reason in reasons.items():
        print(f"{name}: not possible here: {reason}.", file=sys.stderr)
    possible = [f for f in chosen if f.name not in reasons]
    if not possible or (len(possible) < len(chosen) and not forgiving):
        raise PghaError("nothing was done: not everything that was asked for is possible here")
    wrong = ground.differences()
    if wrong:
        raise PghaError(
            f"{ground.spec.name} is not what cluster.yml says: {', '.join(wrong[:5])}",
            why="A drill proves something of the cluster that the file describes.",
            do="pgha-build plan, and apply.",
        )
    return possible, reasons


def _agreed(name: str, possible: Sequence[Fault], promises: Mapping[str, float]) -> bool:
    print(f"This harms {name} on purpose, one fault after another:", file=sys.stderr)
    for fault in possible:
        print(f"  {fault.name}: {fault.doc}", file=sys.stderr)
    minutes = sum(f.lasts(promises) + 45 for f in possible) / 60
    question = (
        f"Each is healed before the next; all together take about {minutes:.0f} minutes.\n"
        "Clients of this cluster lose their connections, and wait, as they would in earnest."
    )
    return confirmed(question, expected=name)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _drilled(
    connections: Connections,
    ground: Ground,
    possible: Sequence[Fault],
    record: Record,
    *,
    forgiving: bool,
) -> None:
    """All, or those before the first that could not be carried out.

    One that cannot be injected ends only what was asked for by name.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    for fault in possible:
        ground.tell("", f"── {fault.name} ──")
        try:
            connections.renew(ground.provider.endpoints())
            # For each anew: a host whose power was cut has forgotten the lock.
            with locked(connections.reached(), "drill") as lock:
                heal_leftovers(connections.reached(), ground.tell)
                record.results.append(drill(replace(ground, may_harm=lock.refuse_lost), fault))
        except PghaError as error:
            if forgiving and isinstance(error, NotPossibleError):
                ground.tell("", f"not possible now: {error.what}")
                record.left_out[fault.name] = error.what
                continue
            said = f"{fault.name} could not be carried out: {error}"
            record.failed.append(_with_notes(said, error))
            if forgiving and isinstance(error, NotInjectedError):
                ground.tell("", record.failed[-1])
                continue
            return
        except KeyboardInterrupt as error:  # what was measured is still told
            record.failed += _notes(error)
            record.interrupted = True
            return
        ground.tell("", line(record.results[-1]))


def _with_notes(said: str, error: BaseException) -> str:
    return "\n".join((said, *_notes(error)))


def _notes(error: BaseException | None) -> list[str]:
    """What could not be healed, also where another error or Ctrl-C came on top."""
    found: list[str] = []
    while error is not None:
        found += getattr(error, "__notes__", [])
        error = error.__context__
    return list(dict.fromkeys(found))


def _told(spec: ClusterSpec, record: Record, arguments: argparse.Namespace) -> int:
    results, stopped, left_out = record.results, record.stopped, record.never_done()
    passed = bool(results) and not stopped and all(result.passed for result in results)
    drills = [result.document() for result in results]
    if stopped:
        print(f"Error: {stopped}", file=sys.stderr)
    if arguments.json:
        failover = spec.sections["failover"]
        cluster = {"cluster": spec.name, **{k: failover[k] for k in ("preset", "synchronous")}}
        outcome = {"passed": passed, "stopped": stopped, "not_possible": left_out}
        show_json({**cluster, "software": record.software, **outcome, "drills": drills})
    else:
        print("\n".join(rows(results)))
    if arguments.report:
        text = report.page(
            spec.name, results, stopped=stopped, left_out=left_out, software=record.software
        )
        _written(arguments.report, text)
    if record.interrupted:
        return 130
    return 0 if passed else 1


def _written(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise PghaError(
            f"{file}: the page cannot be written: {error.strerror}",
            do="What was measured is above; make room, and drill again for a page.",
        ) from error
