"""The assembled cluster: failover under write traffic, proven by the drill on itself."""

import json

import pytest
from scenario import in_sync, pgha, psql, status, there, until

UNITS = {
    **dict.fromkeys(("etcd1", "etcd2", "etcd3"), ("etcd",)),
    **dict.fromkeys(("pg1", "pg2"), ("patroni",)),
    **dict.fromkeys(("lb1", "lb2"), ("haproxy", "keepalived")),
}


@pytest.mark.parametrize("host", UNITS)
def test_what_a_host_is_for_runs_and_starts_with_it(host):
    for unit in UNITS[host]:
        assert there(host).service(unit).is_running
        assert there(host).service(unit).is_enabled


def test_the_cluster_answers_on_both_sides():
    assert psql("primary", "select pg_is_in_recovery()").stdout == "f\n"
    assert psql("replica", "select pg_is_in_recovery()").stdout == "t\n"


def test_no_acknowledged_write_is_lost_when_hosts_die():
    until(lambda: not status()["ailments"], "the cluster is whole", 60)
    faults = ["host-power-off", "balancer-power-off"]
    done = pgha("drill", *faults, "--yes", "--json", check=False, seconds=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    leader_off, balancer_off = json.loads(done.stdout)["drills"]
    assert [leader_off["name"], balancer_off["name"]] == faults
    assert leader_off["writes_lost"] == balancer_off["writes_lost"] == []
    assert len(leader_off["timelines"]) == 2


def test_nothing_is_left_to_do():
    in_sync()
