"""A hook by which tests end the program at an exact point; it does nothing unless asked to.

`PGHA_FAULT=N` in the environment kills this process, as the kernel would, after its N-th script.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable

VARIABLE = "PGHA_FAULT"


def after_script() -> Callable[[str], None]:
    """What to call after each script on a host."""
    limit = os.environ.get(VARIABLE)
    if limit is None:
        return lambda _: None
    counter = itertools.count(1)

    def count(_: str) -> None:
        if next(counter) == int(limit):
            os.kill(os.getpid(), signal.SIGKILL)

    return count
