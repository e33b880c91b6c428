"""The assembled cluster: failover under write traffic, proven by the drill on itself."""

import json

from scenario import in_sync, pgha, psql


def test_the_cluster_answers_on_both_sides():
    assert psql("primary", "select pg_is_in_recovery()").stdout == "f\n"
    assert psql("replica", "select pg_is_in_recovery()").stdout == "t\n"


def test_no_acknowledged_write_is_lost_when_hosts_die():
    done = pgha(
        "drill",
        "host-power-off",
        "balancer-power-off",
        "--yes",
        "--json",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)


def test_nothing_is_left_to_do():
    in_sync()
