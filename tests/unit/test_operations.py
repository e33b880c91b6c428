"""Operations are courses: answered by hand here, and ended after every single step."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from builder import registry
from builder.engine import manifest
from builder.operations import core
from builder.operations.course import (
    Ask,
    Confirm,
    Converge,
    Course,
    Hear,
    Keep,
    On,
    OperationError,
    Preview,
    Request,
    Target,
    Tell,
    Whole,
)
from builder.operations.update import update
from builder.resources.base import Impact
from builder.resources.unit import Unit
from builder.security.rotation import Phase
from builder.security.store import SecretStore, open_store
from builder.spec.read import read_spec
from roles.etcd import operations as etcd
from roles.patroni import operations, switchover
from roles.patroni.ask import gives_lead_away

SPEC = """
name: orders
hosts:
  etcd1: {address: 10.0.0.11, roles: [etcd]}
  etcd2: {address: 10.0.0.12, roles: [etcd]}
  etcd3: {address: 10.0.0.13, roles: [etcd]}
  pg1: {address: 10.0.0.21, roles: [patroni]}
  pg2: {address: 10.0.0.22, roles: [patroni]}
  pg3: {address: 10.0.0.23, roles: [patroni]}
  lb1: {address: 10.0.0.31, roles: [haproxy, keepalived]}
  lb2: {address: 10.0.0.32, roles: [haproxy, keepalived]}
keepalived: {virtual_ip: 10.0.0.100/24}
postgresql: {users: [{name: app}]}
"""


def member(role: str = "replica", **more: Any) -> dict[str, Any]:
    state = "running" if role == "leader" else "streaming"
    return {"answers": True, "role": role, "state": state, "lag_bytes": 0, **more}


def status(**more: Any) -> dict[str, Any]:
    """Of a cluster that is well; `more` are members that are otherwise."""
    members = {"pg1": member("leader"), "pg2": member("sync_standby"), "pg3": member()}
    etcd = {
        name: {"healthy": True, "size_bytes": 9, "leader": name == "etcd1"}
        for name in ("etcd1", "etcd2", "etcd3")
    }
    return {
        "unreachable": {},
        "managed": {},
        "patroni": {"leader": "pg1", "paused": False, "members": {**members, **more}},
        "etcd": {"members": etcd},
    }


@pytest.fixture
def target(tmp_path: Path) -> Target:
    file = tmp_path / "cluster.yml"
    file.write_text(SPEC)
    spec = read_spec(file)
    store = open_store(file, spec.name)
    for name in ("superuser", "replication", "rewind", "rest", "user-app"):
        store.password(name)
    for name in ("cluster", "etcd-client", "etcd-peer"):
        store.authority(name)
    store.save()
    refusals = tuple(r.needed for r in registry.roles().values() if r.needed)
    return Target(spec=spec, secrets=store, refusals=refusals)


def asked(target: Target, *words: str, options: frozenset[str] = frozenset()) -> Target:
    return Target(
        spec=target.spec,
        secrets=target.secrets,
        refusals=target.refusals,
        words=words,
        options=options,
    )


def walk(
    course: Course, world: Any, *, store: SecretStore | None = None, steps: int | None = None
) -> list[Request]:
    """Everything that a course asks for, or the first `steps` of it, all carried out.

    `world` is the status, or a function that gives it.
    """
    seen: list[Request] = []
    answer: Any = None
    try:
        while True:
            request = course.send(answer)
            seen.append(request)
            answer = None
            if isinstance(request, Ask):
                answer = world(seen) if callable(world) else world
            if isinstance(request, Keep) and store:
                request.change(store)
            if len(seen) == steps:
                return seen
    except StopIteration:
        return seen


def hosts(requests: list[Request]) -> list[str]:
    return [request.host for request in requests if isinstance(request, On)]


# ── switchover ──────────────────────────────────────────────────────────────────────────────────
def test_a_switchover_goes_to_the_synchronous_standby_unless_told_otherwise(target: Target) -> None:
    seen = walk(switchover.switchover(target), status())
    assert hosts(seen) == ["pg1", "pg2"]
    assert isinstance(seen[-1], Whole)


def test_a_member_whose_lag_nobody_knows_comes_last(target: Target) -> None:
    """Patroni says so of a replica without a position."""
    lost = member("replica", lag_bytes="unknown")
    seen = walk(switchover.switchover(target), status(pg2=lost, pg3=member()))
    assert hosts(seen) == ["pg1", "pg3"]
    with pytest.raises(OperationError, match="nobody knows how far pg2 lags"):
        walk(switchover.switchover(asked(target, "pg2")), status(pg2=lost))


def test_a_switchover_to_who_leads_already_is_done(target: Target) -> None:
    assert walk(switchover.switchover(asked(target, "pg1")), status())[1:] == [Whole()]


def test_nothing_is_done_before_a_person_has_agreed(target: Target) -> None:
    for begin in (switchover.switchover, operations.restart, operations.rotate_passwords):
        kinds = [type(request) for request in walk(begin(target), status())]
        assert set(kinds[: kinds.index(Confirm)]) <= {Ask, Hear, Preview}


@pytest.mark.parametrize(
    ("word", "world", "because"),
    [
        ("etcd1", status(), "is not a database host"),
        ("pg2", status(pg2=member("sync_standby", lag_bytes=9_000_000)), "lags by 8789 KiB"),
        ("pg2", status(pg2=member("sync_standby", state="starting")), "pg2 is starting"),
        ("pg2", status(pg2=member("sync_standby", answers=False)), "does not answer"),
        ("pg3", status(), "is not the synchronous standby"),
    ],
)
def test_a_candidate_that_would_lose_something_is_refused_with_the_reason(
    target: Target, word: str, world: Any, because: str
) -> None:
    with pytest.raises(OperationError, match=because):
        walk(switchover.switchover(asked(target, word)), world)


def leaderless() -> dict[str, Any]:
    world = status()
    world["patroni"]["leader"] = None
    world["patroni"]["members"]["pg1"]["role"] = "replica"
    return world


def test_without_a_leader_there_is_no_switchover(target: Target) -> None:
    with pytest.raises(OperationError, match="no leader"):
        walk(switchover.switchover(target), leaderless())


def test_a_leader_that_only_the_others_hear_is_one(target: Target) -> None:
    """Cut off from us, and in the others' list: a failover beside it would lose its writes."""
    world = status()
    world["patroni"]["leader"] = None
    with pytest.raises(OperationError, match="pg1 leads, and says nothing to us"):
        walk(switchover.switchover(target), world)
    with pytest.raises(OperationError, match="pg1 leads\n"):
        walk(switchover.failover(asked(target, "pg2")), world)


