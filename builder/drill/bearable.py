"""How much traffic a cluster bears, and whether it lets the drill's clients in at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import replace
from typing import Any

from builder.drill import clients
from builder.drill.ground import Ground
from builder.errors import PghaError


def allowed(provider: Any) -> Callable[[], bool]:
    """May a client still connect? Not to the addresses of a lab that has gone."""
    path = getattr(getattr(provider, "layout", None), "namespace_path", None)
    return path.exists if path else lambda: True


def bearable(ground: Ground, *, reads: bool) -> clients.Traffic:
    """No more than the cluster can bear: an emulated one takes seconds for a connection."""
    from psycopg import Error

    try:
        took = clients.connect_seconds(ground.uris["primary"])
    except Error as error:
        raise unanswered({str(error).split("\n")[0]}) from error
    traffic = ground.traffic if reads else replace(ground.traffic, readers=0, fresh_readers=0)
    return traffic.bearable(took, min(_ssh_seconds(ground) for _ in range(3)))


def _ssh_seconds(ground: Ground) -> float:
    begin = time.monotonic()
    ground.injector.run(next(iter(ground.spec.hosts)), "true", seconds=60)
    return time.monotonic() - begin


def unanswered(said: Set[str], kind: type[PghaError] = PghaError) -> PghaError:
    return kind(
        f"clients of the drill get no answer: {'; '.join(sorted(said))}",
        do="See whether this machine may connect to the cluster: haproxy.clients.",
    )
