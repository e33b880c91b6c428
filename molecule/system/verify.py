"""The role system: names, a packet filter that closes only our ports, no foreign restarts."""

from scenario import in_sync, on


def test_hosts_know_each_other_by_name():
    assert on("two", "getent hosts one").startswith("10.93.1.11")


def test_a_port_of_the_cluster_is_closed_to_a_host_without_business_there():
    open_port = "timeout 3 bash -c '</dev/tcp/10.93.1.11/{}' && echo open || echo closed"
    assert on("two", open_port.format(2379)) == "closed"
    assert on("one", open_port.format(2379)) == "open"
    assert on("two", open_port.format(22)) == "open"


def test_kernel_parameters_are_set():
    assert on("one", "cat /proc/sys/net/ipv4/tcp_keepalive_time") == "60"


def test_no_package_may_restart_our_units():
    ask = "/usr/sbin/policy-rc.d {} restart; echo $?"
    assert on("one", ask.format("etcd.service")) == "101"
    assert on("one", ask.format("cron.service")) == "0"


def test_a_flushed_table_comes_back_with_its_unit_which_is_enabled():
    assert on("one", "systemctl is-enabled pgha-nftables") == "enabled"
    on("one", "nft delete table inet pgha; systemctl restart pgha-nftables")
    assert "dport 2379" in on("one", "nft list table inet pgha")
    in_sync()
