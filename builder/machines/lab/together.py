"""Do the same to several hosts at once, and report every failure, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from builder.errors import MachineError
from builder.machines.lab.host import LabHost


def on_all(hosts: Sequence[LabHost], action: Callable[[LabHost], None]) -> None:
    """`action` on each host, in parallel; one MachineError that holds all that went wrong."""
    if not hosts:
        return
    with ThreadPoolExecutor(max_workers=min(len(hosts), 32)) as pool:
        futures = [pool.submit(action, host) for host in hosts]
    failures: list[MachineError] = []
    for future in futures:
        match future.exception():
            case None:
                pass
            case MachineError() as failure:
                failures.append(failure)
            case unexpected:
                raise unexpected
    _raise_all(failures)


def _raise_all(failures: Sequence[MachineError]) -> None:
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise MachineError("\n".join(map(str, failures)))
