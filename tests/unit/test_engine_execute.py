"""Plans carried out for real, on hosts that are folders (`tests.unit.folders`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from builder import registry
from builder.engine import manifest as manifests
from builder.engine.execute import Apply, Result
from builder.engine.observe import Look
from builder.engine.plan import make_plan
from builder.errors import CommandTimeout, LockedError, TransportError
from builder.resources.base import Action, Change, Impact, Resource, Unknown
from builder.resources.directory import Directory
from builder.resources.file import File
from builder.resources.gate import Gate
from builder.resources.unit import Unit
from tests.unit.folders import OWN, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, ["a", "b", "c"])


def addresses(result: Result) -> list[str]:
    return [change.address for change in result.done]


def in_sync(site: Site, wanted: Sequence[Resource]) -> bool:
    plan = site.plan(wanted)
    return not plan.differences and plan.exit_code == 0


# ── twice ───────────────────────────────────────────────────────────────────────────────────────
def test_what_was_applied_is_there_and_a_second_apply_changes_nothing(site: Site) -> None:
    folder = Directory(hosts=("a",), name=str(site.path("a", "d")), mode="0750", **OWN)
    wanted = [site.file("a", "d/f", mode="0600"), folder, site.file("b", "g")]
    first = site.apply(wanted)
    assert (first.exit_code, len(first.done)) == (0, 3)
    assert site.path("a", "d/f").read_bytes() == b"x\n"
    assert in_sync(site, wanted)
    before = [(p, p.stat().st_mtime_ns) for h in "ab" for p in site.hosts[h].folder.rglob("*.json")]
    assert site.apply(wanted).done == []
    assert before == [(p, p.stat().st_mtime_ns) for p, _ in before], "nothing was written"


def test_what_left_the_spec_leaves_the_hosts_and_their_memory(site: Site) -> None:
    folder = Directory(hosts=("a",), name=str(site.path("a", "d")), **OWN)
    inner = site.file("a", "d/f")
    unit = Unit(hosts=("a",), name="u.service", reload_on=(inner.address,))
    kept = site.file("a", "kept")
    site.hosts["a"].folder.joinpath("units/u.service").write_text("ActiveState=inactive\n")
    assert site.apply([folder, inner, unit, kept]).exit_code == 0
    result = site.apply([kept])
    assert result.exit_code == 0, result.failed
    assert addresses(result) == [unit.address, inner.address, folder.address]
    assert not site.path("a", "d").exists()
    assert list(site.looks([kept])["a"].manifest.entries) == [kept.address]
    assert in_sync(site, [kept])


# ── order ───────────────────────────────────────────────────────────────────────────────────────
def test_a_gate_is_waited_for_across_hosts(site: Site) -> None:
    """b writes only when a gate on a holds, which needs what a and c write."""
    first, third = site.file("a", "f"), site.file("c", "f")
    both = f"[ -e {first.name} ] && [ -e {third.name} ]"
    gate = Gate(hosts=("a", "c"), name="g", what="", condition=both, timeout_seconds=10,
                needs=(first.address, third.address))  # fmt: skip
    behind = site.file("b", "f", needs=(gate.address,), check=("sh", "-c", both, "{}"))
    result = site.apply([behind, gate, first, third])
    assert result.exit_code == 0, result.failed
    assert addresses(result)[-2:] == [gate.address, behind.address]


def rolling(site: Site, hosts: Sequence[str], **more: Any) -> list[Resource]:
    wanted: list[Resource] = []
    for host in hosts:
        config = site.file(host, "config")
        unit = Unit(
            hosts=(host,), name="u.service", restart_on=(config.address,), group="g", **more
        )
        wanted += [config, unit]
    return wanted


def with_config(wanted: Sequence[Resource], content: bytes) -> list[Resource]:
    return [replace(r, content=content) if isinstance(r, File) else r for r in wanted]


def started(site: Site, wanted: Sequence[Resource]) -> None:
    for host in site.hosts.values():
        (host.folder / "units/u.service").write_text("ActiveState=active\nUnitFileState=enabled\n")
    assert site.apply(wanted).exit_code == 0
    site.log.write_text("")


class AtOnce(File):
    """Stands for a role: who could look at it can change it."""

    kind: ClassVar[str] = "quick"
    late: ClassVar[bool] = True
    at_once: ClassVar[bool] = True


@pytest.mark.parametrize("fails", [False, True])
def test_a_restart_comes_behind_what_is_mended_first_whether_that_succeeds_or_not(
    fails: bool, site: Site
) -> None:
    check = ("sh", "-c", "exit 1") if fails else ()
    gate = Gate(hosts=("a",), name="g", what="", condition="true", needs=("b/unit:u.service",))
    quick = AtOnce(hosts=("a",), name=str(site.path("a", "q")), content=b"old\n",
                   needs=(gate.address,), **OWN)  # fmt: skip
    wanted = [*rolling(site, "b", mended_first=(quick.address,)), gate, quick]
    started(site, wanted)
    new = [
        replace(r, check=check) if isinstance(r, AtOnce) else r
        for r in with_config(wanted, b"new\n")
    ]
    result = site.apply(new)
    over = [*addresses(result), *(failure.address for failure in result.failed)]
    assert (result.exit_code, quick.address in addresses(result)) == (int(fails), not fails)
    assert {"b/unit:u.service", gate.address, quick.address} <= {*over}
    if not fails:
        assert over.index(quick.address) < over.index("b/unit:u.service")


def test_of_a_rolling_group_one_member_is_down_at_a_time(site: Site) -> None:
    wanted = rolling(site, "abc")
    started(site, wanted)
    assert site.apply(with_config(wanted, b"new\n")).exit_code == 0
    events = [line.split()[:2] for line in site.said() if "restart" in line]
    assert len(events) == 6
    for begin, end in zip(events[::2], events[1::2], strict=True):
        assert (begin[1], end[1], begin[0]) == ("begin", "end", end[0])


def led_by(site: Site, leader: str, wanted: Sequence[Resource]) -> list[Resource]:
    """Units that tell who leads, and that they were asked."""

    def last(host: str) -> str:
        return f"echo '{host} asked' >>{site.log}; echo {int(host == leader)}"

    return [replace(r, last=last(r.hosts[0])) if isinstance(r, Unit) else r for r in wanted]


def restarted(site: Site) -> list[str]:
    return [line.split()[0] for line in site.said() if "begin restart" in line]


@pytest.mark.parametrize(
    ("leader", "order"), [("a", ["b", "c", "a"]), ("b", ["a", "c", "b"]), ("c", ["a", "b", "c"])]
)
def test_whoever_leads_is_last(site: Site, leader: str, order: list[str]) -> None:
    wanted = led_by(site, leader, rolling(site, "abc"))
    started(site, wanted)
    assert site.apply(with_config(wanted, b"new\n")).exit_code == 0
    assert restarted(site) == order
    said = site.said()
    asked = [at for at, line in enumerate(said) if line.endswith("asked")]
    ended = [at for at, line in enumerate(said) if "end restart" in line]
    assert len(asked) >= 3 + 2, "at each turn"
    assert asked[-1] < ended[1], "not for the only one that is left"


@pytest.mark.parametrize("leader", ["a", "b", "c"])
def test_whoever_leads_is_last_also_where_all_wait_for_what_one_of_them_does(
    site: Site, leader: str
) -> None:
    """A gate is passed by one host, and that may be the leader's."""
    gate = Gate(
        hosts=(leader, *sorted({*"abc"} - {leader})), name="g", what="", condition=":", needs=()
    )
    wanted = led_by(site, leader, rolling(site, "abc", needs=(gate.address,)))
    started(site, [gate, *wanted])
    assert site.apply([gate, *with_config(wanted, b"new\n")]).exit_code == 0
    assert restarted(site)[-1] == leader


