"""Versions with a serious flaw that is known, and the first ones without it. Pure.

As of September 2026; whoever updates hosts (`pgha-build ops update`) needs no newer list.
Only programs whose Debian packages carry the version of the fix are listed: PostgreSQL, whose minor
releases Debian ships as they are, and etcd, whose flaws lose data. Sources: PostgreSQL's security
page (rated 8.8 and more); etcd issues 13514 and 13766 and its production recommendation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Advisory:
    """`fixed` maps a branch (17, 3.5) to its first version without the flaw; others never had it.

    `since` is the first version with it, where that is not the branch's first.
    """

    name: str
    what: str
    fixed: Mapping[str, str]
    since: Mapping[str, str] | None = None


_POSTGRESQL = (
    Advisory(
        name="CVE-2026-18408",
        what="restoring a dump can run a foreign superuser's code",
        fixed={"18": "18.6", "17": "17.11", "16": "16.15", "15": "15.19", "14": "14.24"},
    ),
    Advisory(
        name="CVE-2026-6473, -6475, -6477, -6637",
        what="any user can corrupt the server's memory",
        fixed={"18": "18.4", "17": "17.10", "16": "16.14", "15": "15.18", "14": "14.23"},
    ),
    Advisory(
        name="CVE-2026-2004, -2005, -2006",
        what="a user can run code as the server",
        fixed={"18": "18.2", "17": "17.8", "16": "16.12", "15": "15.16", "14": "14.21"},
    ),
    Advisory(
        name="CVE-2025-8714, -8715",
        what="restoring a dump can run foreign code",
        fixed={"17": "17.6", "16": "16.10", "15": "15.14", "14": "14.19"},
    ),
    Advisory(
        name="CVE-2025-1094",
        what="libpq's quoting lets SQL through",
        fixed={"17": "17.3", "16": "16.7", "15": "15.11", "14": "14.16"},
    ),
)
_ETCD = (
    Advisory(
        name="etcd 13766",
        what="members can come to hold different data",
        fixed={"3.5": "3.5.6", "3.4": "3.4.22"},
        since={"3.4": "3.4.20"},
    ),
)


def postgresql(version: str | None) -> list[str]:
    """Sentences about a version such as 17.5, for a person; none where nothing is known."""
    return _said("PostgreSQL", version, _POSTGRESQL, digits=1)


def etcd(version: str | None) -> list[str]:
    return _said("etcd", version, _ETCD, digits=2)


def package(name: str, version: str) -> list[str]:
    """The same of a Debian package: postgresql-17, 17.5-1.pgdg13+1."""
    if re.fullmatch(r"postgresql-\d+", name):
        return postgresql(version)
    return etcd(version) if name == "etcd-server" else []


def _said(
    program: str, version: str | None, advisories: tuple[Advisory, ...], *, digits: int
) -> list[str]:
    plain = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", version or "")
    if not plain:
        return []
    number = plain[1]
    branch = ".".join(number.split(".")[:digits])
    return [
        f"{program} {number} has {advisory.name}: {advisory.what}; fixed in {fixed}"
        for advisory in advisories
        if (fixed := advisory.fixed.get(branch))
        and _key((advisory.since or {}).get(branch, "0")) <= _key(number) < _key(fixed)
    ]


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