def test_a_switchover_that_fails_says_how_it_goes_on(target: Target) -> None:
    course = switchover.switchover(target)
    request = until_on(course, next(course))
    refusal = OperationError(f"pg1: {request.label}: not authenticated")
    assert isinstance(course.throw(refusal), Ask)
    with pytest.raises(OperationError) as failed:
        course.send(status())
    chosen = request.label.removeprefix("hands over to ")
    assert failed.value.what == refusal.what
    assert failed.value.do.endswith(f"pgha-build ops switchover {chosen}")


def until_on(course: Course, request: Request) -> On:
    while not isinstance(request, On):
        request = course.send(status() if isinstance(request, Ask) else None)
    return request


def test_a_switchover_that_came_about_though_its_answer_did_not_is_one(target: Target) -> None:
    """Patroni gives up to wait after a while, and goes on."""
    course = switchover.switchover(target)
    request = until_on(course, next(course))
    answer = course.throw(OperationError("switchover status unknown"))
    moved = status()
    moved["patroni"]["leader"] = None
    for _ in range(3):  # it promotes
        assert isinstance(answer, Ask)
        answer = course.send(moved)
    moved["patroni"]["leader"] = request.label.removeprefix("hands over to ")
    after = course.send(moved)
    assert isinstance(after, On)
    assert after.label == "leads, and all follow"