def test_a_member_that_cannot_be_restarted_does_not_keep_the_others_from_it(site: Site) -> None:
    """It would be first in turn, and its file is refused."""
    wanted = led_by(site, "a", rolling(site, "abc"))
    started(site, wanted)
    bad = site.path("b", "config")
    new = [
        replace(r, check=("sh", "-c", "exit 1", "{}")) if r.name == str(bad) else r
        for r in with_config(wanted, b"new\n")
    ]
    result = site.apply(new)
    assert result.exit_code == 1
    assert restarted(site) == ["c", "a"]
    assert result.left == ["b/unit:u.service"]


def test_nobody_is_asked_for_the_turn_of_a_single_host(site: Site) -> None:
    wanted = led_by(site, "a", rolling(site, "a"))
    started(site, wanted)
    assert site.apply(with_config(wanted, b"new\n")).exit_code == 0
    assert restarted(site) == ["a"]
    assert "a asked" not in site.said()


def test_two_groups_on_the_same_hosts_each_have_their_own_leader(site: Site) -> None:
    one = led_by(site, "a", rolling(site, "abc"))
    units = [r for r in one if isinstance(r, Unit)]
    other = led_by(site, "b", [replace(u, name="v.service", group="h") for u in units])
    for host in site.hosts.values():
        (host.folder / "units/v.service").write_text("ActiveState=active\nUnitFileState=enabled\n")
    started(site, [*one, *other])
    assert site.apply([*with_config(one, b"new\n"), *other]).exit_code == 0
    begun = [line.split() for line in site.said() if "begin restart" in line]
    assert [host for host, *_, unit in begun if unit == "u.service"][-1] == "a"
    assert [host for host, *_, unit in begun if unit == "v.service"][-1] == "b"


