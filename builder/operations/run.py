"""Carries a course out on real hosts: the thin IO edge of operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from builder.engine.execute import Apply
from builder.engine.hosts import Progress
from builder.engine.lock import Lock
from builder.engine.plan import Plan
from builder.engine.script import Piece, Script, in_place
from builder.errors import PghaError
from builder.health import ailments
from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Course,
    Hear,
    Keep,
    On,
    OperationError,
    Preview,
    Request,
    Tell,
    Whole,
    refuse_left_behind,
)
from builder.transport.base import Connection, Connections
from builder.workspace import Workspace

_LOOK_SECONDS = 1.0


class Declined(Exception):
    """A person said no."""


@dataclass(kw_only=True)
class Runner:
    """One operation under the lock. `status` looks at the cluster, `confirm` asks a person,
    `show` prints a plan; `after_script` is the hook of tests that end us between two steps;
    `tell` prints what belongs to the result; `tell_clients` writes down what clients need, as soon
    as the hosts know it; `takes_over` is the operation's."""

    workspace: Workspace
    connections: Connections
    reachable: Mapping[str, Connection]
    lock: Lock
    status: Callable[[], Mapping[str, Any]]
    confirm: Callable[[str], bool]
    show: Callable[[Plan], None]
    progress: Progress
    after_script: Callable[[str], None]
    tell_clients: Callable[[Workspace], None]
    tell: Callable[[Sequence[str]], None]
    takes_over: bool = False
    previewed: bool = False
    did: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    untold: PghaError | None = None

    def run(self, course: Course) -> None:
        """Raises OperationError when it is refused or fails, and Declined on a no.

        PghaError where all went well, and clients' files could not be written.
        """
        answer: Any = None
        try:
            request = next(course)
            while True:
                try:
                    answer = self._perform(request)
                except PghaError as error:
                    request = course.throw(error)
                else:
                    request = course.send(answer)
        except StopIteration:
            if self.untold:
                raise self.untold from None
            return

    def _tell_clients(self) -> None:
        """Where their files cannot be written, that is told when all is done."""
        try:
            self.tell_clients(self.workspace)
        except PghaError as error:
            self.untold = error

    def _perform(self, request: Request) -> Any:
        if isinstance(request, On | Converge | Keep):
            self.lock.refuse_lost()
        match request:
            case Ask():
                return self.status()
            case Hear():
                return self._hear(request)
            case Confirm() | Tell() | Preview():
                return self._speak(request)
            case On():
                self._on(request)
            case Converge():
                self._converge(request)
                self._tell_clients()
            case Keep():
                self.progress("", request.label)
                request.change(self.workspace.store)
                self.workspace = self.workspace.anew()
            case Whole():
                self._whole(request.timeout_seconds)
        return None

    def _speak(self, request: Confirm | Tell | Preview) -> None:
        match request:
            case Confirm():
                if not self.confirm(request.question):
                    raise Declined
            case Tell():
                self.said += request.lines
                self.tell(request.lines)
            case Preview():
                looks = self.workspace.look(self.connections)
                plan = self.workspace.plan(self.connections, looks)
                self.show(plan)
                refuse_left_behind(plan.unreachable)
                self.previewed = True

    def _on(self, request: On) -> None:
        connection = self._connection(request.host)
        piece = Piece(label=request.label, steps=request.steps)
        script = Script(host=request.host, pieces=[piece])
        said = connection.run(
            script.text(),
            timeout_seconds=script.timeout_seconds,
            on_line=script.reader(lambda text: self.progress(request.host, text)),
        )
        outcome = script.outcome(said.stdout)
        if outcome.failed is None:
            self._tell_clients()  # who dies now has told them
        self.after_script(request.host)
        if outcome.failed is not None:
            raise OperationError(
                f"{request.host}: {request.label}: {outcome.said or said.stderr.strip()}",
                do="pgha-build status shows where the cluster stands; the command can be repeated.",
            )
        self.did.append(f"{request.host}: {request.label}")

    def _hear(self, request: Hear) -> Mapping[str, str]:
        def one(host: str) -> str:
            said = self._connection(host).run(
                in_place(host, request.scripts[host]), timeout_seconds=request.timeout_seconds
            )
            if said.status:
                raise OperationError(
                    f"{host}: {request.label}: {said.stderr.strip() or said.stdout.strip()}",
                    do="Mend that, and give the command again; the question has changed nothing.",
                )
            return said.stdout

        self.progress("", request.label)
        with ThreadPoolExecutor(max_workers=max(1, len(request.scripts))) as pool:
            return dict(zip(request.scripts, pool.map(one, request.scripts), strict=True))

    def _connection(self, host: str) -> Connection:
        if host not in self.reachable:
            raise OperationError(f"{host} cannot be reached", do="pgha-build status says why.")
        return self.reachable[host]

    def _converge(self, request: Converge) -> None:
        self.progress("", request.why)
        workspace = self.workspace.anew(versions=request.versions)
        looks = workspace.look(self.connections)
        plan = workspace.plan_to_apply(
            self.connections,
            looks,
            request.only,
            check=not self.takes_over,
            cautious=request.cautious,
        )
        if not self.previewed:  # else a person has seen the whole of it
            self.show(plan)
        if plan.unreachable:
            raise OperationError(
                f"cannot be reached: {', '.join(plan.unreachable)}",
                why="Half of the hosts would be left behind.",
                do="Bring them up (one that has left for good: pgha-build state forget HOST), and "
                "give the same command again: it goes on from here.",
            )
        result = Apply(
            plan=plan,
            connections=self.connections.reached(),
            looks=looks,
            progress=self.progress,
            after_script=self.after_script,
            lock_lost=self.lock.loss,
        ).run()
        self.did += [change.address for change in result.done]
        if result.interrupted:
            raise KeyboardInterrupt
        if result.exit_code or plan.blocked:
            failed = "; ".join(f"{f.address}: {f.said}" for f in result.failed)
            raise OperationError(
                f"not everything could be applied: {failed or ', '.join(plan.blocked)}",
                do="Mend the cause, and give the same command again: it goes on from here.",
            )

    def _whole(self, timeout_seconds: int) -> None:
        self.progress("", "waits until the cluster is whole")
        end = time.monotonic() + timeout_seconds
        while wrong := ailments(self.workspace.spec, self.status()):
            if time.monotonic() > end:
                raise OperationError(
                    f"not whole after {timeout_seconds} s: {'; '.join(wrong)}",
                    do="pgha-build status and plan say more.",
                )
            time.sleep(_LOOK_SECONDS)  # until the next look