@pytest.mark.parametrize("begin", [switchover.switchover, operations.restart])
def test_whoever_promotes_just_now_is_waited_for(begin: Any, target: Target) -> None:
    """The lock comes before the promotion; a leader may also answer late, once."""

    def world(seen: list[Request]) -> Mapping[str, Any]:
        found = status()
        if sum(isinstance(request, Ask) for request in seen) % 4 == 1:
            found["patroni"]["leader"] = None
        return found

    assert hosts(walk(begin(target), world)) == hosts(walk(begin(target), status()))


# ── restart ─────────────────────────────────────────────────────────────────────────────────────
def test_replicas_restart_before_whoever_leads_at_that_moment(target: Target) -> None:
    def world(seen: list[Request]) -> Mapping[str, Any]:
        """The lead moves to pg2 once pg3 has been restarted."""
        moved = "pg3" in hosts(seen)
        found = status()
        found["patroni"]["leader"] = "pg2" if moved else "pg1"
        return found

    assert hosts(walk(operations.restart(target), status())) == ["pg2", "pg3", "pg1"]
    assert hosts(walk(operations.restart(target), world)) == ["pg2", "pg3", "pg1"]
    assert hosts(walk(operations.restart(asked(target, "pg3")), status())) == ["pg3"]


def test_no_member_is_restarted_while_another_is_down(target: Target) -> None:
    world = status(pg3=member(answers=False))
    with pytest.raises(OperationError, match="not all members are well: pg3"):
        walk(operations.restart(target), world)


def test_in_failsafe_mode_nobody_is_made_to_stop_leading(target: Target) -> None:
    """Without etcd nobody could lead again."""
    world = status()
    world["patroni"]["failsafe"] = True
    with pytest.raises(OperationError, match="goes on without etcd"):
        walk(operations.restart(target), world)
    with pytest.raises(OperationError, match="there is no etcd"):
        walk(switchover.switchover(target), world)


# ── reinit and failover ─────────────────────────────────────────────────────────────────────────
def test_the_leaders_data_is_never_thrown_away(target: Target) -> None:
    with pytest.raises(OperationError, match="its data is the one that counts"):
        walk(operations.reinit(asked(target, "pg1")), status())


def test_a_failover_is_only_for_a_cluster_without_a_leader(target: Target) -> None:
    with pytest.raises(OperationError, match="pg1 leads"):
        walk(switchover.failover(asked(target, "pg2")), status())
    assert hosts(walk(switchover.failover(asked(target, "pg2")), leaderless())) == ["pg2"]


# ── pause ───────────────────────────────────────────────────────────────────────────────────────
def test_pause_is_heard_by_all_and_done_once(target: Target) -> None:
    assert set(hosts(walk(operations.pause(target), status()))) == {"pg1", "pg2", "pg3"}
    world = status()
    world["patroni"]["paused"] = True
    assert hosts(walk(operations.pause(target), world)) == []
    assert hosts(walk(operations.resume(target), status())) == []


# ── certificates ────────────────────────────────────────────────────────────────────────────────
NEW = frozenset({core.NEW_AUTHORITY})


def rotate(target: Target, store: SecretStore, stop_after: int | None = None) -> list[Request]:
    """Rotate onto new authorities; the controller dies after `stop_after` steps."""
    again = Target(spec=target.spec, secrets=store, options=NEW)
    return walk(core.rotate_certificates(again), status(), store=store, steps=stop_after)


def trusted(store: SecretStore) -> set[bytes]:
    authority = store.authority("cluster")
    return {authority.certificate_pem, *authority.beside}


def test_between_any_two_applies_who_signs_is_trusted_everywhere(target: Target) -> None:
    """What the hosts had last is the trust; what they get next is signed by somebody in it."""
    store = target.secrets
    old = store.authority("cluster").certificate_pem
    on_hosts = trusted(store)
    again = Target(spec=target.spec, secrets=store, options=NEW)
    course = core.rotate_certificates(again)
    request = next(course)
    with suppress(StopIteration):
        while True:
            if isinstance(request, Keep):
                request.change(store)
            if isinstance(request, Converge):
                assert store.authority("cluster").certificate_pem in on_hosts
                on_hosts = trusted(store)
            request = course.send(status() if isinstance(request, Ask) else None)
    assert store.phase is Phase.SETTLED
    assert old not in on_hosts
    assert len(on_hosts) == 1


