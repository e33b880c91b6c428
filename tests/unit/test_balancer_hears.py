"""A balancer that hears nobody gives the address up; one that is merely left alone does not."""

from __future__ import annotations

from typing import Any

from builder import registry
from builder.engine.desired import present
from roles.haproxy.settings import witnesses


def shared(*names: str, haproxy: str = "") -> str:
    """Three hosts with etcd, and database hosts that are balancers, too."""
    hosts = [f"  e{n}: {{address: 10.0.0.1{n}, roles: [etcd]}}" for n in (1, 2, 3)]
    for n, name in enumerate(names, 21):
        hosts.append(f"  {name}: {{address: 10.0.0.{n}, roles: [patroni, haproxy, keepalived]}}")
    address = "keepalived: {virtual_ip: 10.0.0.100/24}"
    return "\n".join(["name: orders", "hosts:", *hosts, address, f"haproxy: {{{haproxy}}}", ""])


def heard(spec: Any, host: str) -> set[str]:
    return {f"{w.role}-{w.host}" for w in witnesses(spec, spec.hosts[host])}


def promised(spec: Any) -> set[str]:
    return {p.fault for role in present(spec, registry.roles()) for p in role.promises(spec)}


def test_database_hosts_and_the_other_balancer_show_that_one_hears(world: Any) -> None:
    spec = world("seven").spec
    assert heard(spec, "lb1") == {"patroni-pg1", "patroni-pg2", "haproxy-lb2"}
    assert "balancer deaf" in promised(spec)


def test_where_the_only_other_host_may_be_off_nobody_is_taken_for_deaf(world_of: Any) -> None:
    spec = world_of(shared("a", "b")).spec
    assert heard(spec, "a") == set()
    assert "balancer deaf" not in promised(spec)
    assert heard(world_of(shared("a", "b", "c")).spec, "a") == {
        "patroni-b",
        "patroni-c",
        "haproxy-b",
        "haproxy-c",
    }


def test_who_may_connect_is_said_to_haproxy_too(world_of: Any) -> None:
    """The packet filter may be somebody else's."""
    spec = shared("a", "b", haproxy="clients: [10.9.0.0/16]")
    config = world_of(spec)["a/file:/etc/haproxy/haproxy.cfg"].content.decode()
    allowed = ("10.9.0.0/16", "127.0.0.0/8", "10.0.0.100", "10.0.0.21", "10.0.0.22")
    lines = "".join(f"    acl allowed src {network}\n" for network in allowed)
    assert config.count(f"{lines}    tcp-request connection reject unless allowed\n") == 2
    to_all = world_of(shared("a", "b"))["a/file:/etc/haproxy/haproxy.cfg"].content
    assert to_all.count(b"tcp-request connection reject") == 1
    assert to_all.index(b"tcp-request") > to_all.index(b"frontend state")  # never its own state
