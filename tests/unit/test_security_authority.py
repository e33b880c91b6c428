"""Certificates, judged by the `openssl` binary: chain, purpose, names, times."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from builder.security.authority import (
    Authority,
    CertificateRequest,
    derived_key,
    new_authority,
)
from builder.security.secret import Secret

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEED = b"s" * 32
SERVER = CertificateRequest(
    common_name="pg1",
    dns_names=("pg1", "localhost"),
    addresses=("10.77.0.21", "127.0.0.1"),
    server=True,
)
CLIENT = CertificateRequest(common_name=None, dns_names=("pg1",), client=True)
KEY = derived_key(SEED, "pg1", "server", 1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority("orders cluster CA", NOW)


def openssl(*words: str, stdin: bytes = b"") -> tuple[int, str]:
    said = subprocess.run(["openssl", *words], input=stdin, capture_output=True, check=False)
    return said.returncode, (said.stdout + said.stderr).decode()


class Files:
    def __init__(self, folder: Path, authority: Authority, request: CertificateRequest) -> None:
        self.ca, self.leaf, self.key = (
            folder / name for name in ("ca.crt", "leaf.crt", "leaf.key")
        )
        self.ca.write_bytes(authority.certificate_pem)
        self.leaf.write_bytes(authority.issue(request, KEY, NOW))
        self.key.write_text(KEY.reveal())

    def verify(self, *options: str, at: datetime = NOW) -> bool:
        when = ("-attime", str(int(at.timestamp())))
        status, _ = openssl(
            "verify", "-x509_strict", "-CAfile", str(self.ca), *when, *options, str(self.leaf)
        )
        return status == 0


@pytest.mark.parametrize(
    ("options", "good"),
    [
        (("-purpose", "sslserver"), True),
        (("-purpose", "sslclient"), False),
        (("-purpose", "sslserver", "-verify_hostname", "pg1"), True),
        (("-purpose", "sslserver", "-verify_hostname", "localhost"), True),
        (("-purpose", "sslserver", "-verify_hostname", "pg2"), False),
        (("-purpose", "sslserver", "-verify_ip", "10.77.0.21"), True),
        (("-purpose", "sslserver", "-verify_ip", "127.0.0.1"), True),
        (("-purpose", "sslserver", "-verify_ip", "10.77.0.22"), False),
    ],
)
def test_a_server_is_one_and_goes_by_its_own_names(
    options: tuple[str, ...], good: bool, tmp_path: Path, authority: Authority
) -> None:
    assert Files(tmp_path, authority, SERVER).verify(*options) is good


def test_a_client_without_a_name_is_a_client_and_no_server(
    tmp_path: Path, authority: Authority
) -> None:
    files = Files(tmp_path, authority, CLIENT)
    assert files.verify("-purpose", "sslclient")
    assert not files.verify("-purpose", "sslserver")
    _, text = openssl(
        "x509", "-in", str(files.leaf), "-noout", "-subject", "-ext", "subjectAltName"
    )
    assert text.splitlines()[0].replace(" ", "") == "subject="
    assert "critical" in text  # RFC 5280, 4.2.1.6: where the subject is empty


def test_what_another_authority_signed_is_refused(tmp_path: Path, authority: Authority) -> None:
    files = Files(tmp_path, authority, SERVER)
    other = new_authority("orders cluster CA", NOW)  # of the same name
    files.ca.write_bytes(other.certificate_pem)
    assert not files.verify()


@pytest.mark.parametrize(
    ("days", "good"), [(-2, False), (-0.5, True), (0, True), (396, True), (398, False)]
)
def test_a_certificate_holds_for_its_time_and_a_day_before_for_clocks_that_differ(
    days: float, good: bool, tmp_path: Path, authority: Authority
) -> None:
    files = Files(tmp_path, authority, SERVER)
    # The authority itself begins a day before too; its end is far away.
    assert files.verify(at=NOW + timedelta(days=days)) is good


def test_a_certificate_and_its_key_belong_together(tmp_path: Path, authority: Authority) -> None:
    files = Files(tmp_path, authority, SERVER)
    _, one = openssl("x509", "-in", str(files.leaf), "-noout", "-pubkey")
    _, other = openssl("pkey", "-in", str(files.key), "-pubout")
    assert one == other
    assert "BEGIN PUBLIC KEY" in one


def test_a_leaf_signs_nothing(tmp_path: Path, authority: Authority) -> None:
    files = Files(tmp_path, authority, SERVER)
    leaf = Authority(certificate_pem=files.leaf.read_bytes(), key_pem=KEY)
    below = leaf.issue(CLIENT, derived_key(SEED, "x", "y", 1), NOW)
    (tmp_path / "below.crt").write_bytes(below)
    status, _ = openssl(
        "verify", "-CAfile", str(files.ca), "-untrusted", str(files.leaf),
        "-attime", str(int(NOW.timestamp())), str(tmp_path / "below.crt"),
    )  # fmt: skip
    assert status != 0


def test_an_authority_signs_leaves_and_no_authority(authority: Authority) -> None:
    _, text = openssl("x509", "-noout", "-text", stdin=authority.certificate_pem)
    assert "CA:TRUE, pathlen:0" in text
    assert "Certificate Sign, CRL Sign" in text
    assert "Digital Signature" not in text


def test_the_fingerprint_is_what_openssl_says(authority: Authority) -> None:
    _, text = openssl("x509", "-noout", "-fingerprint", "-sha256", stdin=authority.certificate_pem)
    assert text.strip().partition("=")[2].replace(":", "").lower() == authority.fingerprint


# ── derived keys ────────────────────────────────────────────────────────────────────────────────
def test_a_derived_key_follows_from_its_seed_alone() -> None:
    assert derived_key(SEED, "pg1", "server", 1) == KEY
    status, text = openssl("pkey", "-check", "-noout", "-text", stdin=KEY.reveal().encode())
    assert status == 0
    assert "P-256" in text or "prime256v1" in text


def test_derived_keys_of_a_release_stay_as_they_are() -> None:
    """Another derivation would make every host's key another one: that needs a generation."""
    assert _public(KEY) == ("ba2c513467ef938e6501d315aea379ed")


def _public(key: Secret) -> str:
    from hashlib import sha256

    _, text = openssl("pkey", "-pubout", stdin=key.reveal().encode())
    return sha256(text.encode()).hexdigest()[:32]


def test_each_host_purpose_and_generation_has_a_key_of_its_own() -> None:
    seeds, hosts, purposes = (
        (SEED, b"t" * 32),
        ("pg1", "pg2", "pg"),
        ("server", "1|server", "client"),
    )
    keys = [derived_key(*case) for case in product(seeds, hosts, purposes, (1, 2))]
    assert len({key.reveal() for key in keys}) == len(keys)
