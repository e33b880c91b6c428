"""The lock of the hosts: when it is lost, and when a host that is down is none of its business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from builder.engine.lock import Lock, locked
from builder.errors import LockedError


@dataclass
class FakeHeld:
    first_line: str = "ours"
    lost: bool = False
    reachable: bool = True
    released: bool = False

    def release(self) -> None:
        self.released = True


@dataclass
class Host:
    held: FakeHeld

    def hold(self, script: str, *, timeout_seconds: float) -> FakeHeld:
        assert "flock" in script
        return self.held


HELD = {"lost": False}
ENDED = {"lost": True, "reachable": True}
DOWN = {"lost": True, "reachable": False}


@pytest.mark.parametrize(
    ("states", "lost_on"),
    [
        ([HELD, HELD, HELD], None),
        ([HELD, ENDED, HELD], "b"),
        ([HELD, DOWN, HELD], None),
        ([HELD, DOWN], None),
        ([DOWN, DOWN, HELD], "a, b"),
        ([DOWN, ENDED, HELD], "b"),
        ([ENDED, ENDED, ENDED], "a, b, c"),
        ([DOWN], "a"),
        ([], None),
    ],
    ids=[
        "held", "ended", "one is down", "one of two is down", "most are down",
        "down and ended", "asleep", "the only one", "nobody answers",
    ],
)  # fmt: skip
def test_a_lock_is_lost_where_a_host_still_answers_or_on_most_hosts(
    states: list[dict[str, bool]], lost_on: str | None
) -> None:
    helds = {host: FakeHeld(**state) for host, state in zip("abc", states, strict=False)}
    lock = Lock(helds)
    if lost_on is None:
        assert lock.loss() is None
        lock.refuse_lost()
        return
    with pytest.raises(LockedError, match=f"the lock was lost on {lost_on}\n") as refused:
        lock.refuse_lost()
    assert "What was done is kept" in refused.value.do


def test_it_is_held_on_all_hosts_and_given_back() -> None:
    hosts: Any = {host: Host(FakeHeld()) for host in "abc"}
    with locked(hosts, "apply") as lock:
        assert lock.loss() is None
        hosts["b"].held.lost = True
        assert lock.loss() is not None
    assert all(host.held.released for host in hosts.values())


def test_where_somebody_else_has_it_all_are_given_back() -> None:
    hosts: Any = {"a": Host(FakeHeld()), "b": Host(FakeHeld(first_line="held ann@desk"))}
    with pytest.raises(LockedError, match="b is locked by ann@desk"), locked(hosts, "apply"):
        pass
    assert all(host.held.released for host in hosts.values())
