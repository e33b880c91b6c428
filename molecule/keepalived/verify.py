"""The role keepalived: one holder, always; a balancer that hangs or dies loses the address."""

from scenario import in_sync, on, pgha, status, until


def holders():
    return status()["keepalived"]["holders"]


def test_exactly_one_has_the_address():
    until(lambda: len(holders()) == 1, "one holds the address", 15)


def test_the_address_leaves_a_balancer_that_hangs():
    (first,) = holders()
    pid = "$(systemctl show -P MainPID haproxy)"
    stop = f"for p in {pid} $(cat /proc/{pid}/task/*/children); do kill -{{}} $p; done"
    on(first, stop.format("STOP"))
    try:
        until(lambda: holders() and holders() != [first], "the other has it", 20)
        assert len(holders()) == 1
    finally:
        on(first, stop.format("CONT"))
    until(lambda: len(holders()) == 1, "one holds the address", 15)


def test_a_dead_balancer_loses_it_and_does_not_take_it_back():
    (first,) = holders()
    pgha("machines", "kill", first)
    try:
        until(lambda: holders() and holders() != [first], "the other has it", 20)
        second = holders()
    finally:
        pgha("machines", "start", first)
    until(lambda: first in status()["keepalived"]["running"], "it is back", 60)
    assert holders() == second
    in_sync()
