"""A cluster that is up: connections, and that everybody agrees about it. Real hosts."""

from __future__ import annotations

import csv
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab

ETCDCTL = (
    "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/tls/client-ca.crt "
    "--cert=/etc/etcd/tls/client.crt --key=/etc/etcd/tls/client.key"
)


def test_a_second_up_changes_nothing(seven: Any) -> None:
    assert seven.document("up", "--yes")["done"] == []


def test_the_first_uri_writes_and_the_second_only_reads(seven: Any) -> None:
    uris = seven.status()["connection"]
    assert seven.answers("primary", "CREATE TABLE written (n int)") == ""
    assert seven.answers("primary", "INSERT INTO written VALUES (1) RETURNING n") == "1"
    assert seven.answers("replica", "SELECT pg_is_in_recovery()") == "t"
    refused = seven.psql(uris["replica"], "INSERT INTO written VALUES (2)")
    assert refused.returncode != 0
    assert "read-only transaction" in refused.stderr
    assert seven.answers("primary", "DROP TABLE written") == ""


@pytest.mark.parametrize(("side", "recovering"), [("primary", "f"), ("replica", "t")])
def test_no_connection_lands_on_the_wrong_side(side: str, recovering: str, seven: Any) -> None:
    uri = seven.uris[side]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(
            pool.map(lambda _: seven.psql(uri, "SELECT pg_is_in_recovery()").stdout, range(200))
        )
    assert answers == [f"{recovering}\n"] * 200


def test_a_wrong_authority_is_refused(seven: Any, tmp_path: Path) -> None:
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "ca.crt")]
    subprocess.run([*new, *files, "-subj", "/CN=somebody"], check=True, capture_output=True)
    for uri in seven.uris.values():
        assert "sslmode=verify-full" in uri
        real = f"{seven.home}/.pgha/{seven.name}/ca.crt"
        assert real in uri
        refused = seven.psql(uri.replace(real, str(tmp_path / "ca.crt")), "SELECT 1")
        assert refused.returncode != 0
        assert "certificate verify failed" in refused.stderr


def test_connections_without_tls_are_refused(seven: Any) -> None:
    uri = seven.uris["primary"].replace("verify-full", "disable")
    refused = seven.psql(uri, "SELECT 1")
    assert refused.returncode != 0
    assert "no encryption" in refused.stderr


def test_patronictl_agrees_with_status(seven: Any) -> None:
    members = seven.status()["patroni"]["members"]
    said = seven.on("pg1", "patronictl -c /etc/patroni/config.yml list -f json")
    rows = {row["Member"]: row for row in json.loads(said)}
    assert {n: r["Role"].lower().replace(" ", "_") for n, r in rows.items()} == {
        name: member["role"] for name, member in members.items()
    }
    assert {name: row["State"] for name, row in rows.items()} == {
        name: member["state"] for name, member in members.items()
    }
    assert sorted(m["role"] for m in members.values()) == ["leader", "sync_standby"]


def test_etcdctl_agrees_with_status(seven: Any) -> None:
    said = json.loads(seven.on("etcd1", f"{ETCDCTL} endpoint health --cluster -w json"))
    etcd = seven.status()["etcd"]
    assert [row["health"] for row in said] == [True] * 3
    assert (etcd["healthy"], etcd["quorum"]) == (3, True)
    assert sum(member["leader"] for member in etcd["members"].values()) == 1


def test_haproxys_own_counters_agree_with_status(seven: Any) -> None:
    balancers = seven.status()["haproxy"]["balancers"]
    for host in ("lb1", "lb2"):
        said = seven.on(host, "curl -sS 'http://127.0.0.1:8404/stats;csv'").removeprefix("# ")
        rows = [r for r in csv.DictReader(StringIO(said)) if r["svname"].startswith("pg")]
        for side in ("primary", "replica"):
            up = [r["svname"] for r in rows if r["pxname"] == side and r["status"].startswith("UP")]
            assert balancers[host][side] == up
            assert len(up) == 1


def test_exactly_one_host_has_the_virtual_address_and_status_knows_which(seven: Any) -> None:
    address = seven.spec()["keepalived"]["virtual_ip"]
    holders = [
        host for host in seven.hosts() if f"inet {address} " in seven.on(host, "ip -4 address")
    ]
    assert len(holders) == 1
    assert seven.status()["keepalived"]["holders"] == holders


CHECKS = {
    "lb1": (
        "haproxy -c -q -f /etc/haproxy/haproxy.cfg",
        "keepalived -t -f /etc/keepalived/keepalived.conf",
    ),
    "pg1": (
        "setpriv --reuid postgres --regid postgres --init-groups "
        "patroni --validate-config --ignore-listen-port /etc/patroni/config.yml",
    ),
}
UNITS = {"etcd1": ("etcd",), "pg1": ("patroni",), "lb1": ("haproxy", "keepalived")}


@pytest.mark.parametrize("host", UNITS)
def test_every_configuration_passes_its_programs_own_check(host: str, seven: Any) -> None:
    units = " ".join(f"{unit}.service" for unit in (*UNITS[host], "pgha-nftables"))
    for check in (
        *CHECKS.get(host, ()),
        "nft -c -f /etc/pgha-build/nftables.nft",
        f"systemd-analyze verify --man=no {units}",
    ):
        done = seven.try_on(host, check)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_debians_own_packet_filter_does_not_sweep_ours_away(seven: Any, until: Any) -> None:
    """Its rules begin with `flush ruleset`; ours are loaded after it."""

    def ours() -> bool:
        return "table inet pgha" in seven.on("lb1", "nft list tables")

    try:
        seven.on("lb1", "systemctl start nftables")
        for verb in ("restart", "reload"):
            seven.on("lb1", f"systemctl {verb} nftables")
            until(ours, 10)
    finally:
        seven.on("lb1", "systemctl stop nftables; systemctl start pgha-nftables")
    seven.in_sync()


def test_no_host_has_a_failed_unit(seven: Any) -> None:
    for host in seven.hosts():
        assert seven.on(host, "systemctl --failed --plain --no-legend") == ""


def test_a_cluster_whose_secrets_are_lost_keeps_its_own(seven: Any, tmp_path: Path) -> None:
    """Also where `init` has made new ones, with which nothing there would agree."""
    file = seven.home / "cluster.secrets.yml"
    kept = file.rename(tmp_path / "kept")
    try:
        assert "is not there" in seven.run("plan").stderr
        assert seven.run("init").returncode == 0
        for command in (("plan",), ("apply", "--yes")):
            done = seven.run(*command)
            assert done.returncode == 1
            assert "was set up with other secrets" in done.stderr
    finally:
        kept.replace(file)
    seven.in_sync()
