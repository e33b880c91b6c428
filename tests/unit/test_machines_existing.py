"""Hosts that exist already, and how they are reached; and what virtual machines are asked for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from builder.errors import MachineError
from builder.machines.existing import ExistingProvider
from builder.machines.vagrant.settings import machines
from builder.spec.read import read_spec
from builder.transport.base import Endpoint
from builder.transport.openssh import command

CONFIG = """
Include {included}
Host pg1
    HostName 192.0.2.21
    User dba
    ProxyJump gate,ops@inner:2200
Host gate
    HostName gate.example.net
    User porter
    IdentityFile ~/.ssh/%n/%r@%h:%p%%
Host lb1
    ProxyJump none
"""
SPEC = """
name: orders
machines: {{provider: existing, ssh_config: {config}{more}}}
ssh: {{user: deploy}}
hosts:
  etcd1: {{address: 10.0.0.11, roles: [etcd], ssh: {{jump: "gate", port: 2222}}}}
  pg1: {{address: 10.0.0.21, roles: [etcd]}}
  lb1: {{address: 10.0.0.31, roles: [etcd]}}
"""
SPEC_VAGRANT = """
name: orders
machines: {{provider: vagrant}}
hosts:
  one: {{address: 10.0.0.31, roles: [etcd, patroni, haproxy, keepalived]}}
keepalived: {{virtual_ip: {virtual_ip}}}
"""
Reach = Callable[..., ExistingProvider]


@pytest.fixture
def reach(tmp_path: Path) -> Reach:
    config = tmp_path / "ssh_config"
    included = tmp_path / "included"
    included.write_text("Host gate\n    Port 2022\n")
    config.write_text(CONFIG.format(included=included))

    def make(more: str = "") -> ExistingProvider:
        file = tmp_path / "cluster.yml"
        file.write_text(SPEC.format(config=config, more=more))
        return ExistingProvider(read_spec(file))

    return make


def way(endpoint: Endpoint) -> list[tuple[str, str, int]]:
    found = []
    while endpoint.jump:
        endpoint = endpoint.jump
        found.append((endpoint.user, endpoint.address, endpoint.port))
    return found


def test_the_spec_wins_and_ssh_config_fills_in(reach: Reach) -> None:
    endpoints = reach().endpoints()
    assert (endpoints["pg1"].address, endpoints["pg1"].user) == ("192.0.2.21", "deploy")
    assert (endpoints["etcd1"].address, endpoints["etcd1"].port) == ("10.0.0.11", 2222)
    assert endpoints["lb1"].jump is None
    assert endpoints["lb1"].identity_files == endpoints["lb1"].known_hosts == ()


def test_a_jump_host_is_looked_up_in_ssh_config_too(reach: Reach) -> None:
    endpoint = reach().endpoints()["etcd1"]
    assert way(endpoint) == [("porter", "gate.example.net", 2022)]


def test_the_way_may_lead_through_several_hosts(reach: Reach) -> None:
    """The first that is written is the first to be reached, and so the last from the host."""
    endpoint = reach().endpoints()["pg1"]
    assert way(endpoint) == [("ops", "inner", 2200), ("porter", "gate.example.net", 2022)]
    words = command(endpoint, Path("/pins"), [])
    inner = proxied(words)
    assert inner[inner.index("-W") :] == ["-W", "192.0.2.21:22", "--", "inner"]
    gate = proxied(inner)
    assert gate[gate.index("-W") :] == ["-W", "inner:2200", "--", "gate"]
    assert "User=porter" in gate


def proxied(words: Sequence[str]) -> list[str]:
    """What OpenSSH would run to get there."""
    (proxy,) = [word for word in words if word.startswith("ProxyCommand=")]
    return shlex.split(proxy.removeprefix("ProxyCommand=").replace("%%", "%"))


def test_a_persons_shell_gets_the_specs_key_for_the_jump_host_too() -> None:
    key = Path("/keys/100% mine")
    gate = Endpoint(host="gate", address="10.0.0.1", user="ops", identity_files=(key,))
    words = command(Endpoint(host="pg1", address="fd00::21", jump=gate), Path("/pins"), [])
    way = proxied(words)
    assert 'IdentityFile="/keys/100%% mine"' in way, "ssh expands % in names of files"
    assert way[way.index("-W") + 1] == "[fd00::21]:22"


@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        ("10.0.0.1", ("deploy", "10.0.0.1", 22)),
        ("ops@10.0.0.1:2222", ("ops", "10.0.0.1", 2222)),
        ("ops@[10.0.0.1]", ("ops", "10.0.0.1", 22)),
        ("[fd00::1]:2222", ("deploy", "fd00::1", 2222)),
    ],
)
def test_a_jump_host_may_be_an_address(
    reach: Reach, tmp_path: Path, jump: str, expected: tuple[str, str, int]
) -> None:
    """`ssh -G` puts brackets around one, even where nobody wrote them."""
    provider = reach()
    config = tmp_path / "ssh_config"
    config.write_text(f"Host pg1\n    ProxyJump {jump}\n")
    assert way(provider.endpoints()["pg1"]) == [expected]


def test_a_command_gets_a_terminal_where_a_person_has_one(reach: Reach, tmp_path: Path) -> None:
    """With one there, what a command says could not be kept in a file as it is."""
    reach()
    (tmp_path / "ssh").write_text(
        f"""#!/bin/sh