def test_what_a_change_has_stopped_starts_at_once_though_it_is_not_its_turn(site: Site) -> None:
    """A second member can join etcd only when the one before it runs."""
    wanted = [
        replace(r, stopped_by=(str(r.restart_on[0]),)) if isinstance(r, Unit) else r
        for r in led_by(site, "a", rolling(site, "abc"))
    ]
    started(site, wanted)
    plan = site.plan(with_config(wanted, b"new\n"))
    assert {change.impact for change in plan.pending} == {Impact.NONE}
    assert site.apply(with_config(wanted, b"new\n")).exit_code == 0
    said = site.said()
    assert not [line for line in said if "asked" in line]
    assert in_sync(site, with_config(wanted, b"new\n"))


def test_after_a_member_that_does_not_recover_no_other_is_touched(site: Site) -> None:
    started(site, rolling(site, "abc"))
    wanted = rolling(site, "abc", after_restart="echo it lags; false", timeout_seconds=1)
    result = site.apply(with_config(wanted, b"new\n"))
    assert result.exit_code == 1
    assert len([line for line in site.said() if "begin restart" in line]) == 1
    (failure,) = result.failed
    assert failure.said.startswith("it lags")
    assert len(result.left) == 2


def test_a_reload_has_succeeded_when_what_was_reloaded_is_in_force(site: Site) -> None:
    config = site.file("a", "config")
    unit = Unit(hosts=("a",), name="u.service", reload_on=(config.address,), timeout_seconds=1)
    wanted: list[Resource] = [config, unit]
    started(site, wanted)
    slow = replace(unit, after_reload="echo the old rules count; false")
    result = site.apply(with_config([config, slow], b"new\n"))
    (failure,) = result.failed
    assert failure.said.startswith("the old rules count")
    assert "reload" in "".join(site.said())


# ── failures ────────────────────────────────────────────────────────────────────────────────────
def test_what_fails_takes_with_it_only_what_needs_it(site: Site) -> None:
    bad = site.file("a", "bad", check=("sh", "-c", "echo unknown word; exit 1", "{}"))
    needs = site.file("b", "needs", needs=(bad.address,))
    others = [site.file(host, "other") for host in "abc"]
    result = site.apply([bad, needs, *others])
    assert result.exit_code == 1
    assert [(f.address, f.said) for f in result.failed] == [(bad.address, "unknown word")]
    assert result.left == [needs.address]
    assert set(addresses(result)) == {other.address for other in others}
    assert not site.path("a", "bad").exists()


def test_success_is_what_a_second_look_says(site: Site) -> None:
    """The program says that it has started, with exit status 0; a moment later it runs no more."""
    unit = _stopped(site, "fickle.service")
    result = site.apply([unit])
    assert [f.address for f in result.failed] == [unit.address]
    assert "it still differs: state: failed" in result.failed[0].said
    assert not in_sync(site, [unit])


def test_a_start_that_failed_and_was_made_good_by_systemd_is_none(site: Site) -> None:
    unit = _stopped(site, "late.service")
    assert not site.apply([unit]).failed
    assert in_sync(site, [unit])


