"""The role etcd: a TLS cluster that refuses strangers and survives the loss of a member."""

from scenario import in_sync, on, pgha, status, until

CTL = "ETCDCTL_API=3 etcdctl --endpoints=https://10.93.2.11:2379 --command-timeout=5s "
TLS = "/etc/etcd/tls"
OURS = f"--cacert={TLS}/client-ca.crt --cert={TLS}/client.crt --key={TLS}/client.key "


def test_a_key_is_written_and_read_over_tls():
    on("e1", f"{CTL}{OURS} put greeting hello")
    assert on("e2", f"{CTL}{OURS} get greeting --print-value-only") == "hello"


def test_who_has_no_certificate_is_refused():
    without = f"{CTL}--cacert={TLS}/client-ca.crt"
    said = on("e1", f"{without} get greeting 2>&1", check=False)
    assert "certificate required" in said or "bad certificate" in said, said


def test_a_member_may_be_lost():
    pgha("machines", "kill", "e3")
    try:
        put = f"{CTL}{OURS} put greeting survived"  # it may have been the leader
        until(lambda: on("e1", put, check=False) == "OK", "etcd takes a write", 15)
        assert on("e2", f"{CTL}{OURS} get greeting --print-value-only") == "survived"
    finally:
        pgha("machines", "start", "e3")
    until(lambda: status()["etcd"]["healthy"] == 3, "all three are healthy", 60)
    in_sync()