def test_a_rotation_that_was_ended_anywhere_goes_on_to_the_same_end(target: Target) -> None:
    whole = len(rotate(target, target.secrets))
    for steps in range(1, whole):
        before = target.secrets.authority("cluster").certificate_pem
        began = [type(r) for r in rotate(target, target.secrets, stop_after=steps)]
        rest = rotate(target, _reopened(target))
        store = _reopened(target)
        assert store.phase is Phase.SETTLED
        if Keep in began:
            assert store.authority("cluster").certificate_pem != before
            assert [r for r in rest if isinstance(r, Converge)]
        target = Target(spec=target.spec, secrets=store, refusals=target.refusals)


@pytest.mark.parametrize("begin", [core.rotate_certificates, operations.rotate_passwords])
def test_nothing_new_is_kept_while_a_host_could_not_learn_of_it(
    begin: Callable[[Target], Course], target: Target
) -> None:
    world = {**status(), "unreachable": {"lb2": "no route to host"}}
    seen: list[Request] = []
    with pytest.raises(OperationError, match="cannot be reached: lb2"):
        walk(begin(target), lambda before: seen.extend(before) or world)
    assert [type(request) for request in seen] == [Ask]


def _reopened(target: Target) -> SecretStore:
    return open_store(target.spec.path, target.spec.name)


def test_new_leaves_under_the_same_authority_are_one_phase(target: Target) -> None:
    store = target.secrets
    authority, key = store.authority("cluster"), store.leaf_key("pg1", "patroni-server")
    seen = walk(core.rotate_certificates(target), status(), store=store)
    assert sum(isinstance(request, Converge) for request in seen) == 1
    assert store.authority("cluster").certificate_pem == authority.certificate_pem
    assert store.leaf_key("pg1", "patroni-server") != key


def test_secrets_that_somebody_else_has_rotated_are_not_overwritten(target: Target) -> None:
    other = _reopened(target)
    other.announce()
    with pytest.raises(Exception, match="written by somebody else"):
        target.secrets.announce()


# ── passwords ───────────────────────────────────────────────────────────────────────────────────
def test_the_database_learns_a_password_before_the_hosts(target: Target) -> None:
    seen = walk(operations.rotate_passwords(target), status(), store=target.secrets)
    kinds = [type(request) for request in seen]
    assert kinds.index(Keep) < kinds.index(On) < kinds.index(Converge)
    assert hosts(seen) == ["pg1"]


def test_only_the_named_password_changes_and_an_unknown_name_is_refused(target: Target) -> None:
    store = target.secrets
    before = {name: store.password(name) for name in store.password_names}
    walk(operations.rotate_passwords(asked(target, "app")), status(), store=store)
    changed = {name for name in before if store.password(name) != before[name]}
    assert changed == {"user-app"}
    with pytest.raises(OperationError, match="no password of nobody"):
        walk(operations.rotate_passwords(asked(target, "nobody")), status())


def test_no_password_stands_in_a_step_that_is_shown(target: Target) -> None:
    seen = walk(operations.rotate_passwords(target), status(), store=target.secrets)
    texts = repr(seen)
    assert not [s for s in target.secrets.values() if s.reveal() in texts]


# ── replace ─────────────────────────────────────────────────────────────────────────────────────
def without(host: str) -> dict[str, Any]:
    """The cluster with a blank machine in place of `host`."""
    world = status()
    if host in world["etcd"]["members"]:
        world["etcd"]["members"][host] = {"healthy": False}
    if host in world["patroni"]["members"]:
        world["patroni"]["members"][host] = member("", answers=False, state=None)
    return world


@pytest.mark.parametrize("host", ["etcd2", "pg2", "lb1"])
def test_a_blank_machine_becomes_what_the_dead_one_was(target: Target, host: str) -> None:
    seen = walk(core.replace(asked(target, host)), without(host))
    assert [type(r) for r in seen] == [Ask, Confirm, Converge, Whole]


