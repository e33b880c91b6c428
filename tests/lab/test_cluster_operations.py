"""Operations on a running cluster, while clients write to it without pause. Real hosts.

Nothing that was acknowledged is lost, and writes pause no longer than was promised; bounds leave
room for a busy machine.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab

SWITCHOVER_SECONDS = 10  # promised: 5
NO_PAUSE_SECONDS = 5  # promised: none
REPLICA_LOST_SECONDS = 20  # promised: 17
KILLED = -9


def done(cluster: Any, *words: str) -> None:
    ran = cluster.run("ops", *words, "--yes", seconds=600)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]


def refused(cluster: Any, *words: str) -> str:
    ran = cluster.run("ops", *words, "--yes")
    assert ran.returncode == 1
    return str(ran.stderr)


def ca(cluster: Any) -> str:
    return Path(cluster.home, ".pgha", cluster.name, "ca.crt").read_text()


# ── the lead ────────────────────────────────────────────────────────────────────────────────────
def test_the_lead_moves_and_nothing_is_lost(seven: Any) -> None:
    leader, replica = seven.leader(), seven.replica()
    with seven.writes() as writes:
        done(seven, "switchover")
    assert seven.leader() == replica
    writes.nothing_lost(pause=SWITCHOVER_SECONDS)
    done(seven, "switchover", replica)  # which leads already
    assert seven.leader() == replica
    assert f"{replica} leads\n" in refused(seven, "failover", leader)
    assert "its data is the one that counts" in refused(seven, "reinit", replica)
    seven.in_sync()


def test_all_restart_one_by_one(seven: Any) -> None:
    since = "SELECT extract(epoch FROM pg_postmaster_start_time())::bigint"
    before = seven.answers("primary", since), seven.answers("replica", since)
    with seven.writes() as writes:
        done(seven, "restart")
    writes.nothing_lost(pause=SWITCHOVER_SECONDS)
    after = seven.answers("primary", since), seven.answers("replica", since)
    assert not set(before) & set(after)
    seven.in_sync()


def test_while_patroni_is_paused_nothing_fails_over(seven: Any, until: Any) -> None:
    leader = seven.leader()
    done(seven, "pause")
    assert seven.status()["patroni"]["paused"]
    assert "Patroni is paused" in refused(seven, "restart")
    signal = "pkill -{} -u postgres -fx '.*/postgres -D .*'"
    since = seven.on(leader, signal.format("STOP") + " && date +%s")
    told = (
        f"journalctl -u pgha-postgresql-watch -S @{since} -o cat | grep -q 'paused: does nothing'"
    )
    until(lambda: seven.try_on(leader, told).returncode == 0, 60)
    seven.on(leader, signal.format("CONT"))
    assert seven.answers("primary", "SELECT 1") == "1"
    seven.on(leader, signal.format("KILL"))
    done(seven, "resume")
    assert not seven.status()["patroni"]["paused"]
    until(lambda: seven.answers("primary", "SELECT 1") == "1", 60)


def test_a_replica_that_is_damaged_and_was_away_too_long_says_so_and_is_copied_anew(
    seven: Any, until: Any
) -> None:
    leader, replica = seven.leader(), seven.replica()
    seven.sql("CREATE TABLE pages AS SELECT generate_series(1, 1000) AS n")
    path = seven.sql("SELECT pg_relation_filepath('pages')")
    count = "SELECT count(*) FROM pages"
    seven.sql("CHECKPOINT")  # what is replayed from before it would mend the page
    until(lambda: seven.ask(replica, count).stdout == "1000\n", 30)
    keep = "-p max_slot_wal_keep_size=32MB -p wal_keep_size=0"
    seven.on(leader, f"patronictl -c /etc/patroni/config.yml edit-config --force {keep}")
    seven.on(replica, "systemctl stop patroni")
    damage = "dd if=/dev/urandom bs=64 count=1 seek=100 conv=notrunc status=none of="
    seven.on(replica, f"{damage}$(echo /var/lib/postgresql/17/*/{path})")
    seven.sql("CREATE TABLE much AS SELECT repeat('x', 500) AS t FROM generate_series(1, 200000)")
    until(lambda: _checkpointed(seven) == "lost", 60)
    seven.on(replica, "systemctl start patroni")
    told = f"pgha-build ops reinit {replica}"
    until(lambda: told in " ".join(seven.status()["ailments"]), 60)
    assert "invalid page in block 0" in seven.ask(replica, count).stderr
    with seven.writes() as writes:
        done(seven, "reinit", replica)
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    assert seven.ask(replica, count).stdout == "1000\n"
    seven.sql("DROP TABLE pages, much")
    seven.apply()
    seven.in_sync()


def _checkpointed(cluster: Any) -> Any:
    """What the leader then says of the WAL that its replica needs."""
    cluster.sql("SELECT pg_switch_wal()")
    cluster.sql("CHECKPOINT")
    return cluster.sql("SELECT wal_status FROM pg_replication_slots")


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────
def test_all_passwords_change_and_the_old_ones_open_nothing(seven: Any) -> None:
    passfile = Path(seven.home, ".pgha", seven.name, "pgpass")
    old = passfile.read_text()
    with seven.writes() as writes:
        done(seven, "rotate-passwords")
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    assert passfile.read_text() != old
    stale = Path(seven.home, "old-pgpass")
    stale.write_text(old)
    stale.chmod(0o600)
    uri = seven.uris["primary"]
    tried = seven.psql(re.sub(r"passfile=[^&]*", f"passfile={stale}", uri), "SELECT 1")
    assert "password authentication failed" in tried.stderr
    done(seven, "switchover")  # the members know each other's new passwords
    seven.in_sync()


def test_new_authorities_take_over_while_the_controller_is_killed_again_and_again(
    seven: Any,
) -> None:
    old = ca(seven)
    with seven.writes() as writes:
        for script in (1, 9, 6, 14, 3):
            words = ("ops", "rotate-certificates", "--new-ca", "--yes")
            ran = seven.run(*words, PGHA_FAULT=str(script))
            assert ran.returncode == KILLED, ran.stderr[-3000:]
            assert seven.psql(seven.uris["primary"], "SELECT 1").stdout == "1\n"
        done(seven, "rotate-certificates", "--new-ca")
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    assert ca(seven).count("BEGIN CERTIFICATE") == 1
    assert ca(seven) != old
    seven.in_sync()
    assert "is as its spec wants it" in seven.run("plan").stdout


def test_the_days_of_certificates_are_told(seven: Any) -> None:
    left = seven.status()["certificates"]
    assert set(left) == {*seven.hosts("etcd"), *seven.hosts("patroni")}
    assert {days > 300 for paths in left.values() for days in paths.values()} == {True}
    assert "the first to end has" in seven.run("status").stdout


# ── machines ────────────────────────────────────────────────────────────────────────────────────
def test_a_dead_leader_is_replaced_by_a_blank_machine(seven: Any, until: Any) -> None:
    leader = seven.leader()
    assert f"{leader} is not blank" in refused(seven, "replace", leader)
    with seven.writes() as writes:
        seven.run("lab", "wipe", leader)
        assert f"{leader} does not answer" in refused(seven, "replace", leader)
        seven.run("lab", "up")
        until(lambda: seven.status()["patroni"]["leader"] not in {leader, None}, 60)
        done(seven, "replace", leader)
    writes.nothing_lost(pause=45)
    seven.in_sync()


def test_replacing_is_refused_where_it_would_cost_quorum(seven: Any) -> None:
    members = seven.status()["etcd"]["members"]
    first, second, _ = sorted(members, key=lambda name: not members[name]["leader"])
    with seven.writes() as writes:
        seven.run("lab", "wipe", first)
        seven.run("lab", "up")
        seven.on(second, "systemctl stop etcd")
        try:
            assert "no quorum" in refused(seven, "replace", first)
        finally:
            seven.on(second, "systemctl start etcd")
        done(seven, "replace", first)
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    seven.in_sync()


_LOSES = "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/pgha"


def test_an_etcd_member_that_lost_its_data_joins_anew(seven: Any, until: Any) -> None:
    """It does not start without, also where nobody has stopped it."""
    with seven.writes() as writes:
        seven.on("etcd1", "mv /var/lib/etcd/pgha /var/lib/etcd/lost; systemctl kill -s KILL etcd")
        again = "[ $(systemctl show -P NRestarts etcd) -ge 2 ]"
        until(lambda: seven.try_on("etcd1", again).returncode == 0, 60)
        assert "pgha" not in seven.on("etcd1", "ls /var/lib/etcd").split()
        seven.apply()
        seven.on("etcd1", "rm -rf /var/lib/etcd/lost")
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    seven.in_sync()


def test_etcd_goes_on_with_the_one_member_that_is_left(seven: Any, until: Any) -> None:
    """Those that come back are told by it that they have been removed, and join as new ones."""
    with seven.writes() as writes:
        seven.run("machines", "kill", "etcd1")
        seven.run("machines", "kill", "etcd3")
        until(lambda: not seven.status()["etcd"]["quorum"], 60)
        done(seven, "recover-etcd")
        etcd = seven.status()["etcd"]
        assert (etcd["healthy"], etcd["quorum"]) == (1, True)
        seven.run("machines", "start", "etcd1")
        seven.run("machines", "start", "etcd3")
        for host in ("etcd1", "etcd3"):
            removed = "journalctl -b -u etcd | grep -q 'permanently removed from the cluster'"
            until(lambda h=host, what=removed: seven.try_on(h, what).returncode == 0, 60)
        seven.apply()
        assert "it is not lost" in refused(seven, "recover-etcd")
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    seven.in_sync()


def test_all_data_of_etcd_is_lost_and_the_leader_goes_on(seven: Any) -> None:
    leader, replica = seven.leader(), seven.replica()
    with seven.writes() as writes:
        for host in seven.hosts("etcd"):
            seven.on(host, _LOSES)
        apply = seven.run("apply", "--yes")
        assert apply.returncode == 1
        assert "ops recover-etcd" in apply.stderr
        assert not seven.status()["etcd"]["quorum"]
        assert "takes writes" in refused(seven, "recover-etcd", replica)
        done(seven, "recover-etcd")
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    assert seven.leader() == leader
    seven.in_sync()


def test_hosts_come_with_cluster_yml_and_go_with_it(seven: Any, until: Any) -> None:
    """Those that go are the leader, the holder of the address, and two of five etcd members."""
    before = seven.spec()
    last = {name: str(seven.network[40 + i]) for i, name in enumerate(("e4", "e5", "p3", "b3"))}
    roles = {"e4": ["etcd"], "e5": ["etcd"], "p3": ["patroni"], "b3": ["haproxy", "keepalived"]}
    more = {name: {"address": last[name], "roles": roles[name]} for name in last}
    seven.write({**before, "hosts": {**before["hosts"], **more}})
    seven.run("lab", "up")
    with seven.writes() as writes:
        seven.apply(seconds=600)
    writes.nothing_lost(pause=NO_PAUSE_SECONDS)
    seven.in_sync()
    assert len(seven.status()["etcd"]["members"]) == 5

    _make_it_lead(seven, "p3", until)
    _make_it_hold(seven, "b3", until)
    seven.write(before)
    costly = seven.run("apply", "--yes", "--max-impact", "restart")
    assert costly.returncode == 1
    assert "switchover of patroni on p3" in costly.stderr
    with seven.writes() as writes:
        seven.apply(seconds=600)
    writes.nothing_lost(pause=SWITCHOVER_SECONDS)
    seven.in_sync()
    status = seven.status()
    assert set(status["etcd"]["members"]) == {"etcd1", "etcd2", "etcd3"}
    assert set(status["patroni"]["members"]) == {"pg1", "pg2"}
    assert status["keepalived"]["holders"][0] in {"lb1", "lb2"}
    seven.run("lab", "up")  # takes the four away


def _make_it_lead(cluster: Any, name: str, until: Any) -> None:
    """Patroni lets the synchronous replica lead: for a moment it is the only one that there is."""
    (other,) = set(cluster.hosts("patroni")) - {name, cluster.leader()}
    cluster.on(other, "systemctl stop patroni")
    until(lambda: cluster.status()["patroni"]["members"][name]["role"] == "sync_standby", 60)
    cluster.on(other, "systemctl start patroni")
    until(lambda: cluster.run("status").returncode == 0, 120)
    done(cluster, "switchover", name)


def _make_it_hold(cluster: Any, name: str, until: Any) -> None:
    others = set(cluster.hosts("keepalived")) - {name}
    for verb in ("stop", "start"):
        for other in others:
            cluster.on(other, f"systemctl {verb} keepalived")
        until(lambda: cluster.status()["keepalived"]["holders"] == [name], 30)
    until(lambda: cluster.run("status").returncode == 0, 60)


# ── packages ────────────────────────────────────────────────────────────────────────────────────
NEWER = r"""
set -e
rm -rf /srv/newer && mkdir /srv/newer && cd /srv/newer
apt-get -qq update
apt-get -qq -o APT::Sandbox::User=root download "$1"
dpkg-deb -R ./*.deb unpacked
sed -i 's/^Version: .*/&+newer1/' unpacked/DEBIAN/control
rm ./*.deb
dpkg-deb -Znone -b unpacked new.deb >&2
rm -r unpacked
{
  dpkg-deb -f new.deb
  echo "Filename: ./new.deb"
  echo "Size: $(stat -c %s new.deb)"
  echo "SHA256: $(sha256sum new.deb | cut -d' ' -f1)"
} >Packages
echo 'deb [trusted=yes] file:/srv/newer ./' >/etc/apt/sources.list.d/newer.list
"""


def version(cluster: Any, host: str, package: str) -> str:
    return str(cluster.on(host, f"dpkg-query -W -f '${{Version}}' {package}"))


def test_newer_packages_come_in_order_and_a_pin_is_kept(seven: Any) -> None:
    before = seven.spec()
    newer = {"etcd1": "etcd-server", "etcd3": "etcd-server", "lb1": "haproxy", "lb2": "haproxy"}
    newer |= {"pg1": "postgresql-17", "pg2": "postgresql-17", "etcd2": "chrony"}
    for host, package in newer.items():
        seven.on(host, f"set -- {package}; {NEWER}")
    kept = version(seven, "etcd2", "chrony")
    seven.write({**before, "packages": {"versions": {"chrony": kept}}})
    since = "SELECT pg_postmaster_start_time()"
    started = seven.answers("primary", since)
    with seven.writes() as writes:
        ran = seven.run("ops", "update", "--yes", seconds=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    writes.nothing_lost(pause=SWITCHOVER_SECONDS)
    assert re.search(r"pg1 +postgresql-17 +(\S+) +→ +\1\+newer1\n", ran.stdout)
    for host, package in newer.items():
        assert version(seven, host, package).endswith("+newer1") == (package != "chrony")
    assert seven.answers("primary", since) != started
    seven.in_sync()
    again = seven.run("ops", "update", "--yes")
    assert "as new as its source has it" in again.stdout
    for host in newer:
        seven.on(host, "rm -r /srv/newer /etc/apt/sources.list.d/newer.list")


# ── interrupted ─────────────────────────────────────────────────────────────────────────────────
def after_every_step(cluster: Any, until: Any, *words: str) -> None:
    """The controller dies after its first script, after two, and so on; until one run ends."""
    for script in range(1, 40):
        ran = cluster.run("ops", *words, "--yes", seconds=600, PGHA_FAULT=str(script))
        if ran.returncode == 0:
            assert script > 1, "it was never killed"
            return
        assert ran.returncode == KILLED, ran.stderr[-3000:]
        until(lambda: cluster.psql(cluster.uris["primary"], "SELECT 1").returncode == 0, 15)
    raise AssertionError(f"{words}: still killed after {script} scripts")


def test_whoever_is_killed_after_any_step_goes_on_the_next_time(seven: Any, until: Any) -> None:
    with seven.writes() as writes:
        after_every_step(seven, until, "switchover", seven.replica())
        after_every_step(seven, until, "restart")
        after_every_step(seven, until, "reinit", seven.replica())
        after_every_step(seven, until, "rotate-passwords")
    writes.nothing_lost(pause=SWITCHOVER_SECONDS)
    seven.in_sync()


def test_a_replacement_that_is_killed_after_any_step_goes_on_the_next_time(
    seven: Any, until: Any
) -> None:
    replica = seven.replica()
    with seven.writes() as writes:
        seven.run("lab", "wipe", replica)
        seven.run("lab", "up")
        after_every_step(seven, until, "replace", replica)
    writes.nothing_lost(pause=REPLICA_LOST_SECONDS)
    seven.in_sync()


# ── what would lose data ────────────────────────────────────────────────────────────────────────
def test_what_would_lose_data_is_refused(seven: Any) -> None:
    before = seven.spec()
    other = {**before, "postgresql": {**before["postgresql"], "version": 16}}
    seven.write(other)
    said = seven.run("plan").stderr
    assert "cluster.yml says /var/lib/postgresql/16/" in said
    hosts = {
        name: {**host, "roles": [r for r in host["roles"] if r == "etcd"]}
        for name, host in before["hosts"].items()
    }
    seven.write({"hosts": hosts})
    said = seven.run("plan").stderr
    assert "no database host would be left" in said
    for role in ("patroni", "etcd"):
        seven.write(before)
        old = seven.hosts(role)
        hosts = {name: host for name, host in before["hosts"].items() if name not in old}
        other = {**hosts["lb1"], "roles": [*hosts["lb1"]["roles"], role]}
        seven.write({**before, "hosts": {**hosts, "lb1": other}})
        assert f"would leave at once: {', '.join(old)}" in seven.run("plan").stderr


# ── state ───────────────────────────────────────────────────────────────────────────────────────
def test_state_lists_shows_forgets_and_takes_over(seven: Any) -> None:
    address = "lb1/file:/etc/haproxy/haproxy.cfg"
    assert address in seven.run("state", "list", "lb1/*").stdout.split()
    seven.on("lb1", "echo '# by hand' >>/etc/haproxy/haproxy.cfg")
    shown = json.loads(seven.run("state", "show", address, "--json").stdout)
    assert shown["attributes"]["content"]["as_applied"] is False
    assert shown["attributes"]["mode"] == {"now": "0640", "as_applied": True}
    assert seven.document("plan", exit_code=2)["changes"][0]["drift"]
    assert seven.run("state", "import", address).returncode == 0
    wanted = seven.document("plan", exit_code=2)["changes"]
    assert (wanted[0]["address"], wanted[0]["drift"]) == (address, False)
    seven.apply()
    assert seven.run("state", "forget", address).returncode == 0
    assert address not in seven.run("state", "list").stdout.split()
    assert seven.run("state", "show", address).returncode == 1
    assert "nothing that is managed" in seven.run("state", "forget", "lb1/file:/x").stderr
    seven.apply()
    seven.in_sync()
    assert address in seven.run("state", "list").stdout.split()
