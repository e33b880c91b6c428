"""How long certificates still hold, for `status` and `plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from builder.resources.base import Observed, Present
from builder.resources.certificate import DAYS_LEFT

DaysLeft = Mapping[str, Mapping[str, int]]  # by host, by path


def days_left(observed: Iterable[tuple[str, str, Observed]]) -> DaysLeft:
    """Of (host, path, what is there); what is no certificate is passed over."""
    found: dict[str, dict[str, int]] = {}
    for host, path, said in observed:
        if isinstance(said, Present) and DAYS_LEFT in said.attributes:
            found.setdefault(host, {})[path] = said.attributes[DAYS_LEFT]
    return found


def first_to_end(left: DaysLeft) -> str:
    """The certificate that ends first, in words; "" where there is none."""
    found = [(days, host, path) for host, paths in left.items() for path, days in paths.items()]
    if not found:
        return ""
    days, host, path = min(found)
    return f"{len(found)}; the first to end has {days} days left: {path} on {host}"