def test_replacing_is_refused_where_it_would_cost_quorum_or_the_last_copy(target: Target) -> None:
    two_down = without("etcd2")
    two_down["etcd"]["members"]["etcd3"] = {"healthy": False}
    with pytest.raises(OperationError, match="only etcd1 would be left: no quorum"):
        walk(core.replace(asked(target, "etcd2")), two_down)
    headless = without("pg1")
    headless["patroni"]["leader"] = None
    with pytest.raises(OperationError, match="no other copy of the data"):
        walk(core.replace(asked(target, "pg1")), headless)


def test_a_machine_that_is_not_blank_or_not_there_is_not_replaced(target: Target) -> None:
    alive = {**status(), "managed": {"pg2": 61}}
    with pytest.raises(OperationError, match="not blank: it carries 61 resources"):
        walk(core.replace(asked(target, "pg2")), alive)
    half = {**without("pg2"), "managed": {"pg2": 20}}  # an earlier replace was interrupted
    again = replace(asked(target, "pg2"), sizes={"pg2": 61})
    assert Converge in [type(r) for r in walk(core.replace(again), half)]
    gone = {**status(), "unreachable": {"pg2": "no route to host"}}
    with pytest.raises(OperationError, match="no route to host"):
        walk(core.replace(asked(target, "pg2")), gone)
    with pytest.raises(OperationError, match="no host pg9"):
        walk(core.replace(asked(target, "pg9")), status())


# ── etcd ──────────────────────────────────────────────────────────────────────────────────────────
def test_etcds_members_are_defragmented_one_by_one_its_leader_last(target: Target) -> None:
    seen = [r for r in walk(etcd.defragment(target), status()) if isinstance(r, On)]
    assert [r.host for r in seen if r.label == "defragments"] == ["etcd2", "etcd3", "etcd1"]
    labels = [r.label for r in seen]
    assert labels.index("compacts") < labels.index("defragments") < labels.index("clears alarms")


def test_etcd_is_left_alone_while_a_member_does_not_answer(target: Target) -> None:
    world = status()
    world["etcd"]["members"]["etcd3"]["size_bytes"] = None
    with pytest.raises(OperationError, match="etcd does not answer on etcd3"):
        walk(etcd.defragment(target), world)


# ── interrupted ─────────────────────────────────────────────────────────────────────────────────
BEGIN: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "switchover": (switchover.switchover, ()),
    "restart": (operations.restart, ()),
    "reinit": (operations.reinit, ("pg2",)),
    "rotate-passwords": (operations.rotate_passwords, ()),
    "rotate-certificates": (core.rotate_certificates, ()),
    "replace": (core.replace, ("pg2",)),
    "defragment-etcd": (etcd.defragment, ()),
}


@pytest.mark.parametrize("name", BEGIN)
def test_whoever_is_ended_after_any_step_can_be_given_again(target: Target, name: str) -> None:
    """Each run begins by looking; the second does all that the first left out."""
    begin, words = BEGIN[name]
    world = without("pg2") if name == "replace" else status()
    whole = walk(begin(asked(target, *words)), world, store=target.secrets)
    for steps in range(1, len(whole)):
        walk(begin(asked(target, *words)), world, store=target.secrets, steps=steps)
        target = replace(target, secrets=_reopened(target))
        again = walk(begin(asked(target, *words)), world, store=target.secrets)
        assert isinstance(again[-1], Whole)
        assert [type(r) for r in again] == [type(r) for r in whole]


# ── update ──────────────────────────────────────────────────────────────────────────────────────
POLICY = """\
haproxy:
  Installed: 3.0.11-1+deb13u3
  Candidate: 3.0.11-1+deb13u5
  Version table:
     3.2.1-1~bpo13+1 100
        100 mirror trixie-backports/main amd64 Packages
     3.0.11-1+deb13u5 500
        500 mirror trixie-security/main amd64 Packages
 *** 3.0.11-1+deb13u3 500
        500 mirror trixie/main amd64 Packages
        100 /var/lib/dpkg/status
keepalived:
  Installed: 1:2.3.3-1
  Candidate: 1:2.3.3-1
  Version table:
 *** 1:2.3.3-1 500
        500 mirror trixie/main amd64 Packages
not-yet:
  Installed: (none)
  Candidate: 1.0
  Version table:
     1.0 500
        500 mirror trixie/main amd64 Packages
"""


