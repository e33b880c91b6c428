"""Carries steps out on hosts and machines, and undoes them whatever happens."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from builder.drill.steps import LEFTOVER, STATE, Freeze, PowerOff, Script, Step
from builder.errors import PghaError
from builder.transport.base import Connection, Endpoint

_HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ASKING_SECONDS = 60
UNDO_SECONDS = 900  # a server that has been reset takes minutes to come back
Tell = Callable[[str, str], None]
# Why it matters, and what a person can do, where a step could not be undone.
_BY_HAND: Mapping[type[Step], tuple[str, str]] = {
    Script: (
        "The fault may still be there; the host itself tries to undo it, too, after a while.",
        f"On {{host}}: sh {STATE}/undo",
    ),
    PowerOff: ("The host may still be off.", "pgha-build machines start {host}"),
    Freeze: ("The host may still hang.", "pgha-build lab thaw {host}, or vagrant resume {host}"),
}


class NotHealedError(PghaError):
    """A fault may still be there."""


class NotInjectedError(PghaError):
    """A fault could not be done here; what had been done of it is undone."""


class Injector:
    """Does and undoes. `provider` is asked for power only where a step needs it."""

    def __init__(self, endpoints: Mapping[str, Endpoint], provider: Any, tell: Tell) -> None:
        self._endpoints, self._provider, self._tell = endpoints, provider, tell

    @contextmanager
    def injected(self, steps: Sequence[Step]) -> Iterator[None]:
        """The fault lasts as long as the block; Ctrl-C ends the block, never the healing.

        Raises NotHealedError where the block went well and its healing did not; what ended the
        block else has a note of that. NotInjectedError where a step cannot be done.
        """
        begun: list[Step] = []
        try:
            try:
                for step in steps:
                    begun.append(step)
                    self._do(step)
            except PghaError as error:
                raise NotInjectedError(error.what, why=error.why, do=error.do) from error
            yield
        except BaseException as error:
            if wrong := self._heal(begun):
                error.add_note(f"{wrong.what}. {wrong.do}")
            raise
        if wrong := self._heal(begun):
            raise wrong

    def _heal(self, begun: Sequence[Step]) -> NotHealedError | None:
        wrong: list[NotHealedError] = []
        try:
            with undisturbed():
                wrong += (error for step in reversed(begun) if (error := self._undone(step)))
        except KeyboardInterrupt as stop:  # it came while the healing went on
            for error in wrong:
                stop.add_note(f"{error.what}. {error.do}")
            raise
        if not wrong:
            return None
        what, do = ("; ".join(getattr(error, name) for error in wrong) for name in ("what", "do"))
        return NotHealedError(what, why=wrong[0].why, do=do)

    def _undone(self, step: Step) -> NotHealedError | None:
        """Each step is undone, also where another could not be, for whatever reason."""
        try:
            self._undo(step)
        except Exception as error:  # a mistake of ours, too, must not keep the others from it
            what = error.what if isinstance(error, PghaError) else repr(error)
            why, do = (words.format(host=step.host) for words in _BY_HAND[type(step)])
            self._say(step.host, f"could not be healed: {what}")
            self._say(step.host, do)
            return NotHealedError(f"{step.host} could not be healed: {what}", why=why, do=do)
        return None

    def _say(self, host: str, what: str) -> None:
        """Whoever listened may have gone, with the terminal or at the same Ctrl-C."""
        with suppress(OSError):
            self._tell(host, what)

    def _do(self, step: Step) -> None:
        if isinstance(step, PowerOff):
            self._provider.kill(step.host)
        elif isinstance(step, Freeze):
            self._provider.freeze(step.host)
        else:
            self.run(step.host, step.text(), seconds=step.seconds)

    def _undo(self, step: Step) -> None:
        """What comes back may need a while to be reached, and a machine more than one attempt."""
        if isinstance(step, Script) and not step.undo:
            return
        self._say(step.host, "heals")
        end = time.monotonic() + UNDO_SECONDS
        while True:
            try:
                self._undo_once(step)
            except PghaError:
                if time.monotonic() > end:
                    raise
                time.sleep(1)  # before the next attempt
            else:
                return

    def _undo_once(self, step: Step) -> None:
        if isinstance(step, PowerOff):
            self._provider.start(step.host)
        elif isinstance(step, Freeze):
            self._provider.thaw(step.host)
        else:
            self.run(step.host, step.undo_text(), seconds=max(60, step.seconds))

    def faded(self, steps: Sequence[Step]) -> tuple[str, ...] | None:
        """Hosts where a step's harm has ended by itself; None where no step can tell."""
        telling = [step for step in steps if isinstance(step, Script) and step.still]
        return tuple(step.host for step in telling if not self._holds(step)) if telling else None

    def _holds(self, step: Script) -> bool:
        """A host that cannot be asked at once is asked again; PghaError where it never answers."""
        end = time.monotonic() + _ASKING_SECONDS
        while True:
            try:
                return self.run(step.host, f"if {step.still}; then echo yes; fi") == "yes\n"
            except PghaError:
                if time.monotonic() > end:
                    raise
                time.sleep(1)  # before the next attempt

    def run(self, host: str, script: str, *, seconds: float = 30) -> str:
        """What it printed. PghaError with what the script said where it failed."""
        from builder.transport.ssh import connect

        with connect(self._endpoints[host], timeout_seconds=30) as connection:
            done = connection.run(script, timeout_seconds=seconds)
        if done.status:
            said = (done.stderr or done.stdout).strip()[-500:]
            raise PghaError(f"{host}: the script failed with {done.status}: {said}")
        return done.stdout


def heal_leftovers(connections: Mapping[str, Connection], tell: Tell) -> bool:
    """What a drill that was killed has left would be a second fault, and end by itself midway.

    Whether there was anything. PghaError where it cannot be healed. Only under the lock: else it
    may be another's that runs.
    """

    def heal(pair: tuple[str, Connection]) -> bool:
        host, connection = pair
        done = connection.run(LEFTOVER, timeout_seconds=120)
        if done.status:
            said = (done.stderr or done.stdout).strip()[-500:]
            why, do = (words.format(host=host) for words in _BY_HAND[Script])
            raise NotHealedError(
                f"{host} has a fault of an earlier drill, which could not be healed: {said}",
                why=why,
                do=do,
            )
        if done.stdout:
            tell(host, "healed what an earlier drill had left")
        return bool(done.stdout)

    with ThreadPoolExecutor(max_workers=max(1, len(connections))) as pool:
        return any(list(pool.map(heal, connections.items())))


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
