"""Other shapes than seven hosts, other names, ports and networks; and no secret anywhere.

The three-host cluster is watched from outside while it comes up: every command line and every
environment of every process, of the hosts and of the command itself.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.lab

APP = {"users": [{"name": "app"}], "databases": [{"name": "app", "owner": "app"}]}
PATRONI = "4.1.5"
ALL = ["etcd", "patroni", "haproxy", "keepalived"]


def _hosts(cluster: Any, **roles: list[str]) -> dict[str, Any]:
    return {
        name: {"address": str(cluster.network[11 + number]), "roles": carried}
        for number, (name, carried) in enumerate(roles.items())
    }


def _virtual(cluster: Any) -> dict[str, Any]:
    return {"virtual_ip": f"{cluster.network[200]}/24"}


def _works(cluster: Any, *, replicas: bool) -> None:
    cluster.in_sync()
    assert cluster.answers("primary", "SELECT pg_is_in_recovery()") == "f"
    cluster.answers("primary", "CREATE TABLE here (n int)")
    if replicas:
        assert cluster.answers("replica", "SELECT pg_is_in_recovery()") == "t"


# ── etcd alone, of which a first apply reached one host ─────────────────────────────────────────
def test_an_etcd_that_was_founded_in_part_is_founded_anew(new_cluster: Any) -> None:
    cluster = new_cluster()
    cluster.write({"hosts": _hosts(cluster, e1=["etcd"], e2=["etcd"], e3=["etcd"])})
    cluster.document("up", "--only", "e1", "--yes")
    assert "of a founding that never came to a leader" in cluster.run("plan").stdout
    cluster.document("apply", "--yes")
    cluster.in_sync()
    assert cluster.status()["etcd"]["quorum"] is True
    cluster.run("destroy", "--yes")


# ── one host, with Patroni from PyPI and a small etcd ───────────────────────────────────────────
@pytest.fixture(scope="module")
def solo(new_cluster: Any) -> Iterator[Any]:
    cluster = new_cluster()
    cluster.write(
        {
            "hosts": _hosts(cluster, solo=ALL),
            "etcd": {"quota_mib": 16},
            "patroni": {"pypi_version": PATRONI},
            "postgresql": {**APP, "port": 6432},
            "keepalived": _virtual(cluster),
        }
    )
    cluster.document("up", "--yes")
    yield cluster
    cluster.run("destroy", "--yes")


def test_one_host_carries_everything(solo: Any) -> None:
    _works(solo, replicas=False)
    assert solo.status()["patroni"]["leader"] == "solo"


def test_patroni_from_pypi_is_locked_with_all_that_it_needs(solo: Any) -> None:
    assert solo.status()["patroni"]["members"]["solo"]["patroni"] == PATRONI
    assert solo.on("solo", "patronictl version").endswith(PATRONI)
    assert solo.run("lock").returncode == 0
    lock = solo.home / "cluster.lock.yml"
    packages = yaml.safe_load(lock.read_text())["hosts"]["solo"]
    assert {"pypi/patroni", "pypi/python-etcd", "pypi/psycopg-binary", "haproxy"} <= set(packages)
    solo.in_sync()
    text = lock.read_text()
    lock.write_text(text.replace(packages["pypi/ydiff"]["sha256"], "f" * 64))
    environment = "/opt/pgha-build/patroni"
    solo.on("solo", f"{environment}/bin/python -m pip -q uninstall -y ydiff")
    refused = solo.run("apply", "--yes")
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    lock.write_text(text)
    solo.apply()
    solo.in_sync()
    lock.unlink()
    solo.in_sync()


FILL = """\
export ETCDCTL_API=3
tls=/etc/etcd/tls
ctl="etcdctl --endpoints=https://{address}:2379 --cacert=$tls/client-ca.crt --cert=$tls/client.crt"
head -c 1000000 /dev/urandom | base64 -w0 >/tmp/value
for i in $(seq 30); do
  $ctl --key=$tls/client.key put filler </tmp/value >/dev/null 2>&1 || exit 0
