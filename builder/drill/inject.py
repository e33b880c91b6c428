"""Carries steps out on hosts and machines, and undoes them whatever happens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from builder.drill.steps import Freeze, PowerOff, Script, Step
from builder.errors import PghaError
from builder.transport.base import Endpoint

_HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNDO_SECONDS = 900  # a server that has been reset takes minutes to come back
Tell = Callable[[str, str], None]


class NotHealedError(PghaError):
    """A fault may still be there."""


class Injector:
    """Does and undoes. `provider` is asked for power only where a step needs it."""

    def __init__(self, endpoints: Mapping[str, Endpoint], provider: Any, tell: Tell) -> None:
        self._endpoints, self._provider, self._tell = endpoints, provider, tell

    @contextmanager
    def injected(self, steps: Sequence[Step]) -> Iterator[None]:
        """The fault lasts as long as the block; Ctrl-C ends the block, never the healing.

        Raises NotHealedError where the block went well and its healing did not.
        """
        begun: list[Step] = []
        try:
            for step in steps:
                begun.append(step)
                self._do(step)
            yield
        finally:
            with undisturbed():
                wrong = [error for step in reversed(begun) if (error := self._undone(step))]
        if wrong:
            raise wrong[0]

    def _undone(self, step: Step) -> NotHealedError | None:
        """Each step is undone, also where another could not be."""
        try:
            self._undo(step)
        except PghaError as error:
            do = f"On {step.host}: sh /run/pgha-drill/undo"
            self._tell(step.host, f"could not be healed: {error.what}. {do}")
            return NotHealedError(
                f"{step.host} could not be healed: {error.what}",
                why="The fault may still be there; the host itself undoes it in time.",
                do=do,
            )
        return None

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
            except PghaError:
                if time.monotonic() > end:
                    raise
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
    """Signals that would interrupt come when the block is over, and never to what it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in _HELD_BACK}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)  # which a child inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in dict.fromkeys(came):
            signal.raise_signal(late)
