"""What `status` makes of answers of hosts that are not well."""

from __future__ import annotations

from pathlib import Path

from builder import registry
from builder.spec.read import read_spec

SPEC = """
name: orders
hosts:
  etcd1: {address: 10.0.0.11, roles: [etcd]}
  etcd2: {address: 10.0.0.12, roles: [etcd]}
  etcd3: {address: 10.0.0.13, roles: [etcd]}
"""


def test_an_alarm_of_etcd_is_named_with_what_clears_it(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yml"
    file.write_text(SPEC)
    said = (
        '[{"Status": {"header": {"member_id": 7, "revision": 40}, "leader": 7, '
        '"version": "3.5.16", "dbSize": 16777216}}]\n'
        "https://10.0.0.11:2379 is unhealthy: failed to commit proposal: Active Alarm(s): NOSPACE\n"
    )
    probe = registry.roles()["etcd"].status
    assert probe
    summary = probe.summarise(read_spec(file), {"etcd1": said})
    assert summary["members"]["etcd1"]["alarm"] == "NOSPACE"
    assert "ALARM NOSPACE (pgha-build ops defragment-etcd)" in "\n".join(probe.rows(summary))


def test_etcd_without_a_leader_is_told_not_stumbled_over(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yml"
    file.write_text(SPEC)
    alone = (
        '[{"Endpoint": "https://10.0.0.13:2379", "Status": {"header": {"member_id": 7}, '
        '"version": "3.5.16", "dbSize": 20480, "errors": ["etcdserver: no leader"]}}]\n'
        "https://10.0.0.13:2379 is unhealthy: failed to commit proposal"
    )
    probe = registry.roles()["etcd"].status
    assert probe
    summary = probe.summarise(read_spec(file), {"etcd1": "\n", "etcd3": alone})
    assert (summary["healthy"], summary["quorum"]) == (0, False)
    assert summary["members"]["etcd3"]["version"] == "3.5.16"
    assert not any(member["leader"] for member in summary["members"].values())
    assert probe.rows(summary)[0] == "0 of 3 healthy, NO QUORUM"