done
exit 1
"""


def test_an_etcd_without_room_is_told_and_cleared_while_writes_go_on(solo: Any, until: Any) -> None:
    solo.on("solo", FILL.format(address=solo.network[11]))
    until(lambda: solo.status()["etcd"]["members"]["solo"]["alarm"] == "NOSPACE", 20)
    solo.answers("primary", "INSERT INTO here VALUES (2)")
    done = solo.run("ops", "defragment-etcd", "--yes")
    assert done.returncode == 0, done.stderr[-2000:]
    assert solo.status()["etcd"]["members"]["solo"]["alarm"] is None
    assert solo.leader() == "solo"
    solo.in_sync()


def test_five_etcd_three_postgresql_two_balancers_share_hosts_of_debian_12(
    new_cluster: Any,
) -> None:
    """Its own versions: PostgreSQL 15, Patroni 3.0, etcd 3.4, HAProxy 2.6, Keepalived 2.2."""
    cluster = new_cluster()
    roles = {f"p{n}": ["etcd", "patroni"] for n in range(1, 4)}
    roles |= {f"b{n}": ["etcd", "haproxy", "keepalived"] for n in range(1, 3)}
    hosts = _hosts(cluster, **roles)
    cluster.write(
        {
            "machines": {"provider": "lab", "release": "bookworm"},
            "hosts": hosts,
            "postgresql": {**APP, "version": 15},
            "keepalived": _virtual(cluster),
        }
    )
    cluster.document("up", "--yes")
    _works(cluster, replicas=True)
    status = cluster.status()
    assert status["etcd"]["healthy"] == 5
    assert status["patroni"]["members"]["p1"]["postgresql"].startswith("15.")
    assert len(status["haproxy"]["balancers"]["b1"]["replica"]) == 2
    done = cluster.run("drill", "switchover", "keepalived-stop", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    cluster.run("destroy", "--yes")


# ── three hosts that carry everything, watched ──────────────────────────────────────────────────
class Watch(threading.Thread):
    """Keeps every command line and environment that any process on this machine has."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.looks = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):  # what it takes itself, the cluster lacks
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        self.seen.add((process / name).read_bytes())
                    except OSError:
                        continue


@pytest.fixture(scope="module")
def watched(new_cluster: Any) -> Iterator[tuple[Any, Watch, list[str]]]:
    """The cluster, what was seen while it came up, and what the command said."""
    cluster = new_cluster()
    logging = {"log_statement": "all", "log_min_duration_statement": 0, "log_connections": "on"}
    cluster.write(
        {
            "hosts": _hosts(cluster, **{f"node-{letter}": ALL for letter in "abc"}),
            "etcd": {"client_port": 12379, "peer_port": 12380},
            "patroni": {"rest_port": 18008},
            "haproxy": {"primary_port": 5000, "replica_port": 5001, "status_port": 17000},
            "keepalived": {**_virtual(cluster), "router_id": 77},
            "postgresql": {
                "port": 6543,
                "parameters": {"work_mem": "12MB", "max_connections": 77, **logging},
                "users": [
                    {"name": "shop", "options": ["createdb"]},
                    {"name": "reader", "member_of": ["pg_read_all_data"]},
                ],
                "databases": [{"name": "shop", "owner": "shop", "extensions": ["hstore"]}],
            },
        }
    )
    cluster.run("lab", "up")
    watch = Watch()
    watch.start()
    plan = cluster.run("plan", "--json")
    done = cluster.run("apply", "--yes", "--json")
    cluster.sql("ALTER ROLE shop PASSWORD NULL")
    again = [cluster.run("plan"), cluster.run("apply", "--yes"), cluster.run("status", "--json")]
    watch.over.set()
    watch.join()
    assert done.returncode == 0, done.stderr[-3000:]
    said = [text for run in (plan, done, *again) for text in (run.stdout, run.stderr)]
    yield cluster, watch, said
    cluster.run("destroy", "--yes")


