"""Laws of every drill: what it says, what it needs, and that what it breaks it mends."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder import registry
from builder.drill import inject, links, steps
from builder.drill.fault import HOST_LOST, NO_PAUSE, Fault
from builder.drill.faults import FAULTS
from builder.drill.history import Attempt, History, Kind, Moment, Outcome, Sample
from builder.drill.inject import undisturbed
from builder.drill.run import obstacle
from builder.drill.scene import Scene, scene
from builder.drill.steps import Freeze, PowerOff, Script
from builder.drill.verdict import Case, judged
from builder.engine.desired import present
from builder.errors import MachineError, PghaError
from builder.health import ailments
from builder.spec.model import ClusterSpec
from builder.transport.base import Completed
from roles._failover import PRESETS

EVERY = pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))


HARMS = ("kill ", "dd if", "fallocate", "fsfreeze", "nft -f", "systemctl stop", "mkdir")


class Lab:
    """A provider that can do all."""

    def kill(self, host: str) -> None: ...
    def start(self, host: str) -> None: ...
    def freeze(self, host: str) -> None: ...
    def thaw(self, host: str) -> None: ...


def disk(mounted: str, free_percent: float = 90.0) -> dict[str, Any]:
    return {
        "mounted": mounted,
        "free_bytes": 1 << 30,
        "free_percent": free_percent,
        "shared": mounted == "/",
    }


def status(spec: ClusterSpec) -> dict[str, Any]:
    """What `pgha-build status --json` says of seven whole hosts."""
    members = {"pg1": ("leader", "running"), "pg2": ("sync_standby", "streaming")}
    return {
        "unreachable": {},
        "etcd": {
            "members": {
                f"etcd{n}": {
                    "healthy": True,
                    "leader": n == 2,
                    "version": "3.5.16",
                    "disk": disk("/var/lib/etcd"),
                }
                for n in (1, 2, 3)
            }
        },
        "haproxy": {
            "balancers": {
                name: {"answers": True, "primary": ["pg1"], "replica": ["pg2"]}
                for name in ("lb1", "lb2")
            }
        },
        "keepalived": {"holders": ["lb1"], "running": ["lb1", "lb2"], "hosts": ["lb1", "lb2"]},
        "patroni": {
            "leader": "pg1",
            "paused": False,
            "members": {
                name: {
                    "answers": True,
                    "role": role,
                    "state": state,
                    "timeline": 1,
                    "lacks_wal": False,
                    "postgresql": "17.6",
                    "patroni": "4.0.4",
                    "disk": disk("/var/lib/postgresql"),
                }
                for name, (role, state) in members.items()
            },
        },
    }


@pytest.fixture
def spec(world: Any) -> ClusterSpec:
    found: ClusterSpec = world("seven").spec
    return found


@pytest.fixture
def who(spec: ClusterSpec) -> Scene:
    return scene(spec, status(spec))


@EVERY
def test_a_drill_is_named_as_it_is_called_and_says_what_it_does(fault: Fault) -> None:
    assert FAULTS[fault.name] is fault
    assert fault.doc.endswith(".")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_fault_stays_until_what_is_promised_is_due(preset: str, spec: ClusterSpec) -> None:
    """Else what should heal by itself would be healed by us, and nothing would be proven."""
    failover = {**spec.sections["failover"], "preset": preset}
    slower = replace(spec, sections={**spec.sections, "failover": failover})
    promised = {
        p.fault: p.seconds for r in present(spec, registry.roles()) for p in r.promises(slower)
    }
    for fault in FAULTS.values():
        due = fault.writes if isinstance(fault.writes, str) else fault.outlasts
        if fault.stops_writes:
            due = HOST_LOST
        least = max(15, promised.get(due, 0) + 5)
        assert least <= fault.lasts(promised) <= 150, fault.name


@EVERY
def test_a_bound_by_name_is_a_promise_of_the_clusters_roles(
    fault: Fault, spec: ClusterSpec
) -> None:
    promised = {p.fault for role in present(spec, registry.roles()) for p in role.promises(spec)}
    bounds = (fault.writes, fault.connects, fault.reads)
    named = {bound for bound in bounds if isinstance(bound, str)}
    assert named <= promised


@EVERY
def test_everything_is_possible_in_a_lab_of_seven(fault: Fault, who: Scene) -> None:
    assert obstacle(fault, who, Lab(), {}) == ""
    assert {step.host for step in fault.steps(who)} <= set(who.spec.hosts)


@EVERY
def test_without_power_a_drill_is_possible_or_says_why_not(fault: Fault, who: Scene) -> None:
    machines = any(isinstance(step, PowerOff | Freeze) for step in fault.steps(who))
    assert bool(obstacle(fault, who, object(), {})) == machines


@EVERY
def test_every_script_is_shell_and_leaves_its_undoing_before_it_harms(
    fault: Fault, who: Scene
) -> None:
    for step in fault.steps(who):
        if not isinstance(step, Script):
            continue
        for text in (step.text(), step.undo_text()):
            subprocess.run(["sh", "-n"], input=text, text=True, check=True)
        assert not any(word in step.before for word in HARMS), step.before
        if step.undo:
            assert step.text().index("systemd-run") < step.text().rindex(step.do)
            assert step.text().index(step.undo) < step.text().rindex(step.do)


def test_harm_is_done_and_undone_twice_over(tmp_path: Path) -> None:
    """The scripts themselves, carried out where they may write."""
    for name in ("systemd-run", "systemctl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    harm = Script(
        host="a",
        before="what=$(echo it)",
        do=f"touch {tmp_path}/harm-$what",
        undo=f"rm {tmp_path}/harm-$what",
        keeps=("what",),
    )

    def carried_out(text: str) -> list[str]:
        done = subprocess.run(
            ["dash", "-c", text.replace("/run/pgha-drill", f"{tmp_path}/run")],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            timeout=20,
            check=True,
        )
        assert done.returncode == 0
        return sorted(path.name for path in tmp_path.glob("harm*"))

    assert carried_out(steps.LEFTOVER) == []
    assert carried_out(harm.text()) == ["harm-it"]
    assert carried_out(steps.LEFTOVER) == []
    for _ in range(2):
        assert carried_out(harm.text()) == ["harm-it"]
        assert carried_out(harm.undo_text()) == []
        assert carried_out(harm.undo_text()) == []
    assert not (tmp_path / "run").exists()


def test_an_interruption_waits_for_the_healing_and_is_not_lost() -> None:
    """Neither the healing nor a program that it starts is cut short."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("interrupted"))
    try:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            child = subprocess.run(
                ["sh", "-c", "kill -TERM $$; echo lives"], stdout=subprocess.PIPE, check=True
            )
            seen.append("healed")
        assert seen == ["healed", "interrupted"]
        assert child.stdout == b"lives\n"
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGTERM, before)


