"""The role etcd: a TLS cluster that refuses strangers and survives the loss of a member."""

from scenario import in_sync, on, pgha, status, until

ADDRESSES = {"e1": "10.93.2.11", "e2": "10.93.2.12"}
TLS = "/etc/etcd/tls"
TRUST = f"--cacert={TLS}/client-ca.crt "
OURS = f"--cert={TLS}/client.crt --key={TLS}/client.key "


def ctl(host, words, *, identity=OURS, check=True):
    """Of the member on that host, and no other."""
    command = f"ETCDCTL_API=3 etcdctl --endpoints=https://{ADDRESSES[host]}:2379 "
    return on(host, f"{command}--command-timeout=5s {TRUST}{identity}{words}", check=check)


def test_a_key_is_written_and_read_over_tls():
    ctl("e1", "put greeting hello")
    assert ctl("e2", "get greeting --print-value-only") == "hello"


def test_who_has_no_certificate_is_refused():
    """The client may lose its connection before it reads why; the member's log says it."""
    assert ctl("e1", "get greeting --print-value-only", identity="", check=False) == ""
    why = "client didn't provide a certificate"
    until(lambda: why in on("e1", "journalctl -q -o cat -n 100 -u etcd"), "etcd says why", 10)


def test_a_member_may_be_lost():
    pgha("machines", "kill", "e3")
    try:
        put = "put greeting survived"  # the lost one may have been the leader
        until(lambda: ctl("e1", put, check=False) == "OK", "etcd takes a write", 15)
        assert ctl("e2", "get greeting --print-value-only") == "survived"
    finally:
        pgha("machines", "start", "e3")
    until(lambda: status()["etcd"]["healthy"] == 3, "all three are healthy", 60)
    in_sync()
