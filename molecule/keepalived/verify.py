"""The role keepalived: one holder, always; a balancer that hangs or dies loses the address."""

import time

from scenario import PATIENCE, in_sync, on, pgha, there, tried, until

ADDRESS = " 10.93.5.100/24 "


def holders():
    return [host for host in ("lb1", "lb2") if ADDRESS in on(host, "ip -o address")]


def test_both_run_and_exactly_one_has_the_address():
    for host in ("lb1", "lb2"):
        assert there(host).service("keepalived").is_running
        assert there(host).service("keepalived").is_enabled
    until(lambda: len(holders()) == 1, "one holds the address", 15)


def stays_with(host, seconds):
    """What would take it back does so within a few seconds on lab hosts."""
    end = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < end:
        assert holders() == [host]


def moved_to(host, seconds):
    until(lambda: holders() == [host], f"{host} has the address", seconds)


def test_the_address_leaves_a_balancer_that_hangs_and_does_not_go_back():
    """lb1 has the higher priority: it would take the address back if it were asked to."""
    if holders() != ["lb1"]:
        on("lb2", "systemctl restart keepalived")
        moved_to("lb1", 15)
    pid = "$(systemctl show -P MainPID haproxy)"
    stop = f"for p in {pid} $(cat /proc/{pid}/task/*/children); do kill -{{}} $p; done"
    on("lb1", stop.format("STOP"))
    try:
        moved_to("lb2", 10)  # the drill measures it
    finally:
        on("lb1", stop.format("CONT"))
    stays_with("lb2", 8)


def test_a_dead_balancer_loses_it_and_does_not_take_it_back():
    on("lb2", "systemctl restart keepalived")
    moved_to("lb1", 15)
    pgha("machines", "kill", "lb1")
    try:
        until(lambda: ADDRESS in on("lb2", "ip -o address"), "lb2 has the address", 15)
    finally:
        pgha("machines", "start", "lb1")
    back = "systemctl is-active keepalived"
    until(lambda: tried("lb1", back) == "active", "it is back", 60)
    stays_with("lb2", 8)
    in_sync()