def test_every_step_is_undone_whatever_becomes_of_another(monkeypatch: Any) -> None:
    """A machine that does not start at once is started again; a mistake of ours stops nobody."""
    monkeypatch.setattr(inject.time, "sleep", lambda _: None)
    woken, attempts = [], []

    class Machines(Lab):
        def start(self, host: str) -> None:
            attempts.append(host)
            if host == "b" or len(attempts) < 4:
                raise OSError("no such device") if host == "b" else MachineError("it is busy")

        def thaw(self, host: str) -> None:
            woken.append(host)

    told: list[str] = []
    injector = inject.Injector({}, Machines(), lambda host, what: told.append(f"{host}: {what}"))
    steps = (Freeze(host="a"), PowerOff(host="b"), PowerOff(host="c"))
    with pytest.raises(inject.NotHealedError) as raised, injector.injected(steps):
        pass
    assert (attempts, woken) == (["c", "c", "c", "c", "b"], ["a"])
    assert raised.value.do == "pgha-build machines start b"
    assert any(line.startswith("b: could not be healed") for line in told)


def test_all_hosts_that_could_not_be_healed_are_named_with_what_to_do(monkeypatch: Any) -> None:
    monkeypatch.setattr(inject.time, "sleep", lambda _: None)

    class Machines(Lab):
        def start(self, host: str) -> None:
            raise OSError("no such device")

    told: list[str] = []
    injector = inject.Injector({}, Machines(), lambda host, what: told.append(f"{host}: {what}"))
    off = (PowerOff(host="a"), PowerOff(host="b"))
    both = r"b could not.*; a could not"
    with pytest.raises(inject.NotHealedError, match=both) as raised, injector.injected(off):
        pass
    assert raised.value.do == "pgha-build machines start b; pgha-build machines start a"
    assert "a: pgha-build machines start a" in told


