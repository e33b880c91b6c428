"""The hosts that a plan is carried out on: one script per batch, sent, followed, and read again.

Success is what a second look says, never an exit status. Several batches run at once, each in a
thread of its own; what came of one is a value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from builder.engine.judge import Failure, Ran, decided, judged, pieces
from builder.engine.ledger import Ledger
from builder.engine.observe import Probe, look
from builder.engine.script import Script
from builder.engine.turns import in_turn
from builder.errors import TransportError
from builder.resources.base import Change
from builder.transport.base import Completed, Connection

Progress = Callable[[str, str], None]


@dataclass(kw_only=True)
class Hosts:
    """Those that are reached. `is_ending` says that nothing new may begin."""

    connections: Mapping[str, Connection]
    ledger: Ledger
    progress: Progress
    after_script: Callable[[str], None]
    is_ending: Callable[[], bool]
    _running: dict[str, Script] = field(default_factory=dict, init=False)  # a host may run two

    def carry_out(self, host: str, batch: Sequence[Change]) -> Ran:
        """A batch on its host, behind the manifest that says what is under way."""
        work = list(pieces(batch))
        probe = Probe(host=host, wanted=[c.resource for _, changes in work for c in changes])
        script = Script(
            host=host,
            pieces=[self.ledger.piece(host), *(piece for piece, _ in work)],
            tail=probe.text(),
        )
        try:
            said = self._run(script)
            if said is None:
                return Ran(left=frozenset(change.address for change in batch))
            outcome = script.outcome(said.stdout)
            seen = probe.read(outcome.tail)
        except TransportError as error:
            failures = [Failure(address=change.address, said=str(error)) for change in batch]
            return Ran(failures=failures, lost=frozenset({host}))
        told = replace(outcome, said=outcome.said or said.stderr)
        return judged([changes for _, changes in work], told, seen)

    def decide(self, late: Sequence[Change], reached: Collection[str]) -> Ran:
        """Look again at what could not be looked at before, and do what that asks for."""
        resources = [change.resource for change in late]
        hosts = {host for resource in resources for host in resource.hosts if host in reached}
        asked = {h: connection for h, connection in self.connections.items() if h in hosts}
        found = decided(late, look(asked, resources))
        ran = list(self._one_by_one(found.work))
        return Ran(
            held=[*found.held, *(change for one in ran for change in one.held)],
            failures=[*found.failures, *(failure for one in ran for failure in one.failures)],
            left=frozenset().union(*(one.left for one in ran)),
            lost=frozenset().union(*(one.lost for one in ran)),
        )

    def end(self) -> None:
        """Scripts that run stop before their next piece."""
        for script in list(self._running.values()):
            with suppress(TransportError):  # what it did on the way is then told by its own end
                self.connections[script.host].run(f": >{script.stop_file}", timeout_seconds=10)

    def write_manifests(self, hosts: Sequence[str]) -> Sequence[Failure]:
        """The last word on them, after all scripts."""
        with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
            return [failure for failure in pool.map(self._write, hosts) if failure]

    def _run(self, script: Script) -> Completed | None:
        """None where nothing new may begin: asked once `end` would find it."""
        host = script.host
        self._running[script.nonce] = script
        try:
            if self.is_ending():
                return None
            said = self.connections[host].run(
                script.text(),
                timeout_seconds=script.timeout_seconds,
                on_line=script.reader(lambda text: self.progress(host, text)),
            )
        finally:
            del self._running[script.nonce]
        self.after_script(host)
        return said

    def _one_by_one(self, work: Mapping[str, Sequence[Change]]) -> Iterator[Ran]:
        """Host after host. Where turns matter, a failure ends it: the next could cost more."""
        firsts = {host: batch[0] for host, batch in work.items()}
        failed = ""
        for host in in_turn(self.connections, firsts):
            if failed:
                said = f"not begun, for its turn comes after {failed}, where it failed"
                yield Ran(failures=[Failure(address=c.address, said=said) for c in work[host]])
            elif self.is_ending():
                yield Ran(left=frozenset(change.address for change in work[host]))
            else:
                ran = self.carry_out(host, work[host])
                yield ran
                failed = host if ran.failures and firsts[host].resource.turn() else ""

    def _write(self, host: str) -> Failure | None:
        script = Script(host=host, pieces=[self.ledger.piece(host)])
        try:
            said = self.connections[host].run(script.text(), timeout_seconds=60)
        except TransportError as error:
            return Failure(address=f"{host}/manifest", said=str(error))
        outcome = script.outcome(said.stdout)
        if outcome.failed is None:
            return None
        return Failure(address=f"{host}/manifest", said=outcome.said)
