"""Wanted changes of the spec, saved plans, narrowed ones, the lock, and Ctrl-C. Real hosts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lab

CFG = "/etc/haproxy/haproxy.cfg"
CTL = "patronictl -c /etc/patroni/config.yml"


def _addresses(document: Any) -> set[str]:
    return {change["address"] for change in document["changes"]}


# ── what the spec gains and loses ───────────────────────────────────────────────────────────────
def test_a_parameter_comes_with_the_spec_and_goes_with_it(seven: Any, until: Any) -> None:
    before = seven.spec()
    seven.write(
        {**before, "postgresql": {**before["postgresql"], "parameters": {"work_mem": "17MB"}}}
    )
    plan = seven.document("plan", exit_code=2)
    assert f"cluster/patroni_config:{seven.name}" in _addresses(plan)
    assert not any(change["drift"] for change in plan["changes"])
    assert plan["impact"] == "reload"
    seven.apply()
    seven.in_sync()
    until(lambda: seven.answers("primary", "SHOW work_mem") == "17MB", 20)
    until(lambda: seven.answers("replica", "SHOW work_mem") == "17MB", 20)

    seven.write(before)
    seven.apply()
    seven.in_sync()
    until(lambda: seven.answers("primary", "SHOW work_mem") != "17MB", 20)


def test_a_parameter_with_which_postgresql_does_not_start_is_corrected(seven: Any) -> None:
    before, leader = seven.spec(), seven.leader()
    section = {**before["postgresql"], "parameters": {"shared_buffers": "900GB"}}
    seven.write({**before, "postgresql": section})
    applied = seven.apply(exit_code=1)
    assert {failure["address"] for failure in applied["failed"]} == {
        f"{host}/postgresql:{host}" for host in seven.hosts("patroni")
    }
    assert seven.leader() == leader
    assert seven.answers("primary", "SELECT 1") == "1"
    seven.write(before)
    seven.apply()
    seven.in_sync()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"postgresql": {"parameters": {"shared_bufers": "8GB"}}},
            "knows no shared_bufers; did you mean shared_buffers?",
        ),
        (
            {"postgresql": {"parameters": {"work_mem": "64mb"}}},
            'invalid value for parameter "work_mem"',
        ),
        ({"patroni": {"watchdog": "required"}}, "this host has no /dev/watchdog"),
    ],
    ids=["a mistyped parameter", "a value that is none", "no watchdog"],
)
def test_what_patroni_would_stumble_over_is_refused_before_it_reads_it(
    section: Any, said: str, seven: Any
) -> None:
    before, leader = seven.spec(), seven.leader()
    known = seven.on(leader, f"{CTL} show-config")
    seven.write(before | {key: {**before.get(key, {}), **more} for key, more in section.items()})
    done = seven.run("apply", "--yes")
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr[-3000:]
    assert seven.on(leader, f"{CTL} show-config") == known
    assert seven.leader() == leader
    assert seven.answers("primary", "SELECT 1") == "1"
    seven.write(before)
    seven.apply()
    seven.in_sync()


def test_users_databases_and_extensions_come_and_users_go(seven: Any) -> None:
    before = seven.spec()
    section = before["postgresql"]
    books = {"name": "books", "owner": "app", "extensions": ["hstore", "pg_stat_statements"]}
    second = {"name": "second", "connection_limit": 3, "member_of": ["pg_monitor"]}
    more = {"users": [*section["users"], second], "databases": [*section["databases"], books]}
    seven.write({**before, "postgresql": {**section, **more}})
    seven.apply()
    assert "second" in Path(seven.home, ".pgha", seven.name, "pgpass").read_text()
    primary = seven.uris["primary"].replace("/app?", "/books?")
    installed = "SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension"
    for uri, question, expected in (
        (primary, installed, "hstore pg_stat_statements plpgsql\n"),
        (primary.replace("app@", "second@"), "SELECT 1", "1\n"),
    ):
        done = seven.psql(uri, question)  # at once: an apply ends when its pg_hba.conf is in force
        assert (done.stderr, done.stdout) == ("", expected)

    seven.write(before)
    plan = seven.document("plan", exit_code=2)
    gone = [c["address"] for c in plan["changes"] if c["action"] == "delete"]
    assert gone == ["cluster/role:second"]
    seven.apply()
    seven.in_sync()
    roles = "SELECT count(*) FROM pg_roles WHERE rolname = 'second'"
    assert seven.answers("primary", roles) == "0"
    databases = "SELECT count(*) FROM pg_database WHERE datname = 'books'"
    assert seven.answers("primary", databases) == "1"  # a deleted line deletes no data
    seven.sql("DROP DATABASE books")


def test_a_membership_goes_with_the_spec_and_others_stay(seven: Any) -> None:
    before = seven.spec()
    section = before["postgresql"]
    (app,) = section["users"]
    seven.write(
        {**before, "postgresql": {**section, "users": [{**app, "member_of": ["pg_monitor"]}]}}
    )
    seven.apply()
    seven.sql("GRANT pg_signal_backend TO app")
    seven.in_sync()
    seven.write(before)
    (change,) = seven.document("plan", exit_code=2)["changes"]
    assert (change["address"], list(change["attributes"])) == (
        "cluster/role:app",
        ["member_of.pg_monitor"],
    )
    seven.apply()
    seven.in_sync()
    groups = "SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members WHERE member = "
    assert seven.answers("primary", f"{groups}'app'::regrole") == "pg_signal_backend"
    seven.sql("REVOKE pg_signal_backend FROM app")


def test_a_user_that_owns_something_is_not_dropped_and_the_plan_says_so_again(seven: Any) -> None:
    before = seven.spec()
    section = before["postgresql"]
    users = {"users": [*section["users"], {"name": "owner1"}]}
    seven.write({**before, "postgresql": {**section, **users}})
    seven.apply()
    seven.sql("CREATE TABLE kept (n int); ALTER TABLE kept OWNER TO owner1")
    seven.write(before)
    done = seven.run("apply", "--yes", "--json")
    assert done.returncode == 1
    assert "✗ cluster/role:owner1" in done.stderr, "told where a person looks, too"
    refused = json.loads(done.stdout)
    assert [failure["address"] for failure in refused["failed"]] == ["cluster/role:owner1"]
    assert "table kept" in refused["failed"][0]["said"]
    assert _addresses(seven.document("plan", exit_code=2)) == {"cluster/role:owner1"}
    seven.sql("DROP TABLE kept")
    seven.apply()
    seven.in_sync()


def test_a_role_taken_off_a_host_leaves_nothing_there(seven: Any) -> None:
    before = seven.spec()
    holder = seven.status()["keepalived"]["holders"][0]
    other = next(host for host in seven.hosts("keepalived") if host != holder)
    hosts = {**before["hosts"], holder: {**before["hosts"][holder], "roles": ["haproxy"]}}
    seven.write({**before, "hosts": hosts})
    plan = seven.document("plan", exit_code=2)
    assert {c["hosts"][0] for c in plan["changes"]} == {holder, other}
    assert plan["impact"] == "restart"
    seven.apply()
    seven.in_sync()
    assert seven.status()["keepalived"]["holders"] == [other]
    assert seven.answers("primary", "SELECT 1") == "1"
    assert seven.try_on(holder, "systemctl is-active keepalived").stdout == "inactive\n"
    left = seven.try_on(
        holder,
        "ls -d /etc/keepalived/keepalived.conf /etc/systemd/system/keepalived.service.d "
        "/usr/local/lib/pgha-build /usr/sbin/keepalived; getent passwd keepalived_script; "
        "grep keepalived /var/lib/pgha-build/manifest.json",
    )
    assert left.stdout == ""
    assert seven.status()["haproxy"]["balancers"][holder]["answers"]

    seven.write(before)
    seven.apply()
    seven.in_sync()
    assert sorted(seven.status()["keepalived"]["running"]) == ["lb1", "lb2"]


# ── saved and narrowed plans ────────────────────────────────────────────────────────────────────
def test_a_saved_plan_is_applied_once_and_not_after_the_world_moved_on(
    seven: Any, tmp_path: Path
) -> None:
    saved = tmp_path / "plan"
    seven.on("lb1", f"echo '# one' >>{CFG}")
    assert seven.run("plan", "--out", str(saved)).returncode == 2
    assert saved.stat().st_mode & 0o777 == 0o600
    assert seven.run("apply", str(saved)).returncode == 0
    seven.in_sync()
    for damage in ("", f"echo '# two' >>{CFG}"):
        seven.on("lb1", damage or "true")
        refused = seven.run("apply", str(saved))
        assert refused.returncode == 1
        assert "the saved plan no longer holds" in refused.stderr
    assert "# two" in seven.on("lb1", f"cat {CFG}")


def test_without_yes_and_without_a_terminal_nothing_is_done(seven: Any) -> None:
    seven.on("lb1", f"echo '# one' >>{CFG}")
    asked = seven.run("apply")
    assert asked.returncode == 1
    assert "--yes" in asked.stderr
    assert "# one" in seven.on("lb1", f"cat {CFG}")


def test_only_does_what_was_asked_for(seven: Any) -> None:
    for host in ("lb1", "lb2"):
        seven.on(host, f"echo '# by hand' >>{CFG}")
    seven.on("pg1", "nft flush ruleset")
    both = {f"lb2/file:{CFG}", "lb2/unit:haproxy.service"}
    assert _addresses(seven.document("plan", "--only", "lb2", exit_code=2)) == both
    assert set(seven.apply("--only", "lb2")["done"]) == both
    seven.apply("--only", "haproxy")
    left = seven.document("plan", exit_code=2)
    assert _addresses(left) == {"pg1/nftables:pgha"}
    unknown = seven.run("plan", "--only", "nonsense")
    assert unknown.returncode == 1
    assert "nothing has that host, role or address" in unknown.stderr
    seven.apply("--only", "pg1/nftables:pgha")
    seven.in_sync()


# ── one apply at a time, and its end before its end ─────────────────────────────────────────────
@contextmanager
def _slow_apply(cluster: Any, until: Any) -> Iterator[Any]:
    """An apply that has the lock and waits: its host is busy with a script of ours."""
    cluster.on("lb1", f"echo '# by hand' >>{CFG}")
    cluster.on("lb1", "systemd-run -q --unit=busy flock /var/lib/pgha-build/running sleep infinity")
    with cluster.start("apply", "--yes") as running:
        try:
            until(lambda: cluster.try_on("lb1", "pgrep -fx 'flock -w 900 8'").returncode == 0, 120)
            yield running
        finally:
            running.kill()
            cluster.try_on("lb1", "systemctl stop busy")


def test_of_two_applies_the_second_names_the_first_at_once(seven: Any, until: Any) -> None:
    with _slow_apply(seven, until) as first:
        begin = time.monotonic()
        second = seven.run("apply", "--yes")
        assert time.monotonic() - begin < 60  # it does not wait for the first, which waits for ever
        assert second.returncode == 1
        assert f"pid {first.pid}" in second.stderr
        assert "pgha-build apply" in second.stderr
        seven.on("lb1", "systemctl stop busy")
        first.communicate(timeout=60)
        assert first.returncode == 0
    seven.in_sync()


def test_a_killed_apply_leaves_no_lock(seven: Any, until: Any) -> None:
    with _slow_apply(seven, until) as killed:
        killed.kill()
        killed.communicate()
    seven.apply(seconds=120)
    seven.in_sync()


def test_an_apply_that_slept_for_a_minute_goes_on_with_nothing(seven: Any, until: Any) -> None:
    free = "flock -n /var/lib/pgha-build/lock true"
    with _slow_apply(seven, until) as asleep:
        asleep.send_signal(signal.SIGSTOP)
        until(lambda: all(not seven.try_on(h, free).returncode for h in seven.hosts()), 100)
        seven.on("lb1", "systemctl stop busy")
        asleep.send_signal(signal.SIGCONT)
        stderr = asleep.communicate(timeout=60)[1]
    assert asleep.returncode == 1, stderr
    assert "the lock was lost on" in stderr
    seven.apply()
    seven.in_sync()


def test_ctrl_c_ends_what_runs_and_apply_goes_on_from_there(seven: Any, until: Any) -> None:
    with _slow_apply(seven, until) as stopped:
        stopped.send_signal(signal.SIGINT)
        until(lambda: seven.try_on("lb1", "ls /run/pgha-build-stop-*").returncode == 0, 20)
        seven.on("lb1", "systemctl stop busy")
        stderr = stopped.communicate(timeout=60)[1]
    assert stopped.returncode == 130, stderr
    assert "# by hand" in seven.on("lb1", f"cat {CFG}")
    assert seven.try_on("lb1", "ls /run/pgha-build-stop-*").returncode != 0
    seven.apply()
    seven.in_sync()


def test_waves_end_at_the_first_host_that_fails_and_the_rest_is_left_alone(seven: Any) -> None:
    for host in ("lb1", "lb2"):
        seven.on(host, "echo '# by hand' >>/etc/haproxy/haproxy.cfg")
    seven.run("lab", "stop", "lb1")
    done = seven.run("apply", "--yes", "--waves")
    seven.run("lab", "start", "lb1")
    assert done.returncode == 1
    assert "Stopped at lb1. Not begun: lb2." in done.stderr
    assert "by hand" in seven.on("lb2", "cat /etc/haproxy/haproxy.cfg")
    done = seven.run("apply", "--yes", "--waves")
    assert done.returncode == 0, done.stderr[-3000:]
    seven.in_sync()
