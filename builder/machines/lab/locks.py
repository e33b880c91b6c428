"""One at a time: `flock` on a directory, which the kernel gives back however the holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Hold `directory` alone, made if need be; yields the descriptor that holds it.

    The directory may be deleted by whoever held it before us: then we lock the new one instead.
    """
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(directory, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_still(directory: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(directory.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
