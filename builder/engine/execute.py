"""Carrying a plan out: hosts in parallel, one script per host and phase, each read again.

Success is what a second look says, never an exit status. What fails takes with it only what needs
it; the rest goes on. The manifest says beforehand what is under way, and afterwards what holds.
Where the lock is lost on the way, nothing new begins and no manifest is written: it is as if we had
been killed there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace

from builder.engine import diff
from builder.engine import manifest as manifests
from builder.engine.judge import Failure, decided, failed, judged, pieces
from builder.engine.manifest import Manifest
from builder.engine.observe import Look, Probe, look, merged_with_host, recorded
from builder.engine.plan import Plan
from builder.engine.schedule import Schedule, make_schedule, turn_of
from builder.engine.script import Piece, Script
from builder.engine.turns import in_turn
from builder.errors import LockedError, TransportError
from builder.resources.base import Action, Change, Impact, Present, Unknown
from builder.resources.steps import Put
from builder.resources.unit import Unit
from builder.transport.base import Connection

Progress = Callable[[str, str], None]


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


@dataclass(frozen=True, kw_only=True)
class _Ran:
    """What one script did: addresses that hold now, failures, and what was removed."""

    host: str
    held: Sequence[Change] = ()
    failures: Sequence[Failure] = ()
    broken: bool = False


@dataclass(kw_only=True)
class Apply:
    """One run. `connections` are the reachable hosts; `looks` what they said under the lock, and
    `lock_lost` says why that does not hold any more."""

    plan: Plan
    connections: Mapping[str, Connection]
    looks: Mapping[str, Look]
    progress: Progress
    after_script: Callable[[str], None] = lambda _: None
    lock_lost: Callable[[], LockedError | None] = lambda: None

    def __post_init__(self) -> None:
        work = {change.address: change for change in self.plan.pending}
        self._schedule: Schedule = make_schedule(work, self.plan.edges, self.connections)
        self._manifests = {host: self.looks[host].manifest for host in self.connections}
        self._on_host = {host: manifests.dump(known) for host, known in self._manifests.items()}
        self._waiting: set[str] = set(work)
        self._done: set[str] = set()
        self._dead: set[str] = set()
        self._closed: set[str] = set()  # rolling groups with a member that did not come back
        self._turns: dict[str, Sequence[str]] = {}  # of rolling groups, asked in this round
        self._stopping = False
        self._lost: LockedError | None = None
        self._running: dict[Future[_Ran], tuple[str, str | None]] = {}
        self._scripts: dict[str, Script] = {}  # by nonce: a host may run two
        self._result = Result()

    def run(self) -> Result:
        """Carry out everything that can be. KeyboardInterrupt once: finish the running steps."""
        for host in self.connections:
            self._note_begun(host)
        with ThreadPoolExecutor(max_workers=len(self.connections) + 4) as pool:
            while self._submit(pool) or self._running:
                self._collect()
        if self._is_ours():
            self._settle()
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
            self._running[pool.submit(self._decide, late)] = ("", None)
        if not self._running:
            self._submit_batches(pool, strictly=False)
        return len(self._running) > before

    def _submit_batches(self, pool: ThreadPoolExecutor, *, strictly: bool) -> None:
        """Who is first in turn is waited for as long as anything runs: that may be what it needs.

        When nothing runs it will not be ready any more, and the first of those that are goes.
        """
        for host in self.connections:
            if host not in self._dead and host not in self._busy():
                self._submit_batch(pool, host, strictly=strictly)

    def _submit_batch(self, pool: ThreadPoolExecutor, host: str, *, strictly: bool) -> None:
        taken = {group for _, group in self._running.values() if group} | self._closed
        batch = self._batch(host, taken)
        while (group := turn_of(batch)) and self._first(group, taken, strictly=strictly) != host:
            taken.add(group)
            batch = self._batch(host, taken)
        if batch:
            self._waiting -= {change.address for change in batch}
            self._running[pool.submit(self._carry_out, host, batch)] = (host, group)

    def _batch(self, host: str, taken: Collection[str]) -> Sequence[Change]:
        return self._schedule.batch(host, self._done, self._waiting, taken)

    def _first(self, group: str, taken: Collection[str], *, strictly: bool) -> str:
        """Whose turn it is; if not `strictly`, of those that are ready."""
        order = self._in_turn(group)
        ready = (host for host in order if turn_of(self._batch(host, taken)) == group)
        return order[0] if strictly else next(ready)

    def _in_turn(self, group: str) -> Sequence[str]:
        """Members in their order: who leads, and who holds the address, is asked right now.

        Once for all hosts that are to be given work: an answer that changes in between would have
        them wait for each other.
        """
        if group not in self._turns:
            alive = self.connections.keys() - self._dead
            members = self._schedule.members(group, self._waiting)
            placed = {host: change for host, change in members.items() if host in alive}
            self._turns[group] = in_turn(self.connections, placed)
        return self._turns[group]

    def _busy(self) -> set[str]:
        return {host for host, _ in self._running.values()}

    # ── taking results ──────────────────────────────────────────────────────────────────────────
    def _collect(self) -> None:
        try:
            finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            self.stop()
            return
        for future in finished:
            del self._running[future]
            self._take(future.result())

    def _take(self, ran: _Ran) -> None:
        for change in ran.held:
            self._done.add(change.address)
            self._result.done.append(change)
            self._note_done(change)
        for failure in ran.failures:
            self._result.failed.append(failure)
            self._waiting.discard(failure.address)
            self._close_group(failure.address)
        if ran.broken:
            self._dead.add(ran.host)

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
        for script in list(self._scripts.values()):
            with suppress(TransportError):  # what it did on the way is then told by its own end
                self.connections[script.host].run(f": >{script.stop_file}", timeout_seconds=10)

    # ── one host, one script ────────────────────────────────────────────────────────────────────
    def _carry_out(self, host: str, batch: Sequence[Change]) -> _Ran:
        work = list(pieces(batch))
        seen = [change.resource for _, changes in work for change in changes]
        probe = Probe(host=host, wanted=seen)
        script = Script(
            host=host,
            pieces=[self._manifest_piece(host), *(piece for piece, _ in work)],
            tail=probe.text(),
        )
        try:
            return self._ran(host, script, [changes for _, changes in work], probe)
        except TransportError as error:
            failures = [Failure(address=c.address, said=str(error)) for c in batch]
            return _Ran(host=host, failures=failures, broken=True)

    def _ran(
        self, host: str, script: Script, work: Sequence[Sequence[Change]], probe: Probe
    ) -> _Ran:
        self._scripts[script.nonce] = script
        try:
            said = self.connections[host].run(
                script.text(),
                timeout_seconds=script.timeout_seconds,
                on_line=script.reader(lambda text: self.progress(host, text)),
            )
        finally:
            del self._scripts[script.nonce]
        self.after_script(host)
        outcome = script.outcome(said.stdout)
        seen = probe.read(outcome.tail)
        done = [change for changes in work[: max(0, outcome.done - 1)] for change in changes]
        held, failures = judged(done, seen)
        if outcome.failed is not None:
            failures += failed(work, outcome.failed, outcome.said or said.stderr)
        self._give_back(work[max(0, outcome.done - 1) :], failures)
        return _Ran(host=host, held=held, failures=failures)

    def _give_back(self, rest: Sequence[Sequence[Change]], failures: Sequence[Failure]) -> None:
        """What the script did not come to waits again; what needs a failure stays for good."""
        failed = {failure.address for failure in failures}
        self._waiting |= {c.address for changes in rest for c in changes} - failed

    def _manifest_piece(self, host: str) -> Piece:
        text = manifests.dump(self._manifests[host])
        self._on_host.pop(host, None)  # scripts may arrive in another order: the last word is ours
        put = Put(path=manifests.PATH, content=text.encode(), mode="0600")
        return Piece(label="", steps=(put,))

    # ── what can only be decided now ────────────────────────────────────────────────────────────
    def _decide(self, late: Sequence[Change]) -> _Ran:
        """Look again at what could not be looked at before, and do what that asks for."""
        resources = [change.resource for change in late]
        hosts = {host for resource in resources for host in resource.hosts}
        asked = {h: c for h, c in self.connections.items() if h in hosts and h not in self._dead}
        looks = look(asked, resources)
        placed: dict[str, list[Change]] = {}
        held: list[Change] = []
        failures: list[Failure] = []
        for old in late:
            observed, host = merged_with_host(old.resource, looks)
            entry = recorded(old.resource, looks)
            change = decided(old, diff.difference(old.resource, observed, entry))
            if isinstance(observed, Unknown):
                failures.append(Failure(address=old.address, said=observed.reason))
            elif change.action is Action.NONE:
                held.append(change)
            else:
                placed.setdefault(host, []).append(change)
        ran = list(self._one_by_one(placed))
        return _Ran(
            host="",
            held=[*held, *(change for one in ran for change in one.held)],
            failures=[*failures, *(failure for one in ran for failure in one.failures)],
        )

    def _one_by_one(self, placed: Mapping[str, Sequence[Change]]) -> Iterator[_Ran]:
        """Host after host. Where turns matter, a failure ends it: the next could cost more."""
        firsts = {host: batch[0] for host, batch in placed.items()}
        for host in in_turn(self.connections, firsts):
            if self._stopping or self.lock_lost():
                self._waiting |= {change.address for change in placed[host]}
                continue
            ran = self._carry_out(host, placed[host])
            yield ran
            if ran.failures and firsts[host].resource.turn():
                return

    # ── the manifest ────────────────────────────────────────────────────────────────────────────
    def _note_begun(self, host: str) -> None:
        """A unit that does not run yet owes no restart: its start reads what is new."""
        begun = [
            (change.resource, change.trigger if change.impact else Impact.NONE)
            for change in (*self.plan.pending, *self.plan.owed)
            if host in change.resource.hosts and change.action in {Action.CREATE, Action.UPDATE}
        ]
        hosts = {**self.plan.departed, **self.plan.hosts}
        old = replace(self._manifests[host], hosts=hosts)
        self._manifests[host] = old.begun(self.plan.cluster, begun)

    def _note_done(self, change: Change) -> None:
        for host in change.resource.hosts:
            if host not in self._manifests or not change.resource.observed_in_plan:
                continue
            manifest = self._manifests[host]
            if change.action is Action.DELETE:
                self._manifests[host] = manifest.without([change.address])
            else:
                self._manifests[host] = manifest.settled(self.plan.cluster, [change.resource])

    def _settle(self) -> None:
        """Last, each host's manifest as it came out, with what was in sync to begin with.

        A host that has left the spec is known until nothing of ours is left there.
        """
        unchanged = [
            change.resource
            for change in self.plan.changes.values()
            if change.action is Action.NONE and isinstance(change.observed, Present)
        ]
        for host, manifest in self._manifests.items():
            here = [resource for resource in unchanged if host in resource.hosts]
            settled = manifest.settled(self.plan.cluster, here).without(self.plan.forgotten)
            self._manifests[host] = settled
        self._manifests = self._with_hosts(self._manifests)
        hosts = [h for h in self.connections if h not in self._dead and self._is_news(h)]
        with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
            list(pool.map(self._write_manifest, hosts))

    def _with_hosts(self, found: Mapping[str, Manifest]) -> dict[str, Manifest]:
        clean = {host for host in self.plan.departed if host in found and not found[host].entries}
        left = {h: a for h, a in self.plan.departed.items() if h not in clean}
        hosts = {**self.plan.hosts, **left}
        return {
            host: Manifest() if host in clean else replace(manifest, hosts=hosts)
            for host, manifest in found.items()
        }

    def _is_news(self, host: str) -> bool:
        return manifests.dump(self._manifests[host]) != self._on_host.get(host)

    def _write_manifest(self, host: str) -> None:
        script = Script(host=host, pieces=[self._manifest_piece(host)])
        try:
            said = self.connections[host].run(script.text(), timeout_seconds=60)
        except TransportError as error:
            self._result.failed.append(Failure(address=f"{host}/manifest", said=str(error)))
            return
        outcome = script.outcome(said.stdout)
        if outcome.failed is not None:
            failure = Failure(address=f"{host}/manifest", said=outcome.said)
            self._result.failed.append(failure)
