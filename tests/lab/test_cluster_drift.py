"""What somebody changes by hand is shown as drift, and apply repairs that and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

pytestmark = pytest.mark.lab

CTL = "patronictl -c /etc/patroni/config.yml"


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Done on `host` (or on the leader, the replica), drift is where the hand was."""

    host: str
    by: str
    drift: tuple[str, ...]
    triggers: tuple[str, ...] = ()
    attributes: tuple[str, ...] = field(default=())


CFG = "/etc/haproxy/haproxy.cfg"
STRANGER = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9"
    " -subj /CN=stranger -keyout {0}.key -out {0}.crt 2>/dev/null"
)


def trusts_a_stranger(host: str) -> Damage:
    """And nobody else: it does not even know itself, and takes no part."""
    file = "/etc/etcd/tls/client-ca"
    return Damage(
        host=host,
        by=f"{STRANGER.format(file)}; rm {file}.key; systemctl restart --no-block etcd",
        drift=(f"file:{file}.crt",),
        triggers=("unit:etcd.service",),
    )


DAMAGE = {
    "a configuration file is edited": Damage(
        host="lb1",
        by=f"sed -i 's/^defaults/# by hand\\ndefaults/' {CFG}",
        drift=(f"file:{CFG}",),
        triggers=("unit:haproxy.service",),
    ),
    "haproxy is stopped": Damage(
        host="lb2", by="systemctl stop haproxy", drift=("unit:haproxy.service",)
    ),
    "haproxy is disabled": Damage(
        host="lb2",
        by="systemctl disable haproxy",
        drift=("unit:haproxy.service",),
        attributes=("startup",),
    ),
    "keepalived is masked": Damage(
        host="lb1", by="systemctl mask --now keepalived", drift=("unit:keepalived.service",)
    ),
    "patroni is stopped on the replica": Damage(
        host="replica", by="systemctl stop patroni", drift=("unit:patroni.service",)
    ),
    "etcd is stopped": Damage(host="etcd2", by="systemctl stop etcd", drift=("unit:etcd.service",)),
    "etcd's key is readable by all": Damage(
        host="etcd1",
        by="chmod 644 /etc/etcd/tls/peer.key",
        drift=("certificate:/etc/etcd/tls/peer.crt",),
        attributes=("key_mode",),
    ),
    "patroni's key is readable by all": Damage(
        host="replica",
        by="chmod 644 /etc/patroni/tls/server.key",
        drift=("certificate:/etc/patroni/tls/server.crt",),
        triggers=("unit:patroni.service",),
    ),
    "etcd1 trusts a stranger": trusts_a_stranger("etcd1"),
    "etcd2 trusts a stranger": trusts_a_stranger("etcd2"),
    "etcd's certificate is a stranger's": Damage(
        host="etcd3",
        by=STRANGER.format("/etc/etcd/tls/server"),
        drift=("certificate:/etc/etcd/tls/server.crt",),
        attributes=("issuer", "key"),
    ),
    "patroni's certificate is a stranger's": Damage(
        host="replica",
        by=STRANGER.format("/etc/patroni/tls/server"),
        drift=("certificate:/etc/patroni/tls/server.crt",),
        triggers=("unit:patroni.service",),
        attributes=("issuer", "key"),
    ),
    "patroni's dynamic configuration is edited": Damage(
        host="leader",
        by=f"{CTL} edit-config --force -s ttl=60 -p log_checkpoints=off",
        drift=("cluster/patroni_config:{cluster}",),
        attributes=("ttl", "postgresql.parameters.log_checkpoints"),
    ),
    "ALTER SYSTEM overrides Patroni's configuration": Damage(
        host="leader",
        by="SQL ALTER SYSTEM SET synchronous_commit = off; SELECT pg_reload_conf()",
        drift=("postgresql:{host}",),
        attributes=("alter_system",),
    ),
    "a role's password is changed": Damage(
        host="leader",
        by="SQL ALTER ROLE app PASSWORD 'guessed'",
        drift=("cluster/role:app",),
        attributes=("password",),
    ),
    "the password that replicas have is changed": Damage(
        host="leader",
        by="SQL ALTER ROLE replicator PASSWORD 'guessed'",
        drift=("cluster/role:replicator",),
        attributes=("password",),
    ),
    "patroni's unit file is edited on the leader": Damage(
        host="leader",
        by="echo '# by hand' >>/etc/systemd/system/patroni.service && systemctl daemon-reload",
        drift=("file:/etc/systemd/system/patroni.service",),
        triggers=("unit:patroni.service",),
    ),
    "a role is made more powerful": Damage(
        host="leader",
        by="SQL ALTER ROLE app SUPERUSER CREATEDB",
        drift=("cluster/role:app",),
        attributes=("flags",),
    ),
    "a role is dropped": Damage(
        host="leader",
        by="SQL ALTER DATABASE app OWNER TO postgres; DROP ROLE app",
        drift=("cluster/role:app", "cluster/database:app"),
    ),
    "the firewall is flushed": Damage(host="pg1", by="nft flush ruleset", drift=("nftables:pgha",)),
    "a firewall rule is added": Damage(
        host="etcd3",
        by="nft insert rule inet pgha input accept",
        drift=("nftables:pgha",),
        attributes=("live",),
    ),
    "keepalived's package is removed": Damage(
        host="lb2",
        # Our policy-rc.d keeps packages from stopping units; one without its file ends after 95 s.
        by="systemctl stop keepalived && apt-get -q -y remove keepalived",
        drift=("package:keepalived", "unit:keepalived.service"),
    ),
    "haproxy is purged with its configuration": Damage(
        host="lb1",
        by="apt-get -q -y purge haproxy",
        drift=("package:haproxy", f"file:{CFG}", "unit:haproxy.service"),
    ),
    "our lines of /etc/hosts are edited": Damage(
        host="pg2", by="sed -i 's/ etcd1$/ etcd9/' /etc/hosts", drift=("block:/etc/hosts",)
    ),
    "a kernel parameter is changed": Damage(
        host="lb1",
        by="echo 0 >/proc/sys/net/ipv4/ip_nonlocal_bind",
        drift=("sysctl:net.ipv4.ip_nonlocal_bind",),
    ),
    "a unit file is deleted, and the package's own takes its place": Damage(
        host="etcd2",
        by="rm /etc/systemd/system/etcd.service && systemctl daemon-reload",
        drift=("file:/etc/systemd/system/etcd.service",),
        triggers=("unit:etcd.service",),
    ),
    "patroni's configuration is deleted": Damage(
        host="replica",
        by="rm /etc/patroni/config.yml",
        drift=("file:/etc/patroni/config.yml",),
        triggers=("unit:patroni.service",),
    ),
    "a directory is opened to all": Damage(
        host="pg1", by="chmod 777 /etc/patroni", drift=("directory:/etc/patroni",)
    ),
    "a drop-in is added to a unit": Damage(
        host="lb2",
        by="printf '[Service]\\nNice=5\\n' >/etc/systemd/system/haproxy.service.d/99-x.conf",
        drift=("unit:haproxy.service",),
        attributes=("definition",),
    ),
}


