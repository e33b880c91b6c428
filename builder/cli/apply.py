"""`pgha-build apply`: bring the hosts to what cluster.yml says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from builder.bundle import Bundle, bring
from builder.cli.output import (
    ProgressLines,
    as_document,
    confirmed,
    in_words,
    show_json,
    wants_colour,
)
from builder.connection_files import write_connection_files
from builder.engine import render
from builder.engine.execute import Apply, Result
from builder.engine.lock import locked
from builder.engine.plan import Plan
from builder.engine.saved import SavedPlan, load, refuse_stale
from builder.errors import PghaError, PlanError
from builder.fault import after_script
from builder.resources.base import Action, Impact
from builder.resources.package import Locked, Package
from builder.resources.python_environment import PythonEnvironment
from builder.transport.base import Connection
from builder.workspace import Workspace


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", nargs="?", type=Path, metavar="PLANFILE", help="a saved plan")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="HOST|ROLE|ADDRESS",
        help="only this, and what it needs; may be repeated",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE",
        help="install packages from this file (pgha-build bundle), and from nowhere else",
    )
    parser.add_argument(
        "--waves",
        action="store_true",
        help="host by host, in the order of cluster.yml; stop at the first that fails",
    )
    parser.add_argument(
        "--max-impact",
        choices=[str(impact) for impact in Impact],
        metavar="|".join(str(impact) for impact in Impact),
        help="refuse a plan that costs the service more than this",
    )
    parser.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not look for obstacles on hosts that nothing was applied to yet",
    )
    parser.add_argument("--json", action="store_true", help="for a program")


def run(arguments: argparse.Namespace) -> int:
    if arguments.plan and arguments.only:
        raise PlanError(
            "--only does not go with a saved plan",
            why="What was agreed to is applied whole, or not at all.",
            do="Save a narrower one: pgha-build plan --only … --out FILE.",
        )
    saved = load(arguments.plan) if arguments.plan else None
    workspace = Workspace.open(arguments.file)
    if arguments.waves:
        if saved:
            raise PlanError("--waves does not go with a saved plan", do="Leave one of them out.")
        return in_waves(workspace, arguments)
    return apply(workspace, arguments, saved)


def in_waves(workspace: Workspace, arguments: argparse.Namespace) -> int:
    """One host after another, and at last what belongs to no single one."""
    if arguments.only or arguments.json:
        raise PlanError(
            "--waves goes neither with --only nor with --json",
            do="A wave of your own making: apply --only HOST --only HOST.",
        )
    waiting = list(workspace.spec.hosts)
    while waiting:
        host = waiting.pop(0)
        print(f"── {host} " + "─" * max(0, 76 - len(host)), flush=True)
        code = apply(workspace, argparse.Namespace(**{**vars(arguments), "only": [host]}))
        if code:
            left = ", ".join(waiting) or "the cluster as a whole"
            print(f"\nStopped at {host}. Not begun: {left}.", file=sys.stderr)
            return code
    print("── all together " + "─" * 63, flush=True)
    return apply(workspace, arguments)


def apply(
    workspace: Workspace, arguments: argparse.Namespace, saved: SavedPlan | None = None
) -> int:
    """Look under the lock, show, ask, carry out, report."""
    only = list(saved.only) if saved else arguments.only
    bundle = Bundle(arguments.bundle) if arguments.bundle else None
    workspace = workspace.anew(bundled=bundle is not None)
    with workspace.connected() as connections:
        reachable = connections.reached()
        with locked(reachable, "apply") as lock:
            looks = workspace.look(connections)
            plan = workspace.plan_to_apply(connections, looks, only, check=arguments.check)
            if saved:
                refuse_stale(saved, plan)
            refuse_costly(plan, arguments.max_impact)
            if not _agreed(plan, arguments, asked=saved is None):
                return 1
            if bundle:
                _carry_over(bundle, plan, reachable)
            run = Apply(
                plan=plan,
                connections=connections.reached(),  # hosts that have left the spec, too
                looks=looks,
                progress=ProgressLines(),
                after_script=after_script(),
                lock_lost=lock.loss,
            )
            result = run.run()
    return _report(plan, result, _untold(workspace), as_json=arguments.json)


def _untold(workspace: Workspace) -> PghaError | None:
    """Why clients' files could not be written: what was applied is reported all the same."""
    try:
        write_connection_files(workspace)
    except PghaError as error:
        return error
    return None


def _carry_over(bundle: Bundle, plan: Plan, reachable: Mapping[str, Connection]) -> None:
    """To every host that is to install something; all have it before the first change."""
    needed: dict[str, dict[str, Locked]] = {}
    for change in plan.pending:
        wanted = change.resource
        if isinstance(wanted, Package | PythonEnvironment) and change.action is not Action.DELETE:
            needed.setdefault(wanted.hosts[0], {}).update(wanted.carried)
    progress = ProgressLines()

    def one(host: str) -> None:
        bring(reachable[host], bundle, needed[host], lambda text: progress(host, text))

    with ThreadPoolExecutor(max_workers=max(1, len(needed))) as pool:
        list(pool.map(one, needed))


def refuse_costly(plan: Plan, allowed: str | None) -> None:
    """Raises PlanError where the plan costs more than `--max-impact` allows."""
    if allowed is None:
        return
    limit = Impact[allowed.upper()]
    costly = [change for change in plan.pending if change.impact > limit]
    if costly:
        raise PlanError(
            f"this costs more than --max-impact {allowed}: {render.impact(costly)}",
            why="Nothing was changed.",
            do="Allow more, or narrow it with --only.",
        )


def _agreed(plan: Plan, arguments: argparse.Namespace, *, asked: bool) -> bool:
    if not arguments.json:
        print(render.text(plan, colour=wants_colour()))
    if arguments.yes or not asked or not plan.differences:
        return True
    if confirmed(f"\nApply this to {plan.cluster}?"):
        return True
    print("Nothing was changed.", file=sys.stderr)
    return False


def _report(plan: Plan, result: Result, untold: PghaError | None, *, as_json: bool) -> int:
    code = result.exit_code or (1 if plan.exit_code == 1 or untold else 0)
    for failure in result.failed:
        print(f"\n✗ {failure.address}", file=sys.stderr)
        print("\n".join(f"    {line}" for line in failure.said.splitlines()), file=sys.stderr)
    if as_json:
        error = as_document(untold) if untold else {}
        show_json({**render.document(plan), **_record(result), **error, "exit_code": code})
    else:
        print(_sum(plan, result))
    if untold:
        print(f"\n{in_words(untold)}", file=sys.stderr)
    return code


def _record(result: Result) -> Mapping[str, object]:
    return {
        "done": [change.address for change in result.done],
        "failed": [{"address": f.address, "said": f.said} for f in result.failed],
        "left": result.left,
        "interrupted": result.interrupted,
    }


def _sum(plan: Plan, result: Result) -> str:
    done = sum(change.resource.observed_in_plan for change in result.done)
    if not plan.differences and not plan.exit_code:
        return "Applied: nothing to do."
    parts = [f"{done} changed"]
    if result.failed:
        parts.append(f"{len(result.failed)} failed")
    if left := len(result.left) + len(plan.blocked):
        parts.append(f"{left} not begun")
    if plan.unreachable:
        parts.append(f"not reached: {', '.join(plan.unreachable)}")
    if result.interrupted:
        parts.append("interrupted; apply again to go on")
    return "Applied: " + ", ".join(parts) + "."