def test_three_hosts_carry_everything(watched: Any) -> None:
    cluster = watched[0]
    _works(cluster, replicas=True)
    assert cluster.answers("primary", "SHOW work_mem") == "12MB"
    assert cluster.answers("primary", "SHOW max_connections") == "77"
    status = cluster.status()
    assert (status["etcd"]["healthy"], len(status["patroni"]["members"])) == (3, 3)
    assert len(status["keepalived"]["holders"]) == 1


def test_a_leader_that_is_a_balancer_and_an_etcd_member_may_be_cut_off(watched: Any) -> None:
    done = watched[0].run("drill", "leader-isolated", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def _secrets(cluster: Any) -> list[str]:
    """Passwords, the seed, and a line of every private key, also as base64."""
    texts = list(_texts(yaml.safe_load((cluster.home / "cluster.secrets.yml").read_text())))
    found = [text for text in texts if "\n" not in text and len(text) >= 20]
    keys = [text for text in texts if "PRIVATE KEY" in text]
    keys += [cluster.on(h, "find /etc -name '*.key' -exec cat {} +") for h in cluster.hosts()]
    for key in keys:
        found += re.findall(r"^[A-Za-z0-9+/=]{40,}$", key, re.MULTILINE)
    assert len(found) > 10
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if "certificate" not in str(key):
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def test_no_secret_is_in_a_command_line_or_an_environment(watched: Any) -> None:
    cluster, watch, _ = watched
    assert watch.looks > 100
    everything = b"\n".join(watch.seen)
    assert b"patroni" in everything
    assert [s[:6] for s in _secrets(cluster) if s.encode() in everything] == []


def test_no_secret_is_in_what_the_command_says(watched: Any) -> None:
    cluster, _, said = watched
    assert [s[:6] for s in _secrets(cluster) if any(s in text for text in said)] == []
    assert not any("SCRAM-SHA-256$" in text for text in said)


def test_no_secret_is_in_a_journal_a_log_a_manifest_or_a_temporary_file(watched: Any) -> None:
    cluster = watched[0]
    needles = "\n".join([*_secrets(cluster), "SCRAM-SHA-256$"])
    look = (
        "umask 077; cat >/root/needles; journalctl -a -o export | grep -aFf /root/needles; "
        "grep -raFlf /root/needles /var/log /var/lib/pgha-build /tmp /var/tmp /run/pgha-build; "
        "echo looked; rm /root/needles"
    )
    for host in cluster.hosts():
        said = cluster.on(host, look, stdin=needles)
        assert re.sub(r"[A-Za-z0-9+/]{20,}", "…", said) == "looked", host
    logged = "journalctl -a --no-pager -o cat | grep -c 'statement:'"
    assert int(cluster.on(cluster.leader(), logged)) > 0  # the log is where we looked for it


def test_files_with_secrets_are_for_their_owner_only(watched: Any) -> None:
    cluster = watched[0]
    for host in cluster.hosts():
        keys = cluster.on(host, "find /etc/etcd /etc/patroni -name '*.key' -printf '%m '")
        assert set(keys.split()) == {"600"}
        others = cluster.on(
            host, "find /etc/patroni/config.yml /var/lib/pgha-build/manifest.json -perm /007"
        )
        assert others == ""
    mine = [cluster.home / "cluster.secrets.yml", cluster.home / ".pgha" / cluster.name / "pgpass"]
    assert [path.stat().st_mode & 0o777 for path in mine] == [0o600] * 2


def test_secrets_that_others_may_read_are_refused(watched: Any) -> None:
    cluster = watched[0]
    secrets = cluster.home / "cluster.secrets.yml"
    secrets.chmod(0o644)
    refused = cluster.run("plan")
    secrets.chmod(0o600)
    assert refused.returncode == 1
    assert "cluster.secrets.yml" in refused.stderr
