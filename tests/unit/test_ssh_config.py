"""`ssh-config`: OpenSSH reads it, and goes to each host as pgha-build does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builder.cli.main import main

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFkMIgC2HuR2Ny6FgZzKd9u0J5qf6Zx2fF3zJH9lmTtS"
SPEC = f"""\
name: demo
machines: {{provider: existing}}
ssh: {{user: deploy, identity_file: "/keys/of mine"}}
hosts:
  etcd1: {{address: 192.0.2.11, roles: [etcd]}}
  pg1: {{address: 192.0.2.21, roles: [patroni], ssh: {{port: 2222, host_key: {KEY}}}}}
  pg2: {{address: 192.0.2.22, roles: [patroni], ssh: {{jump: ops@gate.example.net}}}}
"""


@pytest.fixture
def config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    spec = tmp_path / "cluster.yml"
    spec.write_text(SPEC)
    assert main(["ssh-config", "-f", str(spec)]) == 0
    file = tmp_path / "ssh_config"
    file.write_text(capsys.readouterr().out)
    return file


def read(config: Path, host: str) -> dict[str, str]:
    """As OpenSSH takes it."""
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), host], capture_output=True, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_the_specs_user_port_key_and_address_count(config: Path) -> None:
    said = read(config, "pg1")
    assert (said["hostname"], said["port"], said["user"]) == ("192.0.2.21", "2222", "deploy")
    assert said["identityfile"] == "/keys/of mine"
    assert said["stricthostkeychecking"] in {"yes", "true"}


def test_a_host_key_of_the_spec_is_pinned(config: Path, tmp_path: Path) -> None:
    said = read(config, "pg1")
    pinned = tmp_path / ".pgha" / "demo" / "known_hosts"
    assert said["userknownhostsfile"] == str(pinned)
    assert pinned.read_text() == f"{said['hostkeyalias']} {KEY}\n"
    assert str(pinned) not in read(config, "etcd1")["userknownhostsfile"], "it is the user's there"


def test_the_way_through_a_jump_host_is_told(config: Path) -> None:
    way = read(config, "pg2")["proxycommand"]
    assert "User=ops" in way
    assert "-W 192.0.2.22:22 -- gate.example.net" in way


def test_a_folder_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "cluster.yml"
    spec.write_text(SPEC)
    (tmp_path / ".pgha").write_text("a file")
    assert main(["ssh-config", "-f", str(spec)]) == 1
    assert ".pgha/demo cannot be written" in capsys.readouterr().err
