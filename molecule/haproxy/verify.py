"""The role haproxy: the primary port leads to the leader, the replica port takes no write."""

from scenario import in_sync, on, psql, status, until


def test_no_connection_lands_on_the_wrong_side():
    assert {psql("primary", "select pg_is_in_recovery()").stdout for _ in range(25)} == {"f\n"}
    assert {psql("replica", "select pg_is_in_recovery()").stdout for _ in range(25)} == {"t\n"}


def test_the_replica_never_gets_a_write():
    assert psql("primary", "create table if not exists t (i int)").returncode == 0
    refused = psql("replica", "insert into t values (1)")
    assert "read-only transaction" in refused.stderr


def test_health_state_and_metrics_answer():
    for path in ("healthy", "metrics", "stats"):
        assert (
            on("e1", f"curl -fsS -o /dev/null -w '%{{http_code}}' http://127.0.0.1:8404/{path}")
            == "200"
        )


def test_the_primary_port_follows_a_switchover():
    leader = status()["patroni"]["leader"]
    on(leader, f"patronictl -c /etc/patroni/config.yml switchover --leader {leader} --force")
    until(lambda: psql("primary", "insert into t values (2)").returncode == 0, "writes go on", 15)
    assert psql("primary", "select pg_is_in_recovery()").stdout == "f\n"
    until(lambda: psql("replica", "select pg_is_in_recovery()").stdout == "t\n", "reads go on", 30)
    in_sync()