@pytest.mark.parametrize(("act", "said"), [("restart_on", "restart"), ("reload_on", "reload")])
def test_a_crashed_unit_gets_its_new_file_also_where_systemd_was_faster(
    act: str, said: str, site: Site
) -> None:
    """It was down when we looked, and is up, with the old file, when its turn comes."""
    config = site.file("a", "config")
    acts: dict[str, Any] = {act: (config.address,)}
    unit = Unit(hosts=("a",), name="u.service", before_restart=f"echo may >>{site.log}", **acts)
    started(site, [config, unit])
    state = site.hosts["a"].folder / "units/u.service"
    state.write_text("ActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\n")
    wanted = with_config([config, unit], b"new\n")
    seen = site.looks(wanted)
    state.write_text("ActiveState=active\nSubState=running\nUnitFileState=enabled\n")
    assert site.carry_out(wanted, seen).exit_code == 0
    assert any(said in line for line in site.said())
    assert ("may" in site.said()) == (said == "restart"), "it is interrupted only where it may be"


def test_a_unit_that_never_runs_is_told_with_its_state(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.resources.unit.START_SECONDS", 1)
    unit = _stopped(site, "broken.service")
    result = site.apply([unit])
    assert [f.address for f in result.failed] == [unit.address]
    assert "ActiveState=failed" in result.failed[0].said


def _stopped(site: Site, name: str) -> Unit:
    (site.hosts["a"].folder / "units" / name).write_text(
        "ActiveState=failed\nSubState=failed\nUnitFileState=enabled\n"
    )
    return Unit(hosts=("a",), name=name)


def test_a_host_that_is_lost_in_between_stops_only_itself(site: Site) -> None:
    wanted = [site.file(host, "f") for host in "abc"]
    seen = site.looks(wanted)
    plan = make_plan("c", wanted, seen, registry.kinds())
    site.hosts["b"].lost = True
    run = Apply(plan=plan, connections=site.hosts, looks=seen, progress=lambda *_: None)
    result = run.run()
    assert result.exit_code == 1
    assert {f.address for f in result.failed} == {"b/file:" + str(site.path("b", "f"))}
    assert (site.path("a", "f").exists(), site.path("c", "f").exists()) == (True, True)
    site.hosts["b"].lost = False
    assert site.apply(wanted).exit_code == 0
    assert in_sync(site, wanted)


def test_an_unreachable_host_is_left_out_and_named(site: Site) -> None:
    wanted = [site.file(host, "f") for host in "abc"]
    site.hosts["b"].lost = True
    assert list(site.plan(wanted).unreachable) == ["b"]
    assert set(addresses(site.apply(wanted))) == {wanted[0].address, wanted[2].address}


# ── the lock ────────────────────────────────────────────────────────────────────────────────────
LOST = LockedError("the lock was lost on b", do="Run it again.")


def losing(site: Site, sign: str) -> Callable[[], LockedError | None]:
    """Lost as soon as a line with `sign` is in the log."""
    return lambda: LOST if any(sign in line for line in site.said()) else None


def test_once_the_lock_is_lost_nothing_new_begins_and_the_next_apply_goes_on(site: Site) -> None:
    wanted = led_by(site, "c", rolling(site, "abc"))
    started(site, wanted)
    new = with_config(wanted, b"new\n")
    manifest = site.hosts["a"].folder / "state/manifest.json"
    result = site.apply(new, lock_lost=losing(site, "a end restart"))
    assert restarted(site) == ["a"]
    assert (result.exit_code, result.interrupted) == (1, False)
    assert [(f.address, f.said) for f in result.failed] == [("lock", str(LOST))]
    assert set(result.left) == {"b/unit:u.service", "c/unit:u.service"}
    assert "pending" in manifest.read_text(), "as if killed: another may have written since"
    assert site.apply(new).exit_code == 0
    assert set(restarted(site)) == {"a", "b", "c"}
    assert in_sync(site, new)


def test_where_the_lock_is_lost_before_anything_began_no_host_is_touched(site: Site) -> None:
    wanted = [site.file(host, "f") for host in "abc"]
    result = site.apply(wanted, lock_lost=lambda: LOST)
    assert (result.exit_code, result.done) == (1, [])
    assert set(result.left) == {r.address for r in wanted}
    assert not any((site.hosts[h].folder / "state").exists() for h in "abc")


def test_running_steps_end_when_the_lock_is_lost(site: Site) -> None:
    """Another host's script is told to stop before its next step."""
    slow = [
        Unit(hosts=("a",), name="u.service"),
        Gate(hosts=("b",), name="g", what="", condition=f"grep -q 'a end' {site.log}",
             timeout_seconds=60),
        Gate(hosts=("b",), name="h", what="", condition=f"[ -e {site.hosts['b'].folder}/stop-* ]",
             needs=("b/gate:g",), timeout_seconds=60),
        site.file("b", "f", needs=("b/gate:h",)),
    ]  # fmt: skip
    (site.hosts["a"].folder / "units/u.service").write_text("ActiveState=inactive\n")
    result = site.apply(slow, lock_lost=losing(site, "a end start"))
    assert result.exit_code == 1
    assert not site.path("b", "f").exists()


# ── killed ──────────────────────────────────────────────────────────────────────────────────────
class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program runs on."""


@pytest.mark.parametrize("after", range(1, 6))
def test_whenever_it_is_killed_the_next_apply_finishes_it(after: int, site: Site) -> None:
    """No restart is lost: a member runs with its new file, whichever script was the last."""
    wanted = rolling(site, "ab")
    started(site, wanted)
    new = with_config(wanted, b"new\n")
    count = 0

    def kill(_: str) -> None:
        nonlocal count
        count += 1
        if count >= after:
            raise Killed

    with contextlib.suppress(Killed):
        site.apply(new, after_script=kill)
    assert site.apply(new).exit_code == 0
    assert in_sync(site, new)
    for host in "ab":
        restarts = [n for n in site.said() if n == f"{host} end restart u.service"]
        assert len(restarts) >= 1, "the unit still runs with the old file"


def test_killed_between_a_file_and_its_restart_the_restart_is_owed(site: Site) -> None:
    wanted = rolling(site, "a")
    started(site, wanted)
    new = with_config(wanted, b"new\n")
    unit = next(r for r in new if isinstance(r, Unit))
    seen = site.looks(new)
    owed = seen["a"].manifest.begun("c", [(unit, Impact.RESTART)])
    (site.hosts["a"].folder / "state/manifest.json").write_text(manifests.dump(owed))
    site.path("a", "config").write_bytes(b"new\n")
    plan = site.plan(new)
    assert [(c.address, c.action) for c in plan.differences] == [(unit.address, Action.UPDATE)]
    assert site.apply(new).exit_code == 0
    assert "a end restart u.service" in site.said()
    assert in_sync(site, new)


def unknown(seen: Mapping[str, Look], address: str) -> Mapping[str, Look]:
    """The same looks, but one resource did not answer."""
    return {
        host: replace(one, observed={**one.observed, address: Unknown("a hiccup")})
        if address in one.observed
        else one
        for host, one in seen.items()
    }


def test_a_unit_that_did_not_answer_is_restarted_by_the_next_apply(site: Site) -> None:
    wanted = rolling(site, "a")
    started(site, wanted)
    new = with_config(wanted, b"new\n")
    seen = unknown(site.looks(new), new[1].address)
    assert site.carry_out(new, seen).failed == []
    assert restarted(site) == []
    assert site.apply(new).exit_code == 0
    assert restarted(site) == ["a"]
    assert in_sync(site, new)


class Late(File):
    """A file that can only be looked at when its needs are done."""

    kind: ClassVar[str] = "late"
    late: ClassVar[bool] = True


def late_file(site: Site, name: str, **more: Any) -> Late:
    return Late(hosts=("a",), name=str(site.path("a", name)), content=b"x\n", **OWN, **more)


def test_what_left_the_spec_and_did_not_answer_is_removed_not_made_anew(site: Site) -> None:
    site.kinds[Late.kind] = Late
    one = late_file(site, "one")
    two = late_file(site, "two", needs=(one.address,))
    assert site.apply([one, two]).exit_code == 0
    result = site.carry_out([], unknown(site.looks([]), one.address))
    assert (result.exit_code, set(addresses(result))) == (0, {one.address, two.address})
    assert not site.path("a", "one").exists()
    assert not site.path("a", "two").exists()
    assert site.looks([])["a"].manifest.entries == {}


def test_a_host_that_could_not_be_looked_at_keeps_its_memory(site: Site) -> None:
    """Connected, and then too slow: what it owes is still owed."""
    wanted = rolling(site, "ab")
    started(site, wanted)
    unit = next(r for r in wanted if isinstance(r, Unit) and r.hosts == ("b",))
    path = site.hosts["b"].folder / "state/manifest.json"
    owing = site.looks(wanted)["b"].manifest.begun("c", [(unit, Impact.RESTART)])
    path.write_text(manifests.dump(owing))
    slow = {**site.looks(wanted), "b": Look(host="b", error=CommandTimeout("b", "too slow"))}
    site.carry_out(with_config(wanted, b"new\n"), slow)
    assert manifests.load(path.read_text()) == owing


def test_a_connection_that_nobody_looked_through_is_not_used(site: Site) -> None:
    """A host that has left the spec, and is somebody else's by now."""
    wanted = [site.file("a", "f")]
    seen = {host: one for host, one in site.looks(wanted).items() if host == "a"}
    assert site.carry_out(wanted, seen).exit_code == 0
    assert not (site.hosts["b"].folder / "state").exists()


class Dear(Late):
    """It costs a restart when it is looked at late."""

    kind: ClassVar[str] = "dear"

    def impact(self, change: Change) -> Impact:
        return Impact.NONE if change.changes("mode") else Impact.RESTART


def test_what_costs_more_than_the_plan_said_is_not_done(site: Site) -> None:
    path = site.path("a", "dear")
    dear = Dear(hosts=("a",), name=str(path), content=b"x\n", **OWN)
    assert site.apply([dear]).exit_code == 0
    path.chmod(0o600)
    seen = site.looks([dear])
    path.chmod(0o644)
    path.write_bytes(b"somebody else's\n")
    (failure,) = site.carry_out([dear], seen).failed
    assert "it costs a restart, and the plan said none" in failure.said
    assert path.read_bytes() == b"somebody else's\n"


def test_what_is_as_wanted_by_then_costs_nothing(site: Site) -> None:
    path = site.path("a", "dear")
    dear = Dear(hosts=("a",), name=str(path), content=b"x\n", **OWN)
    assert site.apply([dear]).exit_code == 0
    path.chmod(0o600)
    seen = site.looks([dear])
    path.chmod(0o644)
    assert addresses(site.carry_out([dear], seen)) == [dear.address]


def test_a_second_ctrl_c_does_not_wait(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Gate(hosts=("a",), name="g", what="", condition="sleep 5; false", timeout_seconds=5)
    behind = site.file("a", "f", needs=(waits.address,))

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("builder.engine.execute.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        site.apply([waits, behind])


def test_a_removal_that_cannot_be_looked_at_again_stays_in_memory(site: Site) -> None:
    wanted = site.file("a", "d/f")
    folder = Directory(hosts=("a",), name=str(site.path("a", "d")), **OWN)
    assert site.apply([folder, wanted]).exit_code == 0
    seen = site.looks([folder])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(File, "parse", lambda files, _: {f.name: Unknown("no") for f in files})
        result = site.carry_out([folder], seen)
    assert [failure.address for failure in result.failed] == [wanted.address]
    assert wanted.address in site.looks([folder])["a"].manifest.entries


def test_what_a_narrowed_plan_leaves_out_is_not_forgotten(site: Site) -> None:
    """Neither a restart that an earlier run owes, nor one that this run asks for."""
    wanted = rolling(site, "ab")
    started(site, wanted)
    new = with_config(wanted, b"new\n")
    units = {r.hosts[0]: r for r in new if isinstance(r, Unit)}
    owed = site.looks(new)["a"].manifest.begun("c", [(units["a"], Impact.RESTART)])
    (site.hosts["a"].folder / "state/manifest.json").write_text(manifests.dump(owed))
    site.path("a", "config").write_bytes(b"new\n")
    file = next(r.address for r in new if isinstance(r, File) and r.hosts == ("b",))
    assert site.apply(new, only=[file]).exit_code == 0
    assert site.path("b", "config").read_bytes() == b"new\n"
    assert not any("restart" in line for line in site.said())
    assert {c.address for c in site.plan(new).differences} == {u.address for u in units.values()}
    assert site.apply(new).exit_code == 0
    assert {"a end restart u.service", "b end restart u.service"} <= set(site.said())


def test_no_lost_host_is_an_exception(site: Site) -> None:
    for host in site.hosts.values():
        host.lost = True
    looks = site.looks([site.file("a", "f")])
    assert all(isinstance(seen.error, TransportError) for seen in looks.values())
