"""Carries steps out on hosts and machines, and undoes them whatever happens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from builder.drill.steps import Freeze, PowerOff, Script, Step
from builder.errors import PghaError
from builder.transport.base import Endpoint

UNDO_SECONDS = 60
Tell = Callable[[str, str], None]


class Injector:
    """Does and undoes. `provider` is asked for power only where a step needs it."""

    def __init__(self, endpoints: Mapping[str, Endpoint], provider: Any, tell: Tell) -> None:
        self._endpoints, self._provider, self._tell = endpoints, provider, tell

    @contextmanager
    def injected(self, steps: Sequence[Step]) -> Iterator[None]:
        """The fault lasts as long as the block; Ctrl-C ends the block, never the healing."""
        with ExitStack() as stack:
            try:
                for step in steps:
                    stack.callback(self._undo, step)
                    self._do(step)
                yield
            finally:
                with undisturbed():
                    stack.close()

    def _do(self, step: Step) -> None:
        if isinstance(step, PowerOff):
            self._provider.kill(step.host)
        elif isinstance(step, Freeze):
            self._provider.freeze(step.host)
        else:
            self.run(step.host, step.text(), seconds=step.seconds)

    def _undo(self, step: Step) -> None:
        if isinstance(step, Script) and not step.undo:
            return
        self._tell(step.host, "heals")
        if isinstance(step, PowerOff):
            self._provider.start(step.host)
        elif isinstance(step, Freeze):
            self._provider.thaw(step.host)
        else:
            self._insist(step)

    def _insist(self, step: Script) -> None:
        """A host that just comes back may need a moment to be reached."""
        end = time.monotonic() + UNDO_SECONDS
        while True:
            try:
                return self.run(step.host, step.undo_text(), seconds=max(60, step.seconds))
            except PghaError as error:
                if time.monotonic() > end:
                    raise PghaError(
                        f"{step.host} could not be healed: {error.what}",
                        why="The fault may still be there; the host itself undoes it in time.",
                        do=f"On {step.host}: sh /run/pgha-drill/undo",
                    ) from error
                time.sleep(1)  # before the next attempt

    def run(self, host: str, script: str, *, seconds: float = 30) -> None:
        """PghaError with what the script said where it failed."""
        from builder.transport.ssh import connect

        with connect(self._endpoints[host], timeout_seconds=30) as connection:
            done = connection.run(script, timeout_seconds=seconds)
        if done.status:
            said = (done.stderr or done.stdout).strip()[-500:]
            raise PghaError(f"{host}: the script failed with {done.status}: {said}")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would interrupt wait for nobody here: they are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
