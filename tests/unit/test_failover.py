"""What the timings of a cluster.yml are, and the outage that follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.spec.model import ClusterSpec
from builder.spec.read import read_spec
from roles._failover import promises
from roles.patroni.dynamic import dynamic_config

HOSTS = """
name: orders
hosts:
  etcd1: {address: 10.0.0.11, roles: [etcd]}
  pg1: {address: 10.0.0.21, roles: [patroni]}
  pg2: {address: 10.0.0.22, roles: [patroni]}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    return tmp_path / "cluster.yml"


def read(file: Path, *, synchronous: bool) -> ClusterSpec:
    file.write_text(f"{HOSTS}failover: {{synchronous: {str(synchronous).lower()}}}\n")
    return read_spec(file)


def crashed(spec: ClusterSpec) -> float:
    return next(p.seconds for p in promises(spec) if p.fault == "PostgreSQL crashed")


def test_a_crash_fails_over_at_once_only_where_the_replica_lacks_nothing(cluster: Path) -> None:
    safe = dynamic_config(read(cluster, synchronous=True))
    assert (safe["synchronous_mode"], safe["primary_start_timeout"]) == (True, 0)
    lossy = dynamic_config(read(cluster, synchronous=False))
    assert (lossy["synchronous_mode"], lossy["primary_start_timeout"]) == (False, 20)


def test_the_promise_counts_the_time_to_start_again_and_the_loop_that_sees_it(
    cluster: Path,
) -> None:
    at_once = crashed(read(cluster, synchronous=True))
    assert at_once == 8.5
    assert crashed(read(cluster, synchronous=False)) == at_once + 20 + 5
