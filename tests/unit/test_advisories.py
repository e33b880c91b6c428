"""Versions with a known serious flaw are named, others are not."""

from __future__ import annotations

import pytest

from builder import advisories


@pytest.mark.parametrize(
    ("name", "version", "count"),
    [
        ("postgresql-17", "17.2-1+deb13u1", 5),
        ("postgresql-17", "17.5-1.pgdg13+1", 4),
        ("postgresql-17", "17.6-0+deb13u1", 3),
        ("postgresql-17", "17.12-0+deb13u1", 0),
        ("postgresql-18", "18.0-1", 3),
        ("postgresql-15", "15.19-0+deb12u1", 0),
        ("postgresql-19", "19.0-1", 0),
        ("etcd-server", "3.4.19-1", 0),
        ("etcd-server", "3.4.21-1", 1),
        ("etcd-server", "3.4.23-4+deb12u1", 0),
        ("etcd-server", "3.5.2-1", 1),
        ("etcd-server", "3.5.16-4", 0),
        ("haproxy", "1.0", 0),
        ("postgresql-17", "(none)", 0),
    ],
)
def test_a_package_is_judged_by_the_version_it_packs(name: str, version: str, count: int) -> None:
    assert len(advisories.package(name, version)) == count


def test_what_is_said_names_the_flaw_and_its_cure() -> None:
    said = advisories.postgresql("17.5")[-1]
    assert said == (
        "PostgreSQL 17.5 has CVE-2025-8714, -8715: restoring a dump can run foreign code; "
        "fixed in 17.6"
    )
    assert advisories.postgresql(None) == advisories.etcd("") == []
