"""Renewing what a secrets file holds, in phases that a running cluster survives. Pure.

A new authority comes in three phases, each of which is applied to all hosts before the next:

    announced   the new one is trusted beside the old one, and signs nothing yet
    switched    the new one signs everything; the old one is still trusted
    settled     the old one is gone

At no moment does a host show a certificate that another does not trust, so phases may be applied
host by host, and a rotation may be left in any phase for as long as one likes. The phase is in the
file itself: whoever was interrupted goes on from it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

from builder.security.authority import Authority
from builder.security.content import Content, new_password

ALL_LEAVES = "*"  # a generation that holds for every purpose without one of its own


class Phase(enum.StrEnum):
    """How far a rotation of the authorities has come."""

    SETTLED = "settled"
    ANNOUNCED = "announced"
    SWITCHED = "switched"


def phase(content: Content) -> Phase:
    records = content["authorities"].values()
    if any("coming" in record for record in records):
        return Phase.ANNOUNCED
    if any("retired" in record for record in records):
        return Phase.SWITCHED
    return Phase.SETTLED


def announced(content: Content, make: Callable[[str], Authority]) -> Content:
    """Every authority has a successor, which `make` makes from its name."""
    return _authorities(content, lambda name, record: {**record, "coming": as_record(make(name))})


def switched(content: Content) -> Content:
    """The successors sign; the old certificates stay trusted, their keys are gone."""
    return _authorities(content, _switched)


def _switched(_: str, record: dict[str, Any]) -> dict[str, Any]:
    if "coming" not in record:
        return record
    return {**record["coming"], "retired": record["certificate"]}


def settled(content: Content) -> Content:
    """The old authorities are trusted no more."""
    return _authorities(
        content, lambda _, record: {key: record[key] for key in record if key != "retired"}
    )


def with_new_leaves(content: Content) -> Content:
    """Every leaf key is another one, and so is its certificate."""
    old = content["generations"]
    bumped = {purpose: number + 1 for purpose, number in old.items()}
    return {**content, "generations": {**bumped, ALL_LEAVES: old.get(ALL_LEAVES, 1) + 1}}


def with_new_passwords(content: Content, names: Iterable[str]) -> Content:
    renewed = {name: new_password() for name in names}
    return {**content, "passwords": {**content["passwords"], **renewed}}


def as_record(authority: Authority) -> dict[str, str]:
    return {
        "certificate": authority.certificate_pem.decode(),
        "key": authority.key_pem.reveal(),
    }


def trusted_beside(record: dict[str, Any]) -> tuple[bytes, ...]:
    """The certificates that count beside an authority's own."""
    coming = record.get("coming", {}).get("certificate")
    return tuple(pem.encode() for pem in (coming, record.get("retired")) if pem)


def _authorities(
    content: Content, change: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> Content:
    changed = {name: change(name, record) for name, record in content["authorities"].items()}
    return {**content, "authorities": changed}