def updated(
    target: Target, pins: Mapping[str, str] = MappingProxyType({}), said: str = POLICY
) -> list[Request]:
    sections = {**target.spec.sections, "packages": {"versions": pins}}
    packages = {"lb1": ("haproxy", "keepalived", "not-yet")}
    spec = replace(target.spec, sections=sections)
    course = update(Target(spec=spec, secrets=target.secrets, packages=packages))
    seen: list[Request] = []
    answer: Any = None
    try:
        while True:
            seen.append(course.send(answer))
            answer = {"lb1": said} if isinstance(seen[-1], Hear) else None
    except StopIteration:
        return seen


def test_an_update_shows_both_versions_and_wants_what_apt_would_take(target: Target) -> None:
    seen = updated(target)
    kinds = [type(request) for request in seen]
    assert kinds == [Whole, Hear, Tell, Confirm, Converge, Whole]
    assert seen[2].lines == ("lb1  haproxy  3.0.11-1+deb13u3  →  3.0.11-1+deb13u5",)
    assert seen[4].versions == {"lb1": {"haproxy": "3.0.11-1+deb13u5"}}


@pytest.mark.parametrize(
    ("pin", "version"),
    [("3.2*", "3.2.1-1~bpo13+1"), ("3.0.11*", "3.0.11-1+deb13u5"), ("2.9-1", None)],
)
def test_an_update_keeps_to_a_pin(target: Target, pin: str, version: str | None) -> None:
    seen = updated(target, {"haproxy": pin})
    converged = [request.versions for request in seen if isinstance(request, Converge)]
    assert converged == ([{"lb1": {"haproxy": version}}] if version else [])


def test_an_update_that_was_ended_after_the_installation_goes_on(target: Target) -> None:
    new = POLICY.replace("Installed: 3.0.11-1+deb13u3", "Installed: 3.0.11-1+deb13u5")
    assert [type(r) for r in updated(target, said=new)] == [Whole, Hear, Tell]
    seen = updated(target, said=f"{new}owing:\n")
    assert [type(request) for request in seen] == [Whole, Hear, Tell, Confirm, Converge, Whole]
    assert "on lb1" in seen[3].question


def test_a_host_says_whether_it_owes_a_restart(target: Target, tmp_path: Path) -> None:
    """Asked as an update asks, with the manifest that an apply writes before it restarts."""
    unit = Unit(hosts=("lb1",), name="haproxy.service")
    hear = next(r for r in updated(target) if isinstance(r, Hear))
    asks = hear.scripts["lb1"].splitlines()[-1].replace(manifest.PATH, f"{tmp_path}/m")
    for act, said in ((Impact.RESTART, "owing:\n"), (Impact.RELOAD, "")):
        found = manifest.Manifest().begun("c", [(unit, act)])
        (tmp_path / "m").write_text(manifest.dump(found))
        done = subprocess.run(["sh", "-c", asks], capture_output=True, text=True, check=True)
        assert done.stdout == said


# ── before a member is interrupted ──────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("curl", "passes"),
    [
        ("printf 503", True),
        ("printf 000; exit 7", True),  # nothing listens: Patroni has ended
        ("printf 000; exit 28", False),  # it took the connection and says nothing
        ("printf 200", False),
    ],
)
def test_a_member_is_interrupted_only_where_it_is_known_not_to_lead(
    target: Target, tmp_path: Path, curl: str, passes: bool
) -> None:
    """The condition itself, as a step runs it."""
    for name, text in (("curl", curl), ("patronictl", "echo Error: no candidate")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    condition = gives_lead_away(target.spec, target.spec.hosts["pg1"])
    done = subprocess.run(
        ["dash", "-c", f"set -e\nsaid=$(eval {shlex.quote(condition)}) || exit 1"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
    )
    assert (done.returncode == 0) == passes
