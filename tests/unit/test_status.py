"""What `status` makes of answers of hosts that are not well."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import registry
from builder.health import ailments
from builder.spec.read import read_spec
from tests.unit.folders import played
from tests.unit.test_failover import HOSTS

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
    assert (summary["healthy"], summary["quorum"]) == (0, True), "it is not lost: reads are agreed"


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


JOURNAL = """FATAL:  could not receive data from WAL stream: \
ERROR:  requested WAL segment 000000010000000000000003 has already been removed"""


@pytest.mark.parametrize(
    ("own", "journal", "lacks"),
    [
        ('{"role": "replica", "state": "running"}', JOURNAL, True),
        ('{"role": "replica", "state": "running"}', "waiting for WAL", False),
        ('{"role": "replica", "replication_state": "streaming"}', JOURNAL, False),
        ('{"role": "primary", "state": "running"}', JOURNAL, False),
    ],
)
def test_a_replica_whose_leader_has_dropped_its_wal_is_known(
    own: str, journal: str, lacks: bool, tmp_path: Path
) -> None:
    """Asked as `status` asks, with curl and journalctl of our own."""
    spec = read_spec(_written(tmp_path))
    probe = registry.roles()["patroni"].status
    assert probe
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\necho '{journal}'\n")
    (tmp_path / "journalctl").chmod(0o755)
    script = probe.script(spec, spec.hosts["pg1"])
    said = played(tmp_path, f"echo '{own}'", script.replace("/var/lib/postgresql", str(tmp_path)))
    summary = probe.summarise(spec, {"pg1": said.stdout})
    assert summary["members"]["pg1"]["lacks_wal"] is lacks


_FAILSAFE = '"state": "running", "timeline": 3, "failsafe_mode_is_active": true'
_SENT = '"replication": [{"application_name": "pg2", "sync_state": "sync"}]'


def test_without_etcd_it_is_told_what_the_members_say_of_themselves(tmp_path: Path) -> None:
    spec = read_spec(_written(tmp_path))
    probe = registry.roles()["patroni"].status
    assert probe
    leads = f'\n{{"role": "primary", {_FAILSAFE}, {_SENT}}}'
    follows = f'\n{{"role": "replica", {_FAILSAFE}, "replication_state": "streaming"}}'
    summary = probe.summarise(spec, {"pg1": leads, "pg2": follows})
    told = [(m["role"], m["state"], m["timeline"]) for m in summary["members"].values()]
    assert told == [("leader", "running", 3), ("sync_standby", "streaming", 3)]
    assert probe.rows(summary)[0] == "leader pg1, in failsafe mode"
    wrong = ailments(spec, {"unreachable": {}, "patroni": summary})
    assert wrong == ["PostgreSQL goes on without etcd: restart neither it nor Patroni"]


def _written(folder: Path) -> Path:
    file = folder / "cluster.yml"
    file.write_text(HOSTS)
    return file
