"""Certificates at the edges: strange requests, strange files, and what the probe may not bring."""

from __future__ import annotations

import grp
import logging
import os
import pickle
import pwd
import random
import subprocess
from base64 import b64decode, b64encode
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.engine.diff import difference
from builder.resources.base import Absent, Observed, Present
from builder.resources.certificate import Certificate
from builder.resources.steps import Run
from builder.security.authority import Authority, CertificateRequest, derived_key, new_authority
from builder.security.reading import life_of, parsed, request_of
from builder.security.secret import Secret
from builder.security.store import open_store
from tests.unit.folders import by_hand

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = derived_key(b"s" * 32, "pg1", "server", 1)
AUTHORITY = new_authority("orders cluster CA", NOW)
REQUEST = CertificateRequest(common_name="pg1", dns_names=("pg1",), server=True)


@pytest.fixture
def wanted(tmp_path: Path) -> Certificate:
    return Certificate(
        hosts=("pg1",),
        name=str(tmp_path / "server.crt"),
        key_path=str(tmp_path / "server.key"),
        request=REQUEST,
        authority=AUTHORITY,
        key=KEY,
        now=NOW,
        owner=pwd.getpwuid(os.geteuid()).pw_name,
        group=grp.getgrgid(os.getegid()).gr_name,
    )


def make(wanted: Certificate) -> None:
    by_hand(difference(wanted, Absent(), None).steps())


def probed(*wanted: Certificate) -> str:
    text = f"export LC_ALL=C\n{Certificate.probe(wanted)}\n"
    said = subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, check=False)
    return said.stdout


def look(wanted: Certificate) -> Observed:
    return Certificate.parse([wanted], probed(wanted))[wanted.name]


def before(wanted: Certificate) -> dict[str, object]:
    return {item.name: item.before for item in difference(wanted, look(wanted), None).attributes}


# ── what is on the host ─────────────────────────────────────────────────────────────────────────
def test_a_private_key_in_the_certificates_file_stays_on_its_host(wanted: Certificate) -> None:
    make(wanted)
    file = Path(wanted.name)
    file.write_text(f"{KEY.reveal()}{file.read_text()}{KEY.reveal()}")
    output = probed(wanted)
    assert not [line for line in KEY.reveal().splitlines()[1:-1] if line in output]
    assert before(wanted) == {}


def test_no_file_can_speak_for_another(wanted: Certificate, tmp_path: Path) -> None:
    """A file that holds what the probe prints about others."""
    other = replace(wanted, name=str(tmp_path / "other.crt"), key_path=str(tmp_path / "other.key"))
    make(wanted)
    make(other)
    lies = "".join(
        f"{mark}{other.name}\n{mark}-----BEGIN CERTIFICATE-----\n{mark}AAAA\n"
        for mark in ("", "=", "==", "certificate ")
    )
    begin, end = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
    Path(wanted.name).write_text(f"{begin}{lies}{end}{lies}{begin}{lies}")
    seen = Certificate.parse([wanted, other], probed(wanted, other))
    assert difference(other, seen[other.name], None).attributes == ()
    assert difference(wanted, seen[wanted.name], None).attributes != ()


@pytest.mark.parametrize("count", [1, 40])
def test_looking_takes_three_processes_however_many_there_are(
    count: int, wanted: Certificate
) -> None:
    probe = Certificate.probe(
        [replace(wanted, name=f"/t/{n}.crt", key_path=f"/t/{n}.key") for n in range(count)]
    )
    commands = [line for line in probe.splitlines() if line]
    assert [line.split()[0] for line in commands] == ["stat", "sha256sum", "sed"]


def test_a_preamble_and_a_chain_do_not_matter(wanted: Certificate) -> None:
    make(wanted)
    file = Path(wanted.name)
    file.write_text(f"Certificate:\n    Data:\n{file.read_text()}\n" + "x" * 100_000)
    with file.open("ab") as stream:
        stream.write(AUTHORITY.certificate_pem)
    assert before(wanted) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a certificate"),
        (b"\x00\xff" * 1000, "not a certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
        (b"-----BEGIN CERTIFICATE-----\n", "not a certificate"),
        (AUTHORITY.certificate_pem, "at least a third left"),
    ],
)
def test_a_file_that_is_something_else_says_so(
    content: bytes, said: str, wanted: Certificate
) -> None:
    make(wanted)
    Path(wanted.name).write_bytes(content)
    seen = look(wanted)
    assert isinstance(seen, Present)
    assert seen.attributes["life"] == said
    assert before(wanted)


def test_a_link_or_a_folder_is_no_certificate(wanted: Certificate, tmp_path: Path) -> None:
    make(wanted)
    Path(wanted.name).rename(tmp_path / "elsewhere")
    Path(wanted.name).symlink_to(tmp_path / "elsewhere")
    Path(wanted.key_path).unlink()
    Path(wanted.key_path).mkdir()
    said = before(wanted)
    assert (said["life"], said["key"]) == ("symbolic link", "directory")


@pytest.mark.parametrize("which", ["name", "key_path"])
def test_modes_alone_are_put_right_without_a_new_certificate(
    which: str, wanted: Certificate
) -> None:
    make(wanted)
    Path(getattr(wanted, which)).chmod(0o666)
    change = difference(wanted, look(wanted), None)
    assert [item.name for item in change.attributes] == ["key_mode"]
    assert "0666" in str(change.attributes[0].before)
    for step in change.steps():
        assert isinstance(step, Run)
        if os.geteuid() == 0 or step.argv[0] == "chmod":
            subprocess.run(step.argv, check=True)
    assert before(wanted) == {}


