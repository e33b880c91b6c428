"""Memberships of a role: granted with the spec, revoked with it, and others' left alone.

What it may execute is compared, so a plan shows what is missing and an apply grants it.
"""

from __future__ import annotations

import json

from builder.engine.diff import difference
from builder.engine.manifest import Entry, Manifest, dump, load
from builder.resources.base import Absent, Action, Change, Present
from builder.resources.database_role import DatabaseRole
from builder.resources.steps import Shell

HOSTS = ("pg1", "pg2")


def role(*member_of: str) -> DatabaseRole:
    return DatabaseRole(hosts=HOSTS, name="app", member_of=member_of)


def applied(resource: DatabaseRole) -> Entry:
    """What the manifest remembers, as it comes back from a host."""
    return load(dump(Manifest().settled("orders", [resource]))).entries[resource.address]


def planned(wanted: DatabaseRole, before: DatabaseRole | None, *groups: str) -> Change:
    """`groups` are what PostgreSQL says that it is a member of."""
    said = f"role primary\napp|login |-1|infinity|none|{' '.join(groups)}|\n"
    observed = wanted.parse([wanted], said)["app"]
    return difference(wanted, observed, before and applied(before))


def statements(change: Change) -> list[str]:
    (step,) = change.steps()
    assert isinstance(step, Shell)
    lines = step.stdin.decode().splitlines()
    return [line for line in lines if line.startswith(("GRANT", "REVOKE"))]


def test_a_membership_that_leaves_the_spec_is_revoked() -> None:
    change = planned(
        role("pg_monitor"),
        role("pg_monitor", "pg_write_all_data"),
        "pg_monitor",
        "pg_write_all_data",
    )
    assert (change.action, change.drift) == (Action.UPDATE, False)
    assert [(i.name, i.before, i.after) for i in change.attributes] == [
        ("member_of.pg_write_all_data", "granted", None)
    ]
    assert statements(change) == [
        'GRANT "pg_monitor" TO "app";',
        'REVOKE "pg_write_all_data" FROM "app";',
    ]


def test_what_others_granted_is_left_alone() -> None:
    assert planned(role(), role(), "pg_write_all_data").action is Action.NONE
    assert planned(role(), None, "pg_write_all_data").action is Action.NONE
    change = planned(role("pg_monitor"), role(), "theirs")
    assert statements(change) == ['GRANT "pg_monitor" TO "app";']


def test_a_membership_that_somebody_took_away_is_drift() -> None:
    change = planned(role("pg_monitor"), role("pg_monitor"))
    assert (change.action, change.drift) == (Action.UPDATE, True)
    assert planned(role(), role("pg_monitor")).action is Action.NONE, "gone already"


def test_a_revoke_that_did_not_come_about_is_planned_again() -> None:
    """An apply that was killed leaves the entry with the old memberships."""
    old = Manifest().settled("orders", [role("pg_monitor")])
    change = planned(role(), role("pg_monitor"), "pg_monitor")
    begun = old.begun("orders", [(role(), change.impact)]).entries[role().address]
    assert "member_of.pg_monitor" in json.loads(json.dumps(dict(begun.attributes)))
    assert difference(role(), change.observed, begun).changes("member_of.pg_monitor")


# ── functions ───────────────────────────────────────────────────────────────────────────────────
READS = ("pg_ls_dir(text,boolean,boolean)", "pg_read_binary_file(text)")
REWIND = DatabaseRole(hosts=("pg1",), name="rewind", may_execute=READS)


def observed(*functions: str, role: DatabaseRole = REWIND) -> Present:
    said = f"role primary\n{role.name}|login |-1|infinity|none||{' '.join(functions)}\n"
    seen = role.parse([role], said)[role.name]
    assert isinstance(seen, Present)
    return seen


def made_by(seen: Present | Absent) -> str:
    (step,) = difference(REWIND, seen, None).steps()
    assert isinstance(step, Shell)
    return step.stdin.decode()


def test_a_missing_grant_is_a_change_that_grants_it() -> None:
    change = difference(REWIND, observed(READS[0]), None)
    assert [item.name for item in change.attributes] == ["may_execute"]
    granted = made_by(observed(READS[0]))
    assert f"GRANT EXECUTE ON FUNCTION pg_catalog.{READS[1]} TO " in granted
    assert difference(REWIND, observed(*reversed(READS)), None).action is Action.NONE


def test_a_role_that_is_made_anew_may_execute_what_it_must() -> None:
    made = made_by(Absent())
    assert made.index("CREATE ROLE") < made.index("GRANT EXECUTE")
    assert made.count("GRANT EXECUTE") == len(READS)


def test_what_lets_a_role_see_too_much_or_keeps_it_out_is_a_change() -> None:
    said = "role primary\napp|login bypassrls |-1|2020-01-01 00:00:00+00|none||\n"
    plain = DatabaseRole(hosts=("pg1",), name="app")
    change = difference(plain, plain.parse([plain], said)["app"], None)
    assert {item.name for item in change.attributes} == {"flags", "valid_until"}
    (step,) = change.steps()
    assert isinstance(step, Shell)
    assert "nobypassrls" in step.stdin.decode()
    assert "valid until 'infinity'" in step.stdin.decode()


def test_functions_of_another_role_are_no_business_of_this_one() -> None:
    plain = DatabaseRole(hosts=("pg1",), name="app")
    seen = observed(*READS, role=plain)
    assert difference(plain, seen, None).action is Action.NONE