# Done at once: each look and each repair is one for all of them.
TOGETHER = (
    (
        "a configuration file is edited",
        "haproxy is disabled",
        "etcd is stopped",
        "a role's password is changed",
        "our lines of /etc/hosts are edited",
        "a firewall rule is added",
    ),
    (
        "haproxy is stopped",
        "keepalived is masked",
        "etcd's key is readable by all",
        "etcd's certificate is a stranger's",
        "patroni's dynamic configuration is edited",
        "a directory is opened to all",
    ),
    (
        "patroni is stopped on the replica",
        "the password that replicas have is changed",  # so it cannot stream when it is started
        "patroni's unit file is edited on the leader",  # nor take over, for that to be restarted
        "a unit file is deleted, and the package's own takes its place",
        "a kernel parameter is changed",
        "keepalived's package is removed",
    ),
    (
        "patroni's key is readable by all",
        "ALTER SYSTEM overrides Patroni's configuration",
        "a role is made more powerful",
        "the firewall is flushed",
        "haproxy is purged with its configuration",
    ),
    (
        "etcd1 trusts a stranger",
        "etcd2 trusts a stranger",
        "patroni's configuration is deleted",
        "patroni's certificate is a stranger's",
        "a role is dropped",
        "a drop-in is added to a unit",
    ),
)
assert {what for group in TOGETHER for what in group} == DAMAGE.keys()