class Has:
    """A connection to a host on which an earlier drill left something."""

    def __init__(self, host: str, said: str, status: int = 0) -> None:
        self.host, self.done = host, Completed(stdout=said, stderr="", status=status, seconds=0)

    def run(self, script: str, *, timeout_seconds: float) -> Completed:
        assert script == steps.LEFTOVER
        return self.done


def test_what_a_killed_drill_left_is_healed_before_the_next_and_said() -> None:
    told: list[str] = []
    hosts: Any = {"a": Has("a", ""), "b": Has("b", "healed\n")}
    inject.heal_leftovers(hosts, lambda host, what: told.append(f"{host}: {what}"))
    assert told == ["b: healed what an earlier drill had left"]
    hosts["c"] = Has("c", "no", 1)
    with pytest.raises(inject.NotHealedError, match="c has a fault of an earlier drill") as raised:
        inject.heal_leftovers(hosts, lambda *_: None)
    assert raised.value.do == "On c: sh /run/pgha-drill/undo"


def test_healing_goes_on_when_nobody_listens_any_more() -> None:
    """`drill 2>&1 | tee log`, and Ctrl-C: tee is gone before the healing begins."""
    started = []

    class Machines(Lab):
        def start(self, host: str) -> None:
            started.append(host)

    def gone(host: str, what: str) -> None:
        raise BrokenPipeError

    off = (PowerOff(host="a"), PowerOff(host="b"))
    with (
        pytest.raises(KeyboardInterrupt),
        inject.Injector({}, Machines(), gone).injected(off),
    ):
        raise KeyboardInterrupt
    assert started == ["b", "a"]


def test_a_full_disk_is_emptied_also_on_a_host_that_has_forgotten_why(tmp_path: Path) -> None:
    """The file is there after a boot, and what would undo it is not."""
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    (tmp_path / "systemctl").chmod(0o755)
    file = tmp_path / f".{steps.DISK}"
    file.write_bytes(b"0" * 99)
    subprocess.run(
        ["dash", "-c", steps.fill("a", str(tmp_path)).undo_text().replace("/run", str(tmp_path))],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        timeout=20,
        check=True,
    )
    assert not file.exists()


def test_a_fault_that_ended_too_early_is_told(monkeypatch: Any) -> None:
    """Rules that a firewall's reload has swept away: what was survived was nothing."""
    ended = {"b"}

    asked: list[str] = []

    def run(self: object, host: str, script: str, *, seconds: float = 30) -> str:
        asked.append(host)
        if len(asked) == 1:
            raise PghaError("it could not be reached")
        return "" if host in ended else "yes\n"

    monkeypatch.setattr(inject.time, "sleep", lambda _: None)

    monkeypatch.setattr(inject.Injector, "run", run)
    injector = inject.Injector({}, Lab(), lambda *_: None)
    assert injector.faded([PowerOff(host="a")]) is None
    assert injector.faded([links.deaf("a"), PowerOff(host="b")]) == ()
    assert injector.faded([links.deaf("a"), links.deaf("b")]) == ("b",)
    for faded, wrong in (
        (None, set()),
        ((), set()),
        (("b",), {"the fault stayed until it was healed"}),
    ):
        told = replace(history(1.0), faded=faded)
        assert {c.name for c in judged(CASE, told)[1] if not c.passed} == wrong


def test_where_there_is_no_replica_nobody_reads_and_nothing_is_said_of_it() -> None:
    told = history(1.0)
    told = replace(told, attempts=tuple(a for a in told.attempts if a.kind is Kind.WRITE))
    fault = replace(CASE.fault, reads=2.0)
    found, checks = judged(replace(CASE, fault=fault), told)
    assert found.read_outage is None
    assert all(check.passed for check in checks)