case " $* " in *" -G "*) PATH={os.environ["PATH"]} exec ssh "$@" ;; *) echo "ran $*" ;; esac
"""
    )
    (tmp_path / "ssh").chmod(0o755)
    line = [sys.executable, "-c", "import sys; from builder.cli.main import main; sys.exit(main())"]
    line += ["ssh", "-f", str(tmp_path / "cluster.yml"), "lb1", "--", "sudo", "-u", "x", "psql"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    here, there = os.openpty()
    subprocess.run(line, env=environment, stdin=there, stdout=there, check=True)
    assert re.search(r"ran .* -t -- 10\.0\.0\.31 sudo -u x psql\s", os.read(here, 4096).decode())
    piped = subprocess.run(
        line, env=environment, stdin=there, stdout=subprocess.PIPE, text=True, check=True
    )
    assert re.search(r"ran .* StrictHostKeyChecking=yes -- 10\.0\.0\.31 sudo", piped.stdout)
    os.close(here)
    os.close(there)


def test_sudos_password_is_asked_for_once_per_run_and_only_when_it_is_wanted(
    reach: Reach, tmp_path: Path
) -> None:
    asked = tmp_path / f"asked-{os.getpid()}"
    more = f", sudo_password_command: 'echo x >>{asked}; echo secret'"
    endpoints = [host for _ in range(3) for host in reach(more).endpoints().values()]
    assert not asked.exists()
    assert {host.sudo_password() for host in endpoints if host.sudo_password} == {"secret"}
    assert asked.read_text() == "x\n"


def test_more_than_a_password_is_not_given_to_a_root_shell(reach: Reach) -> None:
    """As password stores keep it: sudo would read a line, and sh the others."""
    provider = reach(", sudo_password_command: 'echo secret; echo \"user: admin\"'")
    asked = next(iter(provider.endpoints().values())).sudo_password
    assert asked
    with pytest.raises(MachineError, match="prints several lines") as refused:
        asked()
    assert "secret" not in str(refused.value)


def test_the_name_of_a_key_may_follow_from_the_host(reach: Reach) -> None:
    gate = reach().endpoints()["etcd1"].jump
    assert gate
    (file,) = gate.identity_files
    assert file == Path.home() / ".ssh/gate/porter@gate.example.net:2022%"


def test_a_file_that_ssh_cannot_read_is_said_in_its_words(reach: Reach, tmp_path: Path) -> None:
    provider = reach()
    (tmp_path / "ssh_config").write_text("Hots pg1\n")
    with pytest.raises(MachineError, match=r"(?s)ssh could not read its configuration.*hots"):
        provider.endpoints()


def test_machines_of_vagrant_are_in_one_network_also_with_an_address_alone(
    world_of: Any,
) -> None:
    text = SPEC_VAGRANT.format(virtual_ip="10.0.0.100/32")
    assert {machine.netmask for machine in machines(world_of(text).spec)} == {"255.255.255.0"}
    text = SPEC_VAGRANT.format(virtual_ip="10.0.0.100/25")
    assert {machine.netmask for machine in machines(world_of(text).spec)} == {"255.255.255.128"}