@pytest.mark.parametrize("together", TOGETHER, ids=[group[0] for group in TOGETHER])
def test_hand_made_changes_are_seen_and_repaired(
    together: tuple[str, ...], seven: Any, until: Any
) -> None:
    placed = [(_host(DAMAGE[what].host, seven), DAMAGE[what]) for what in together]
    for host, damage in placed:
        if damage.by.startswith("SQL "):
            seven.sql(damage.by.removeprefix("SQL "))
        else:
            seven.on(host, damage.by)

    plan = seven.document("plan", exit_code=2)
    drift = {name for host, d in placed for name in _addresses(d.drift, host, seven)}
    triggered = {name for host, d in placed for name in _addresses(d.triggers, host, seven)}
    changes = {c["address"]: c for c in plan["changes"] if _is_work(c["address"], drift)}
    assert set(changes) == drift | triggered
    assert all(changes[address]["drift"] for address in drift)
    for host, damage in placed:
        seen = [changes[name]["attributes"] for name in _addresses(damage.drift, host, seven)]
        assert set(damage.attributes) <= {name for names in seen for name in names}

    applied = seven.apply()
    done = {address for address in applied["done"] if _is_work(address, drift)}
    assert done == drift | triggered
    seven.in_sync()
    assert until(lambda: _healthy(seven.status()), 30) < 30


def _host(name: str, cluster: Any) -> str:
    found = {"leader": cluster.leader, "replica": cluster.replica}
    return found[name]() if name in found else name


def _is_work(address: str, drift: Collection[str] = ()) -> bool:
    """Not a gate, nor the question whether a changed setting makes PostgreSQL restart."""
    return address in drift or ("/gate:" not in address and "/postgresql:" not in address)


def _addresses(names: tuple[str, ...], host: str, cluster: Any) -> set[str]:
    return {
        name.format(cluster=cluster.name)
        if name.startswith("cluster/")
        else f"{host}/{name.format(host=host)}"
        for name in names
    }


def _healthy(status: Any) -> bool:
    states = [member["state"] for member in status["patroni"]["members"].values()]
    serving = [
        len(balancer["primary"]) == len(balancer["replica"]) == 1
        for balancer in status["haproxy"]["balancers"].values()
    ]
    return (
        sorted(states) == ["running", "streaming"]
        and status["etcd"]["healthy"] == 3
        and len(status["keepalived"]["holders"]) == 1
        and all(serving)
    )


def test_what_is_not_managed_is_told_and_left_alone(seven: Any) -> None:
    leader = seven.leader()
    seven.on(leader, f"{CTL} edit-config --force -p log_min_duration_statement=4321")
    seven.on(leader, "echo '192.0.2.1 mine' >>/etc/hosts")
    notes = seven.document("plan")["notes"]
    assert [n for n in notes if "postgresql.parameters.log_min_duration_statement" in n]
    assert seven.apply()["done"] == []
    assert "4321" in seven.on(leader, f"{CTL} show-config")
    assert "192.0.2.1 mine" in seven.on(leader, "cat /etc/hosts")
    seven.on(leader, f"{CTL} edit-config --force -p log_min_duration_statement=null")


def test_a_table_reads_the_same_whatever_names_protocols_have(seven: Any) -> None:
    """Many hosts get nftables before netbase, which brings the names."""
    seven.on("lb1", "cd /etc; touch protocols; mv protocols kept; echo 'other 112' >protocols")
    try:
        seven.in_sync()
    finally:
        seven.on("lb1", "mv /etc/kept /etc/protocols")
