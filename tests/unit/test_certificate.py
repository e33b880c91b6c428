"""A certificate on a host: looked at for real, and renewed exactly when it must be."""

from __future__ import annotations

import grp
import os
import pwd
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builder.engine.diff import difference
from builder.resources.base import Absent, Action, Observed, Present, Unknown
from builder.resources.certificate import Certificate
from builder.security.authority import Authority, CertificateRequest, derived_key, new_authority
from tests.unit.folders import by_hand

USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = CertificateRequest(
    common_name="pg1", dns_names=("pg1",), addresses=("10.77.0.21",), server=True, client=True
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority("CA", NOW)


@pytest.fixture
def wanted(tmp_path: Path, authority: Authority) -> Certificate:
    return Certificate(
        hosts=("pg1",),
        name=str(tmp_path / "server.crt"),
        key_path=str(tmp_path / "server.key"),
        request=REQUEST,
        authority=authority,
        key=derived_key(b"s" * 32, "pg1", "server", 1),
        now=NOW,
        owner=USER,
        group=GROUP,
    )


def look(wanted: Certificate) -> Observed:
    probe = f"export LC_ALL=C\n{Certificate.probe([wanted])}\n"
    said = subprocess.run(["sh", "-s"], input=probe, capture_output=True, text=True, check=False)
    return Certificate.parse([wanted], said.stdout)[wanted.name]


def make(wanted: Certificate) -> None:
    """Its own steps, by hand."""
    by_hand(difference(wanted, Absent(), None).steps())


def differences(wanted: Certificate) -> list[str]:
    change = difference(wanted, look(wanted), None)
    assert change.action in {Action.NONE, Action.UPDATE}
    return [item.name for item in change.attributes]


def test_where_neither_file_is_there_it_is_absent(wanted: Certificate) -> None:
    assert look(wanted) == Absent()


def test_what_its_steps_made_is_as_wanted(wanted: Certificate) -> None:
    make(wanted)
    assert differences(wanted) == []
    assert oct(Path(wanted.key_path).stat().st_mode & 0o777) == "0o600"


def test_another_apply_with_another_clock_changes_nothing(wanted: Certificate) -> None:
    make(wanted)
    assert differences(replace(wanted, now=NOW + timedelta(days=30))) == []


@pytest.mark.parametrize(
    ("days", "renewed"), [(0, False), (263, False), (266, True), (396, True), (500, True)]
)
def test_it_is_renewed_when_less_than_a_third_is_left(
    days: int, renewed: bool, wanted: Certificate
) -> None:
    """397 days and one before: a third of 398 is 132 days and 16 hours."""
    make(wanted)
    assert (differences(replace(wanted, now=NOW + timedelta(days=days))) == ["life"]) is renewed


def test_a_renewed_one_keeps_its_key(wanted: Certificate) -> None:
    make(wanted)
    before = Path(wanted.key_path).read_bytes(), Path(wanted.name).read_bytes()
    later = replace(wanted, now=NOW + timedelta(days=300))
    make(later)
    after = Path(wanted.key_path).read_bytes(), Path(wanted.name).read_bytes()
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    assert differences(later) == []


def test_wherever_it_is_killed_the_pair_on_the_disk_matches(
    wanted: Certificate, tmp_path: Path
) -> None:
    """Patroni that is told to reload with a pair that does not match loses its REST API."""
    assert wanted.authority
    make(wanted)
    other = replace(wanted, key=derived_key(b"t" * 32, "pg1", "server", 1))
    steps = difference(other, look(other), None).steps()
    for step in steps:
        by_hand([step])
        ssl.create_default_context().load_cert_chain(wanted.name, wanted.key_path)
    assert differences(other) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.crt", "server.key"]
    by_hand(steps[:-2])
    by_hand(steps)  # what a killed run has left is no obstacle
    assert differences(other) == []


def test_a_certificate_and_its_key_are_in_one_folder(wanted: Certificate) -> None:
    with pytest.raises(ValueError, match="not in the same folder"):
        difference(replace(wanted, key_path="/elsewhere/server.key"), Absent(), None).steps()


Harm = Callable[[Certificate, Path, Path], object]


def other_key(wanted: Certificate, certificate: Path, key: Path) -> None:
    """Killed between the key and the certificate, or both replaced by somebody's."""
    another = derived_key(b"t" * 32, "pg1", "server", 1)
    assert wanted.authority
    certificate.write_bytes(wanted.authority.issue(REQUEST, another, NOW))


def other_authority(wanted: Certificate, certificate: Path, key: Path) -> None:
    certificate.write_bytes(new_authority("CA", NOW).issue(REQUEST, wanted.key, NOW))


def other_names(wanted: Certificate, certificate: Path, key: Path) -> None:
    assert wanted.authority
    named = replace(REQUEST, addresses=("10.77.0.99",))
    certificate.write_bytes(wanted.authority.issue(named, wanted.key, NOW))


def readable_key(wanted: Certificate, certificate: Path, key: Path) -> None:
    key.chmod(0o644)


def another_key(wanted: Certificate, certificate: Path, key: Path) -> None:
    key.write_text("x")


def no_key(wanted: Certificate, certificate: Path, key: Path) -> None:
    key.unlink()


def no_certificate(wanted: Certificate, certificate: Path, key: Path) -> None:
    certificate.unlink()


def empty_certificate(wanted: Certificate, certificate: Path, key: Path) -> None:
    certificate.write_text("")


def half_a_certificate(wanted: Certificate, certificate: Path, key: Path) -> None:
    certificate.write_bytes(certificate.read_bytes()[:200])


EVERYTHING_IT_SAYS = {"subject", "names", "usage", "issuer", "life"}
HARMS: dict[Harm, set[str]] = {
    readable_key: {"key_mode"},
    another_key: {"key"},
    no_key: {"key", "key_mode"},
    no_certificate: EVERYTHING_IT_SAYS,
    empty_certificate: EVERYTHING_IT_SAYS,
    half_a_certificate: EVERYTHING_IT_SAYS,
    other_key: {"issuer"},
    other_authority: {"issuer"},
    other_names: {"names"},
}


@pytest.mark.parametrize("harm", HARMS)
def test_it_is_made_anew_after(harm: Harm, wanted: Certificate) -> None:
    make(wanted)
    harm(wanted, Path(wanted.name), Path(wanted.key_path))
    assert set(differences(wanted)) == HARMS[harm]
    make(wanted)
    assert differences(wanted) == []


def test_two_on_one_host_are_not_mixed_up(wanted: Certificate, tmp_path: Path) -> None:
    other = replace(
        wanted,
        name=str(tmp_path / "client.crt"),
        key_path=str(tmp_path / "client.key"),
        request=CertificateRequest(common_name=None, dns_names=("pg1",), client=True),
        key=derived_key(b"s" * 32, "pg1", "client", 1),
    )
    make(wanted)
    make(other)
    probe = f"export LC_ALL=C\n{Certificate.probe([wanted, other])}\n"
    said = subprocess.run(["sh", "-s"], input=probe, capture_output=True, text=True, check=False)
    seen = Certificate.parse([wanted, other], said.stdout)
    for item in (wanted, other):
        assert difference(item, seen[item.name], None).action is Action.NONE


def test_what_cannot_be_looked_at_is_unknown(wanted: Certificate) -> None:
    denied = "\n".join(
        f"stat: cannot statx '{path}': Permission denied" for path in (wanted.name, wanted.key_path)
    )
    assert isinstance(Certificate.parse([wanted], denied)[wanted.name], Unknown)


def test_one_that_has_left_the_spec_can_be_looked_at_and_removed(wanted: Certificate) -> None:
    make(wanted)
    revived = Certificate.revive(wanted.hosts, wanted.name, dict(wanted.recall()))
    assert isinstance(look(revived), Present)
    (step,) = revived.removal()
    assert {wanted.name, wanted.key_path} <= set(step.argv)  # type: ignore[union-attr]
