"""How long certificates still hold, for `status` and `plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from builder.resources.base import Observed, Present
from builder.resources.certificate import DAYS_LEFT

_ALARM_DAYS = 30  # a renewal is in every plan from 132 days on
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
    found = _in_order(left)
    if not found:
        return ""
    days, where = found[0]
    if days < 0:
        return f"{len(found)}; the first to end has ended: {where}"
    return f"{len(found)}; the first to end has {days} days left: {where}"


def alarm(left: DaysLeft) -> Iterator[str]:
    """What is wrong, for a person, where `apply` has been forgotten for months."""
    found = _in_order(left)
    ended = [where for days, where in found if days < 0]
    if ended:
        many = f"{len(ended)} of {len(found)}"
        yield f"certificates: {many} ended, {ended[0]} first; apply renews them"
    soon = [(days, where) for days, where in found if 0 <= days < _ALARM_DAYS]
    if soon:
        days, where = soon[0]
        many = f"{len(soon)} of {len(found)}"
        yield f"certificates: {many} about to end, {where} in {days} days; apply renews them"


def _in_order(left: DaysLeft) -> list[tuple[int, str]]:
    return sorted(
        (days, f"{path} on {host}") for host, paths in left.items() for path, days in paths.items()
    )
