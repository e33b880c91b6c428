"""The role etcd: a TLS cluster that refuses strangers and survives the loss of a member."""

from scenario import in_sync, on, pgha, there, tried, until

ADDRESSES = {"e1": "10.93.2.11", "e2": "10.93.2.12", "e3": "10.93.2.13"}
TLS = "/etc/etcd/tls"
TRUST = f"--cacert={TLS}/client-ca.crt "
OURS = f"--cert={TLS}/client.crt --key={TLS}/client.key "


def ctl(host, words, *, identity=OURS, ask=on):
    """Of the member on that host, and no other."""
    command = f"ETCDCTL_API=3 etcdctl --endpoints=https://{ADDRESSES[host]}:2379 "
    return ask(host, f"{command}--command-timeout=5s {TRUST}{identity}{words}")


def test_each_member_runs_and_starts_with_its_host():
    for host, address in ADDRESSES.items():
        assert there(host).service("etcd").is_running
        assert there(host).service("etcd").is_enabled
        assert there(host).socket(f"tcp://{address}:2379").is_listening


def test_nobody_else_reads_its_keys():
    for name in ("peer", "server", "client"):
        assert there("e1").file(f"{TLS}/{name}.key").mode & 0o007 == 0
    assert there("e1").file("/var/lib/etcd").mode == 0o700


def test_a_key_is_written_and_read_over_tls():
    ctl("e1", "put greeting hello")
    assert ctl("e2", "get greeting --print-value-only") == "hello"


def test_who_has_no_certificate_is_refused():
    """The client may lose its connection before it reads why; the member's log says it."""
    assert ctl("e1", "get greeting --print-value-only", identity="", ask=tried) == ""
    why = "client didn't provide a certificate"
    until(lambda: why in on("e1", "journalctl -q -o cat -n 100 -u etcd"), "etcd says why", 10)


def test_a_member_may_be_lost():
    pgha("machines", "kill", "e3")
    try:
        put = "put greeting survived"  # the lost one may have been the leader
        until(lambda: ctl("e1", put, ask=tried) == "OK", "etcd takes a write", 15)
        assert ctl("e2", "get greeting --print-value-only") == "survived"
    finally:
        pgha("machines", "start", "e3")
    read = "get greeting --print-value-only"
    until(lambda: ctl("e3", read, ask=tried) == "survived", "the third has it, too", 60)
    in_sync()
