"""The preflight on blank lab hosts, and a person's own ways in."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab

DAMAGE = {
    "pg1": """
nft add table inet firewall
nft 'add chain inet firewall input { type filter hook input priority 0; }'
nft add rule inet firewall input tcp dport 8008 drop
systemd-run -q --unit squatter python3 -c '
import socket, time
s = socket.socket(); s.bind(("0.0.0.0", 5432)); s.listen(); time.sleep(600)'
until ss -Hltn | grep -q :5432; do sleep 0.1; done
""",
    "lb2": """
nft add table inet firewall
nft 'add chain inet firewall input {{ type filter hook input priority 0; }}'
nft add rule inet firewall input ct state established,related accept
nft add rule inet firewall input ip protocol 112 drop
"""
    + "cat >/etc/machine-id <<END\n{machine}\nEND\nip address add {virtual}/32 dev lo",
}


def without_disks(findings: Sequence[Mapping[str, str]]) -> set[tuple[str, str]]:
    """Whose disk is slow, and when, is this machine's affair."""
    found = {(finding["host"], finding["what"]) for finding in findings}
    return {(host, what) for host, what in found if "synchronous writes" not in what}


def test_every_obstacle_is_found_at_once_and_apply_refuses_before_any_change(
    blank_seven: Any,
) -> None:
    cluster = blank_seven()
    assert cluster.run("lab", "up").returncode == 0
    clean = cluster.run("check", "--json")
    said = json.loads(clean.stdout)
    assert (clean.returncode, without_disks(said["findings"])) == (0, set())
    assert {host["system"] for host in said["hosts"].values()} == {"debian 13"}
    assert [d["path"] for d in said["hosts"]["pg1"]["data"]] == ["/var/lib/postgresql"]
    virtual = cluster.spec()["keepalived"]["virtual_ip"].split("/")[0]
    machine = cluster.on("lb1", "cat /etc/machine-id")
    cluster.on("pg1", DAMAGE["pg1"])
    cluster.on("lb2", DAMAGE["lb2"].format(machine=machine, virtual=virtual))
    checked = cluster.run("check", "--json")
    found = without_disks(json.loads(checked.stdout)["findings"])
    assert checked.returncode == 1
    rest = "does not reach pg1 at port 8008 (Patroni's REST API): no answer"
    assert found == {
        ("pg1", "port 5432 (PostgreSQL) is taken by python3"),
        ("lb2", f"has the machine id of lb1: {machine}"),
        ("lb2", f"has the virtual IP {virtual} already"),
        *((host, rest) for host in ("pg2", "lb1", "lb2")),
        ("lb1", "lb2 and it do not hear each other by VRRP (IP protocol 112): no answer"),
    }
    refused = cluster.run("apply", "--yes")
    assert refused.returncode == 1
    assert "port 5432 (PostgreSQL) is taken by python3" in refused.stderr
    assert cluster.on("etcd1", "ls /var/lib/pgha-build/manifest.json 2>/dev/null || true") == ""
    assert cluster.run("lab", "down").returncode == 0


def test_a_user_whose_sudo_wants_a_password_gets_in_and_a_wrong_one_does_not(
    blank_seven: Any, tmp_path: Path
) -> None:
    cluster = blank_seven()
    assert cluster.run("lab", "up").returncode == 0
    key = f"/var/lib/pgha-build/lab/{cluster.name}/id_ed25519"
    public = Path(f"{key}.pub").read_text()
    cluster.on(
        "pg1",
        "useradd -m deploy; echo 'deploy:Tr0ub4dor' | chpasswd; echo 'deploy ALL=(ALL) ALL' "
        ">/etc/sudoers.d/deploy; install -d -o deploy -m 700 /home/deploy/.ssh; "
        "install -o deploy -m 600 /dev/stdin /home/deploy/.ssh/authorized_keys",
        stdin=public,
    )
    roles = ["etcd", "patroni"]
    host = {"address": cluster.spec()["hosts"]["pg1"]["address"], "roles": roles}
    words = cluster.on("pg1", "cat /etc/ssh/ssh_host_ed25519_key.pub").split()
    host["ssh"] = {"user": "deploy", "identity_file": key, "host_key": " ".join(words[:2])}
    password = tmp_path / "password"
    machines = {"provider": "existing", "sudo_password_command": f"cat {password}"}
    lab = cluster.file.read_text()
    cluster.file.write_text(
        json.dumps({"name": cluster.name, "machines": machines, "hosts": {"pg1": host}})
    )
    password.write_text("Tr0ub4dor\n")
    try:
        checked = cluster.run("check")
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
        password.write_text("wrong\n")
        assert "sudo refuses deploy: the password is wrong" in cluster.run("check").stdout
        machines.pop("sudo_password_command")
        cluster.file.write_text(
            json.dumps({"name": cluster.name, "machines": machines, "hosts": {"pg1": host}})
        )
        assert "sudo: a password is required" in cluster.run("check").stdout
    finally:
        cluster.file.write_text(lab)
    assert "Tr0ub4dor" not in cluster.on("pg1", "journalctl -o cat --no-pager")
    assert cluster.run("lab", "down").returncode == 0


def test_a_person_gets_a_shell_and_psql_the_way_pgha_build_goes(seven: Any) -> None:
    assert seven.run("ssh", "pg1", "--", "hostname").stdout == "pg1\n"
    assert seven.run("ssh", "pg1", "--", "sh", "-c", "exit 7").returncode == 7
    assert "has no host pg9" in seven.run("ssh", "pg9").stderr
    said = seven.run("psql", "--replica", "--", "-XAtc", "SELECT pg_is_in_recovery()").stdout
    assert said == "t\n"
    files = seven.document("connect")["files"]
    services = configparser.ConfigParser()
    services.read_string(Path(files["service"]).read_text())
    assert set(services.sections()) == {seven.name, f"{seven.name}-replica"}
    argv = ["psql", "-XAt", "-d", f"service={seven.name}", "-c", "SELECT pg_is_in_recovery()"]
    environment = {**os.environ, "PGSERVICEFILE": files["service"]}
    answer = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "f\n"
