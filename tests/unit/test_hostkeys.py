"""known_hosts as people have them: which keys of a host count, and which line is broken."""

from __future__ import annotations

import base64
from pathlib import Path

import paramiko
import pytest

from builder.errors import HostKeyError
from builder.transport.base import Endpoint
from builder.transport.hostkeys import accepted, verify

OURS = "AAAAC3NzaC1lZDI1NTE5AAAAIKLVpHBnXsMjDHlkj6xXBSsV1bBv3wDyTzb7zNd5Kj1v"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def endpoint(known_hosts: Path, port: int = 22) -> Endpoint:
    return Endpoint(
        host="pg1", address="10.0.0.21", port=port, user="deploy", known_hosts=(known_hosts,)
    )


def keys(known_hosts: Path, text: str, port: int = 22) -> list[str]:
    known_hosts.write_text(text)
    return [key for _, key in accepted(endpoint(known_hosts, port))]


SALT = f"|1|{base64.b64encode(bytes(20)).decode()}|"


@pytest.mark.parametrize(
    "line",
    [
        f"10.0.0.21 ssh-ed25519 {OURS[:-3]}",
        f"somewhere.else ssh-ed25519 {OURS[:20]}",
        "somewhere.else ssh-dss A",
        f"@revoked * ssh-ed25519 {OURS[:-3]}",
    ],
)
def test_a_damaged_line_is_named_with_its_file_and_number(known_hosts: Path, line: str) -> None:
    text = f"# a comment\n\n10.0.0.21 ssh-ed25519 {OURS}\n{line}\n"
    with pytest.raises(HostKeyError, match=rf"^pg1: {known_hosts}:4: .*damaged") as said:
        keys(known_hosts, text)
    assert "ssh.host_key" in said.value.do


@pytest.mark.parametrize(
    "line",
    [
        "10.0.0.21",
        "@cert-authority",
        f"@cert-authority * ssh-ed25519 {OTHER}",
        f"10.0.0.21 sk-ssh-ed25519@openssh.com {OTHER}",
        f"10.0.0.21 ssh-rsa {OTHER}",
        f"|1|short|{'A' * 27}= ssh-ed25519 {OTHER}",
        f"somewhere.else ssh-ed25519 {OTHER}",
        f"@revoked * ssh-ed25519 {OTHER}",
    ],
)
def test_what_says_nothing_about_this_host_does_not_disturb(known_hosts: Path, line: str) -> None:
    assert keys(known_hosts, f"{line}\n10.0.0.21 ssh-ed25519 {OURS}\n") == [OURS]


def test_a_comment_in_another_encoding_does_not_disturb(known_hosts: Path) -> None:
    line = f"10.0.0.21 ssh-ed25519 {OURS} J\xf6rg\n"
    known_hosts.write_bytes(line.encode("latin-1"))
    assert accepted(endpoint(known_hosts)) == [("ssh-ed25519", OURS)]


@pytest.mark.parametrize(
    ("name", "port", "known"),
    [
        ("10.0.0.21", 22, True),
        ("pg1,pg1.example.com", 22, True),
        (paramiko.HostKeys.hash_host("10.0.0.21", SALT), 22, True),
        ("10.0.0.21", 2222, False),
        ("[10.0.0.21]:2222", 2222, True),
        (paramiko.HostKeys.hash_host("[pg1]:2222", SALT), 2222, True),
        ("[10.0.0.21]:2222", 22, False),
    ],
)
def test_a_host_is_known_by_name_or_address_and_port(
    known_hosts: Path, name: str, port: int, known: bool
) -> None:
    assert keys(known_hosts, f"{name} ssh-ed25519 {OURS}\n", port) == [OURS] * known


def test_words_are_parted_by_any_space(known_hosts: Path) -> None:
    assert keys(known_hosts, f"  10.0.0.21  ssh-ed25519\t{OURS} me@here\r\n") == [OURS]


def test_a_revoked_key_counts_no_more(known_hosts: Path) -> None:
    lines = f"10.0.0.21 ssh-ed25519 {OURS}\n@revoked * ssh-ed25519 {OURS}\n"
    assert keys(known_hosts, lines) == []


def test_both_keys_of_a_host_count(known_hosts: Path) -> None:
    lines = "".join(f"10.0.0.21 ssh-ed25519 {key}\n" for key in (OURS, OTHER))
    assert keys(known_hosts, lines) == [OURS, OTHER]


@pytest.mark.parametrize(
    ("port", "advice"), [(22, "ssh-keyscan 10.0.0.21 "), (2222, "ssh-keyscan -p 2222 10.0.0.21 ")]
)
def test_the_advice_asks_at_the_port_of_the_host(known_hosts: Path, port: int, advice: str) -> None:
    shown = paramiko.hostkeys.HostKeyEntry.from_line(f"pg1 ssh-ed25519 {OURS}")
    assert shown
    with pytest.raises(HostKeyError) as said:
        verify(endpoint(known_hosts, port), shown.key, [])
    assert f"{advice}>> {known_hosts}" in said.value.do
