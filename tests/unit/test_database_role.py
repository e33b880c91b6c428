"""Memberships of a role: granted with the spec, revoked with it, and others' left alone."""

from __future__ import annotations

import json

from builder.engine.diff import difference
from builder.engine.manifest import Entry, Manifest, dump, load
from builder.resources.base import Action, Change
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
    said = f"role primary\napp|login |-1|none|{' '.join(groups)}\n"
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