def test_a_host_that_stops_something_undoes_it(who: Scene) -> None:
    """What goes on for ever by itself must be ended: SIGSTOP, and rules of a firewall."""
    for fault in FAULTS.values():
        for step in fault.steps(who):
            if isinstance(step, Script) and any(
                w in step.do for w in (" -STOP", "-s STOP", "nft -f", "fsfreeze", "dd if")
            ):
                assert step.undo, fault.name


def test_a_disk_that_is_the_systems_own_is_not_filled(spec: ClusterSpec) -> None:
    shared = status(spec)
    for section in ("patroni", "etcd"):
        for member in shared[section]["members"].values():
            member["disk"] = disk("/")
    who = scene(spec, shared)
    for name in ("leader-disk-full", "leader-disk-hangs", "etcd-disk-slow"):
        assert "shares the system's file system" in obstacle(FAULTS[name], who, Lab(), {})


def test_a_disk_that_two_services_share_is_not_filled(spec: ClusterSpec) -> None:
    found = status(spec)
    found["etcd"]["members"]["pg1"] = {
        "healthy": True,
        "leader": False,
        "disk": disk("/var/lib/postgresql"),
    }
    who = scene(spec, found)
    for name in ("leader-disk-full", "etcd-disk-slow"):
        assert obstacle(FAULTS[name], who, Lab(), {}) == (
            "PostgreSQL and etcd share a file system on pg1"
        )


def test_where_a_balancer_is_a_database_host_it_is_not_judged_as_a_balancer(
    spec: ClusterSpec,
) -> None:
    pg1 = replace(spec.hosts["pg1"], roles=("patroni", "haproxy", "keepalived"))
    spec = replace(spec, hosts={**spec.hosts, "pg1": pg1})
    who = replace(scene(spec, status(spec)), holder="pg1")
    for name in ("balancer-power-off", "balancer-isolated", "leader-deaf"):
        assert "pg1" in obstacle(FAULTS[name], who, Lab(), {})
    (step,) = FAULTS["leader-isolated"].steps(who)
    assert isinstance(step, Script)
    assert f"arp saddr ip {who.virtual_ip} drop" in step.before


def test_a_replica_that_is_waited_for_is_struck_before_others(spec: ClusterSpec) -> None:
    found = status(spec)
    other = {**found["patroni"]["members"]["pg2"], "role": "replica"}
    members = {"pg0": other, **found["patroni"]["members"]}
    found["patroni"]["members"] = members
    assert scene(spec, found).replicas == ("pg2", "pg0")


def test_the_versions_that_run_are_each_named_once(spec: ClusterSpec) -> None:
    found = status(spec)
    found["patroni"]["members"]["pg2"]["postgresql"] = "17.5"
    named = {"PostgreSQL": "17.5, 17.6", "Patroni": "4.0.4", "etcd": "3.5.16"}
    assert scene(spec, found).software == named


def test_what_is_cut_off_can_still_be_reached_over_ssh(who: Scene) -> None:
    (step,) = FAULTS["leader-isolated"].steps(who)
    assert isinstance(step, Script)
    assert "tcp dport { $ports } accept" in step.before
    assert "tcp sport { $ports } accept" in step.before


# ── health ──────────────────────────────────────────────────────────────────────────────────────
def test_a_whole_cluster_has_no_ailment(spec: ClusterSpec) -> None:
    assert ailments(spec, status(spec)) == []


@pytest.mark.parametrize(
    ("section", "change", "word"),
    [
        ("patroni", {"leader": None}, "no leader"),
        ("patroni", {"paused": True}, "paused"),
        ("keepalived", {"holders": []}, "nobody"),
        ("keepalived", {"holders": ["lb1", "lb2"]}, "lb1, lb2"),
        ("keepalived", {"running": ["lb1"]}, "lb2"),
        ("etcd", {"members": {"etcd1": {"healthy": False, "disk": None}}}, "etcd1"),
        ("etcd", {"members": {"etcd1": {"healthy": True, "disk": disk("/", 0.4)}}}, "disk is full"),
    ],
)
def test_each_ailment_is_named(
    section: str, change: dict[str, Any], word: str, spec: ClusterSpec
) -> None:
    found = status(spec)
    found[section] |= change
    assert any(word in ailment for ailment in ailments(spec, found))


