"""The role system: names, a packet filter that closes only our ports, no foreign restarts."""

from scenario import in_sync, on, there, tried


def test_hosts_know_each_other_by_name():
    assert there("two").addr("one").ipv4_addresses == ["10.93.1.11"]


def test_a_port_of_the_cluster_is_closed_to_a_host_without_business_there():
    assert there("one").socket("tcp://10.93.1.11:2379").is_listening
    assert there("one").addr("10.93.1.11").port(2379).is_reachable
    seen_from_two = there("two").addr("10.93.1.11")
    assert not seen_from_two.port(2379).is_reachable
    assert seen_from_two.port(22).is_reachable


def test_the_time_is_kept():
    """Not on lab hosts, which have that of the machine they are on: the unit's own condition."""
    assert there("one").service("chrony").is_enabled


def test_kernel_parameters_are_set():
    assert there("one").sysctl("net.ipv4.tcp_keepalive_time") == 60


def test_no_package_may_restart_our_units():
    ask = "/usr/sbin/policy-rc.d {} restart; echo $?"
    assert on("one", ask.format("etcd.service")) == "101"
    assert on("one", ask.format("cron.service")) == "0"


def test_a_flushed_table_comes_back_with_its_unit_which_is_enabled():
    assert there("one").service("pgha-nftables").is_enabled
    on("one", "nft delete table inet pgha")
    assert tried("one", "nft list table inet pgha") == ""
    on("one", "systemctl restart pgha-nftables")
    assert "dport 2379" in on("one", "nft list table inet pgha")
    in_sync()
