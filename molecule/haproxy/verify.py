"""The role haproxy: the primary port leads to the leader, the replica port takes no write."""

import csv

from scenario import in_sync, on, psql, roles, there, until

WRITE = "insert into t values (1) returning host(inet_server_addr())"


def sessions():
    """How many sessions each server got on each side, by HAProxy's own counters."""
    said = on("e1", "curl -fsS 'http://127.0.0.1:8404/stats;csv'").removeprefix("# ")
    rows = [row for row in csv.DictReader(said.splitlines()) if row["svname"].startswith("pg")]
    return {(row["pxname"], row["svname"]): int(row["stot"]) for row in rows}


def test_it_runs_and_starts_with_its_host():
    assert there("e1").service("haproxy").is_running
    assert there("e1").service("haproxy").is_enabled
    assert there("e1").file("/etc/haproxy/haproxy.cfg").mode & 0o007 == 0


def test_no_connection_lands_on_the_wrong_side():
    assert {psql("primary", "select pg_is_in_recovery()").stdout for _ in range(25)} == {"f\n"}
    assert {psql("replica", "select pg_is_in_recovery()").stdout for _ in range(25)} == {"t\n"}


def test_the_replica_never_gets_a_write():
    """HAProxy sends none there; and whoever writes through the replica port is refused."""
    leader, (replica,) = roles()
    assert psql("primary", "create table if not exists t (i int)").returncode == 0
    before = sessions()
    assert {psql("primary", WRITE).returncode for _ in range(25)} == {0}
    after = sessions()
    assert after["primary", leader] - before["primary", leader] == 25
    assert after["primary", replica] == before["primary", replica]
    assert after["replica", leader] == before["replica", leader]
    assert "read-only transaction" in psql("replica", WRITE).stderr


def test_health_state_and_metrics_answer():
    for path in ("healthy", "metrics", "stats"):
        assert (
            on("e1", f"curl -fsS -o /dev/null -w '%{{http_code}}' http://127.0.0.1:8404/{path}")
            == "200"
        )


def test_the_primary_port_follows_a_switchover():
    """Whoever writes meanwhile is answered by the old leader, then by nobody, then by the new."""
    leader, _ = roles()
    old = psql("primary", WRITE).stdout
    command = f"patronictl -c /etc/patroni/config.yml switchover --leader {leader} --force"
    on(leader, f"systemd-run --quiet --collect {command}")
    seen = [old]

    def another_answers():
        done = psql("primary", WRITE)
        seen.extend([done.stdout] if done.returncode == 0 else [])
        return seen[-1] != old

    until(another_answers, "the new leader takes a write", 30)
    moved = len(seen)
    until(lambda: another_answers() and len(seen) > moved + 10, "ten more writes are taken", 60)
    assert len(set(seen)) == 2
    assert old not in seen[moved:]
    until(lambda: psql("replica", "select pg_is_in_recovery()").stdout == "t\n", "reads go on", 30)
    assert roles()[0] not in {leader, None}
    in_sync()
