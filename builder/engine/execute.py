"""Carrying a plan out: who is given what, when, and what came of it.

Hosts work in parallel and wait for each other only where the schedule says so. What fails takes
with it only what needs it; the rest goes on. Where the lock is lost on the way, nothing new begins
and no manifest is written: it is as if we had been killed there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from builder.engine.hosts import Hosts, Progress
from builder.engine.judge import Failure, Ran
from builder.engine.ledger import Ledger
from builder.engine.observe import Look
from builder.engine.plan import Plan
from builder.engine.schedule import make_schedule, turn_of
from builder.engine.turns import in_turn
from builder.errors import LockedError
from builder.resources.base import Change
from builder.resources.unit import Unit
from builder.transport.base import Connection


@dataclass(kw_only=True)
class Result:
    """What an apply came to. `left` was not begun: something it needs failed, or it was stopped."""

    done: list[Change] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 1 if self.failed or self.left else 0


@dataclass(kw_only=True)
class Apply:
    """One run. `looks` are what the hosts said under the lock, and `lock_lost` says why that does
    not hold any more. Of `connections` count only those to hosts that could be looked at."""

    plan: Plan
    connections: Mapping[str, Connection]
    looks: Mapping[str, Look]
    progress: Progress
    after_script: Callable[[str], None] = lambda _: None
    lock_lost: Callable[[], LockedError | None] = lambda: None

    def __post_init__(self) -> None:
        seen = {host for host, one in self.looks.items() if one.error is None}
        self.connections = {h: c for h, c in self.connections.items() if h in seen}
        work = {change.address: change for change in self.plan.pending}
        self._schedule = make_schedule(work, self.plan.edges, self.connections, self.plan.order)
        found = {host: self.looks[host].manifest for host in self.connections}
        self._ledger = Ledger(self.plan, found)
        self._hosts = Hosts(
            connections=self.connections,
            ledger=self._ledger,
            progress=self.progress,
            after_script=self.after_script,
            is_ending=lambda: self._stopping or self.lock_lost() is not None,
        )
        self._waiting: set[str] = set(work)
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._dead: set[str] = set()
        self._closed: set[str] = set()  # rolling groups with a member that did not come back
        self._turns: dict[str, Sequence[str]] = {}  # of rolling groups, asked in this round
        self._stopping = False
        self._lost: LockedError | None = None
        self._running: dict[Future[Ran], tuple[str, str | None]] = {}
        self._result = Result()

    def run(self) -> Result:
        """Carry out everything that can be. KeyboardInterrupt once: finish the running steps."""
        pool = ThreadPoolExecutor(max_workers=len(self.connections) + 4)
        try:
            while self._submit(pool) or self._running:
                self._collect()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if self._is_ours():
            self._ledger.close()
            outdated = [host for host in self._ledger.outdated() if host not in self._dead]
            self._result.failed += self._hosts.write_manifests(outdated)
        self._result.left = sorted(self._waiting)
        return self._result

    # ── giving out work ─────────────────────────────────────────────────────────────────────────
    def _submit(self, pool: ThreadPoolExecutor) -> bool:
        """Give every idle host what it can do; whether anything was given out."""
        if self._stopping or not self._is_ours():
            return False
        before = len(self._running)
        self._turns.clear()
        self._submit_batches(pool, strictly=True)
        if "" not in self._busy() and (late := self._schedule.late(self._done, self._waiting)):
            self._waiting -= {change.address for change in late}
            self._running[pool.submit(self._hosts.decide, late, self._reached())] = ("", None)
        if not self._running:
            self._submit_batches(pool, strictly=False)
        return len(self._running) > before

    def _submit_batches(self, pool: ThreadPoolExecutor, *, strictly: bool) -> None:
        """Who is first in turn is waited for as long as anything runs: that may be what it needs.

        When nothing runs it will not be ready any more, and the first of those that are goes. So
        with what was to come before something.
        """
        for host in self.connections:
            if host not in self._dead and host not in self._busy():
                self._submit_batch(pool, host, strictly=strictly)

    def _submit_batch(self, pool: ThreadPoolExecutor, host: str, *, strictly: bool) -> None:
        taken = {group for _, group in self._running.values() if group} | self._closed
        batch = self._batch(host, taken, strictly=strictly)
        while (group := turn_of(batch)) and self._first(group, taken, strictly=strictly) != host:
            taken.add(group)
            batch = self._batch(host, taken, strictly=strictly)
        if batch:
            self._waiting -= {change.address for change in batch}
            self._running[pool.submit(self._hosts.carry_out, host, batch)] = (host, group)

    def _batch(self, host: str, taken: Collection[str], *, strictly: bool) -> Sequence[Change]:
        ahead = self._schedule.work.keys() - self._done - self._failed if strictly else ()
        return self._schedule.batch(host, self._done, self._waiting, taken, ahead)

    def _first(self, group: str, taken: Collection[str], *, strictly: bool) -> str:
        """Whose turn it is; if not `strictly`, of those that are ready."""
        order = self._in_turn(group)
        if strictly:
            return order[0]
        ready = (h for h in order if turn_of(self._batch(h, taken, strictly=False)) == group)
        return next(ready)

    def _in_turn(self, group: str) -> Sequence[str]:
        """Members in their order: who leads, and who holds the address, is asked right now.

        Once for all hosts that are to be given work: an answer that changes in between would have
        them wait for each other.
        """
        if group not in self._turns:
            alive = self._reached()
            members = self._schedule.members(group, self._waiting)
            placed = {host: change for host, change in members.items() if host in alive}
            self._turns[group] = in_turn(self.connections, placed)
        return self._turns[group]

    def _reached(self) -> Collection[str]:
        return self.connections.keys() - self._dead

    def _busy(self) -> set[str]:
        return {host for host, _ in self._running.values()}

    # ── taking results ──────────────────────────────────────────────────────────────────────────
    def _collect(self) -> None:
        try:
            finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            if self._result.interrupted:
                raise
            self.stop()
            return
        for future in finished:
            del self._running[future]
            self._take(future.result())

    def _take(self, ran: Ran) -> None:
        for change in ran.held:
            self._done.add(change.address)
            self._result.done.append(change)
            self._ledger.done(change)
        for failure in ran.failures:
            self._result.failed.append(failure)
            self._failed.add(failure.address)
            self._waiting.discard(failure.address)
            self._close_group(failure.address)
        self._waiting |= ran.left
        self._dead |= ran.lost

    def _close_group(self, address: str) -> None:
        """Where one member may be down, no other is taken down."""
        change = self._schedule.work.get(address)
        if change and isinstance(change.resource, Unit) and change.resource.group:
            self._closed.add(change.resource.group)

    def stop(self) -> None:
        """Running steps end, nothing new begins: the first Ctrl-C. A second one is not caught."""
        self._result.interrupted = True
        self._end_scripts()

    def _is_ours(self) -> bool:
        """Whether the lock still holds. Else running steps end, and nothing new begins."""
        if self._lost is None and (loss := self.lock_lost()):
            self._lost = loss
            self._result.failed.append(Failure(address="lock", said=str(loss)))
            self._end_scripts()
        return self._lost is None

    def _end_scripts(self) -> None:
        self._stopping = True
        self.progress("", "stopping: finishing the running steps")
        self._hosts.end()