def test_a_replica_that_streams_while_its_patroni_is_silent_is_told_as_that(
    spec: ClusterSpec,
) -> None:
    found = status(spec)
    found["patroni"]["members"]["pg2"]["answers"] = False
    assert ailments(spec, found) == ["pg2: Patroni does not answer"]


def test_a_member_on_another_timeline_or_not_synchronous_is_not_whole(spec: ClusterSpec) -> None:
    found = status(spec)
    found["patroni"]["members"]["pg2"] |= {"timeline": 2, "role": "replica"}
    assert len(ailments(spec, found)) == 2


def test_a_replica_that_can_never_follow_again_is_told_with_what_helps(spec: ClusterSpec) -> None:
    found = status(spec)
    found["patroni"]["members"]["pg2"] |= {"state": "running", "lacks_wal": True}
    assert any(told.endswith("pgha-build ops reinit pg2") for told in ailments(spec, found))


@pytest.mark.parametrize(
    ("version", "lag", "wrong"), [("3.0.2", 9000, 0), ("3.0.2", 1 << 24, 1), ("4.0.7", 0, 1)]
)
def test_patroni_of_debian_12_calls_a_streaming_replica_running(
    spec: ClusterSpec, version: str, lag: int, wrong: int
) -> None:
    found = status(spec)
    replica = {"state": "running", "patroni": version, "lag_bytes": lag}
    found["patroni"]["members"]["pg2"] |= replica
    assert len(ailments(spec, found)) == wrong


# ── the verdict ─────────────────────────────────────────────────────────────────────────────────
def history(pause: float, moves: int = 1) -> History:
    ends = [1.0 + n * 0.1 for n in range(20)]
    ends += [ends[-1] + pause + n * 0.1 for n in range(20)]
    attempts = tuple(
        Attempt(
            kind=kind,
            outcome=Outcome.ACK,
            begin=end - 0.01,
            end=end,
            number=n,
            fresh=n % 2 == 0,
            timeline=1 + n // 20 * moves,
        )
        for n, end in enumerate(ends)
        for kind in Kind
    )
    return History(
        begin=1.0,
        end=ends[-1],
        attempts=attempts,
        stored=frozenset(range(40)),
        marks={Moment.INJECTED: 2.0, Moment.HEALED: 3.0, Moment.HEALTHY: 4.0},
    )


CASE = Case(
    fault=FAULTS["switchover"], promises={"switchover": 5.0}, has_address=False, synchronous=True
)


def failed(case: Case, pause: float, moves: int = 1) -> set[str]:
    return {check.name for check in judged(case, history(pause, moves))[1] if not check.passed}


def test_within_its_bound_a_fault_is_survived() -> None:
    assert failed(CASE, 4.0) == set()


@pytest.mark.parametrize("moves", [0, 2])
def test_a_leader_that_did_not_move_or_moved_twice_was_not_switched_over(moves: int) -> None:
    assert failed(CASE, 4.0, moves) == {"failovers"}


@pytest.mark.parametrize("name", ["postgres-kill", "postmaster-stop"])
def test_a_crashed_leader_may_stay_only_without_a_synchronous_replica(name: str) -> None:
    fault = replace(FAULTS[name], writes=None)
    for synchronous, moves, wrong in (
        (True, 0, {"failovers"}),
        (True, 1, set()),
        (False, 0, set()),
        (False, 1, set()),
        (False, 2, {"failovers"}),
    ):
        case = replace(CASE, fault=fault, synchronous=synchronous)
        assert failed(case, 1.0, moves) == wrong


def test_only_a_synchronous_cluster_promises_that_no_write_is_lost() -> None:
    told = replace(history(1.0), stored=frozenset())
    for synchronous, wrong in ((True, {"acknowledged writes lost"}), (False, set())):
        case = replace(CASE, synchronous=synchronous)
        assert {c.name for c in judged(case, told)[1] if not c.passed} == wrong