@pytest.mark.parametrize(
    ("days", "said"),
    [(-2, "begins on 2025-12-31"), (300, "ends on 2027-02-02"), (400, "ended on 2027-02-02")],
)
def test_a_life_is_said_with_a_date(days: int, said: str) -> None:
    certificate = parsed(AUTHORITY.issue(REQUEST, KEY, NOW).decode())
    assert life_of(certificate, NOW + timedelta(days=days)) == said


def test_the_last_year_of_an_authority_is_noted(wanted: Certificate) -> None:
    make(wanted)
    seen = look(wanted)
    assert isinstance(seen, Present)
    assert seen.note == ""
    late = replace(wanted, now=NOW + timedelta(days=3300))
    noted = look(late)
    assert isinstance(noted, Present)
    assert "orders cluster CA ends on 2035-12-30" in noted.note


# ── requests ────────────────────────────────────────────────────────────────────────────────────
Label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
Requests = st.builds(
    CertificateRequest,
    common_name=st.none() | Label,
    dns_names=st.lists(Label, unique=True, max_size=4).map(tuple),
    addresses=st.lists(st.ip_addresses().map(str), unique=True, max_size=4).map(tuple),
    server=st.booleans(),
    client=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(Requests)
def test_what_was_asked_for_is_what_is_read_or_it_is_refused(request: CertificateRequest) -> None:
    named = request.common_name or request.dns_names or request.addresses
    if not named or not (request.server or request.client):
        with pytest.raises(ValueError, match="a certificate"):
            AUTHORITY.issue(request, KEY, NOW)
        return
    said = request_of(parsed(AUTHORITY.issue(request, KEY, NOW).decode()))
    assert replace(said, addresses=()) == replace(request, addresses=())
    assert [ip_address(a) for a in said.addresses] == [ip_address(a) for a in request.addresses]


def test_an_address_written_in_full_is_no_difference_for_ever(wanted: Certificate) -> None:
    long = replace(REQUEST, addresses=("fd00:0000::0001",))
    six = replace(wanted, request=long)
    make(six)
    assert before(six) == {}


def test_a_certificate_without_alternative_names_is_read_too(wanted: Certificate) -> None:
    bare = replace(wanted, request=CertificateRequest(common_name="pg1", client=True))
    make(bare)
    assert before(bare) == {}


def test_a_leaf_does_not_outlive_its_authority() -> None:
    late = NOW + timedelta(days=3500)
    leaf = parsed(AUTHORITY.issue(REQUEST, KEY, late).decode())
    assert leaf.not_valid_after_utc == AUTHORITY.certificate.not_valid_after_utc


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes_are_an_error_of_one_kind(seed: int) -> None:
    pem = AUTHORITY.issue(REQUEST, KEY, NOW).decode()
    chance = random.Random(seed)  # noqa: S311
    raw = bytearray(b64decode("".join(pem.splitlines()[1:-1])))
    for _ in range(chance.randint(1, 4)):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    text = f"-----BEGIN CERTIFICATE-----\n{b64encode(raw).decode()}\n-----END CERTIFICATE-----\n"
    wanted = Certificate(
        hosts=("h",), name="/c", key_path="/k", request=REQUEST, authority=AUTHORITY, key=KEY
    )
    lines = "\n".join(f"={line}" for line in text.splitlines())
    stats = "644 root root regular file /c\n600 root root regular file /k"
    seen = Certificate.parse([wanted], f"{stats}\n/c\n{lines}\n")
    assert isinstance(seen["/c"], Present)


@settings(max_examples=30, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), host=Label, generation=st.integers(1, 5))
def test_the_same_seed_host_and_generation_is_the_same_key(
    seed: bytes, host: str, generation: int
) -> None:
    one, two = (derived_key(seed, host, "server", generation) for _ in range(2))
    assert one == two != derived_key(seed, host, "client", generation)


# ── nothing shows a secret ──────────────────────────────────────────────────────────────────────
def test_no_part_shows_a_secret_however_it_is_printed(
    wanted: Certificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path / "cluster.yml", "orders")
    store.password("app")
    held = replace(wanted, authority=store.authority("cluster"), key=store.leaf_key("h", "p"))
    things = [store, held, held.authority, REQUEST, held.key, asdict(held), vars(held)]
    try:
        raise RuntimeError(*things)
    except RuntimeError:
        logging.getLogger("t").exception("failed with %s", things)
    text = "\n".join([caplog.text, *(f"{t!r} {t!s} {t}" for t in things)])
    secrets = {
        line for s in store.values() for line in s.reveal().splitlines() if "---" not in line
    }
    assert len(secrets) > 4
    assert not [line for line in secrets if line in text]


def test_no_part_is_pickled(wanted: Certificate, tmp_path: Path) -> None:
    store = open_store(tmp_path / "cluster.yml", "orders")
    for thing in (store, wanted, AUTHORITY, Secret("x"), {"key": KEY}):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing)


def test_an_authority_that_is_damaged_says_so_without_its_key() -> None:
    broken = Authority(certificate_pem=b"nonsense", key_pem=KEY)
    other = Authority(certificate_pem=AUTHORITY.certificate_pem, key_pem=KEY)
    assert [a.is_whole() for a in (AUTHORITY, broken, other)] == [True, False, False]