def test_where_nobody_may_lead_nothing_is_written_once_the_leader_has_given_up() -> None:
    """What it takes: to try again for long enough, and then to ask the members."""
    nobody = replace(CASE.fault, stops_writes=True, writes=None)
    for tries, wrong in ((0.5, {"writes while nobody may lead"}), (2.0, set())):
        promises = {"database host lost": 20.0, "database host deaf": 18.0 + tries}
        case = replace(CASE, fault=nobody, promises=promises)
        told = replace(history(4.0), held=(2.0, 4.0))
        assert {c.name for c in judged(case, told)[1] if not c.passed} == wrong


def test_once_healed_somebody_leads_in_the_time_that_a_lost_host_costs() -> None:
    nobody = replace(CASE.fault, stops_writes=True, writes=None)
    for bound, wrong in ((0.2, {"no write once healed"}), (0.4, set())):
        promises = {"database host lost": bound, "database host deaf": bound + 9}
        case = replace(CASE, fault=nobody, promises=promises)
        late = {Moment.HEALED: 3.3, Moment.HEALTHY: 4.0}  # the last of the first half: at 2.9
        told = replace(history(0.7), marks=late)
        assert {c.name for c in judged(case, told)[1] if not c.passed} == wrong


def test_new_connections_may_have_a_bound_of_their_own() -> None:
    """Patroni is gone for a moment, and PostgreSQL is not."""
    for connects, wrong in ((None, {"no write acknowledged", "no new connection"}), ("s", set())):
        fault = replace(CASE.fault, writes=0.5, connects=connects, failovers=1)
        told = history(0.7)
        kept = [replace(a, end=2.9 + n / 10, fresh=False) for n, a in enumerate(told.attempts[:9])]
        told = told if connects is None else replace(told, attempts=(*told.attempts, *kept))
        case = replace(CASE, fault=fault, promises={"s": 1.0})
        assert {c.name for c in judged(case, told)[1] if not c.passed} == wrong


def test_where_nobody_writes_any_more_the_fault_was_not_survived() -> None:
    fault = replace(CASE.fault, stops_writes=True, writes=None, failovers=0)
    promises = {"database host lost": 20.0, "database host deaf": 30.0}
    told = history(1.0)
    last = {Moment.HEALED: told.end, Moment.HEALTHY: told.end}
    told = replace(told, marks=last, attempts=told.attempts[:30])
    found = judged(replace(CASE, fault=fault, promises=promises), told)[1]
    assert [c.measured for c in found if c.name == "no write once healed"] == ["none came"]


def test_a_fault_that_would_end_by_itself_before_it_is_due_is_no_drill(who: Scene) -> None:
    long = {"database host lost": 900.0}
    assert "ends by itself" in obstacle(FAULTS["leader-isolated"], who, Lab(), long)


def test_where_statements_are_rare_what_no_timing_says_is_as_much_longer() -> None:
    case = replace(CASE, promises={"s": 5.0}, slowness=11.0)
    assert (case.seconds("s"), case.seconds(2.0)) == (5.0, 4.0)


def test_where_no_pause_is_promised_no_statement_breaks_on_an_open_connection() -> None:
    told = history(0.5, moves=0)
    cut = replace(told.attempts[4], fresh=False, outcome=Outcome.UNKNOWN, number=99)
    told = replace(told, attempts=(*told.attempts, cut))
    for writes, lateness, wrong in (
        (NO_PAUSE, 1.0, {"statements that broke on open connections"}),
        (NO_PAUSE, 2.0, set()),
        (5.0, 1.0, set()),
    ):
        fault = replace(CASE.fault, writes=writes, failovers=0)
        case = replace(CASE, fault=fault, lateness=lateness)
        assert {c.name for c in judged(case, told)[1] if not c.passed} == wrong


def test_an_address_that_should_have_two_holders_and_had_one_was_not_struck() -> None:
    fault = replace(CASE.fault, two_holders=True)
    looks = [
        Sample(at=1 + n / 10, host=host, words=frozenset({"holder"}))
        for n in range(40)
        for host in ("lb1", "lb2")
    ]
    for seen, wrong in ((looks, set()), (looks[::2], {"two holders while it is there"})):
        told = replace(history(1.0), samples=tuple(seen))
        case = replace(CASE, fault=fault, two_holders=True)
        assert {c.name for c in judged(case, told)[1] if not c.passed} == wrong


def test_an_address_that_nobody_takes_from_a_struck_holder_was_not_moved() -> None:
    fault = replace(CASE.fault, moves_address=True)
    for taken, wrong in (("lb2", set()), ("lb1", {"another takes the address"})):
        looks = [
            Sample(at=1 + n / 10, host=host, words=frozenset({"holder"}))
            for host, first in (("lb1", 0), (taken, 20))
            for n in range(first, first + 20)
        ]
        told = replace(history(1.0), samples=tuple(looks), struck=("lb1",))
        case = replace(CASE, fault=fault)
        assert {c.name for c in judged(case, told)[1] if not c.passed} == wrong


def test_a_replica_that_lags_must_get_no_new_sessions() -> None:
    read = Attempt(
        kind=Kind.READ, fresh=True, begin=4, end=4, outcome=Outcome.ACK, member="10.0.0.22"
    )
    told = history(4.0)
    told = replace(told, held=(2.0, 9.0), struck=("pg2",), attempts=(*told.attempts, read))
    lags = replace(CASE.fault, stops_reads=True, writes=None)
    case = replace(CASE, fault=lags, addresses={"pg1": "10.0.0.21", "pg2": "10.0.0.22"})
    for seconds, wrong in ((1.5, {"new sessions that read old rows"}), (3.0, set())):
        promised = replace(case, promises={"replica lost": seconds})
        assert {c.name for c in judged(promised, told)[1] if not c.passed} == wrong


def test_a_host_that_nobody_heard_was_not_proven_to_be_anything() -> None:
    told = replace(history(4.0), watched=("pg1",), end=60.0)
    fault = replace(CASE.fault, writes=None)
    checks = judged(replace(CASE, fault=fault), told)[1]
    assert {c.name for c in checks if not c.passed} == {"a host not watched"}


def test_over_its_bound_it_is_not() -> None:
    assert failed(CASE, 6.0) == {"no write acknowledged", "no new connection"}


def test_on_slow_machines_only_bounds_that_are_no_promise_grow() -> None:
    case = replace(CASE, promises={"s": 5.0}, lateness=3)
    assert (case.seconds("s"), case.seconds(1.0), case.seconds(None)) == (5.0, 3.0, None)


def test_what_was_not_promised_is_only_measured() -> None:
    case = replace(CASE, fault=replace(CASE.fault, writes=None))
    assert failed(case, 60.0) == set()


def test_a_cluster_that_does_not_heal_or_is_left_changed_has_failed() -> None:
    assert failed(replace(CASE, ailments=["pg1: down"]), 1) == {"whole again, by itself"}
    assert failed(replace(CASE, differences=["lb1/file:x"]), 1) == {"plan"}


def test_an_address_that_nobody_was_seen_to_hold_is_held_by_nobody() -> None:
    assert failed(replace(CASE, has_address=True), 20) >= {"not one holder of the address"}


@EVERY
def test_on_a_single_host_a_drill_is_possible_or_says_why_not(fault: Fault, world: Any) -> None:
    spec = world("one").spec
    (name,) = spec.hosts
    found = status(spec)
    found["patroni"] |= {"leader": name, "members": {name: found["patroni"]["members"]["pg1"]}}
    found["etcd"]["members"] = {name: {"healthy": True, "leader": True, "disk": None}}
    found["haproxy"]["balancers"] = {name: {"answers": True, "primary": [name], "replica": []}}
    found["keepalived"] = {"holders": [name], "running": [name], "hosts": [name]}
    assert ailments(spec, found) == []
    who = scene(spec, found)
    reason = obstacle(fault, who, Lab(), {})
    assert reason or [step.host for step in fault.steps(who)] == [name]
