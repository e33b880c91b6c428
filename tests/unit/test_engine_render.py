"""What a person and a program read of a plan, whole: `tests/golden/plans/NAME.txt` and `.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.engine import render
from builder.engine.manifest import Manifest
from builder.engine.plan import Plan
from builder.errors import ConnectionLost
from builder.resources.base import Absent, Impact, Present, Unknown

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
CONFIG = "lb1/file:/etc/haproxy/haproxy.cfg"
Scenario = Callable[[Any, Callable[[str], Any]], Plan]
SHAPE = Path(__file__).parents[1] / "golden" / "shapes" / "seven.yml"


def create_all(seven: Any, world_of: Any) -> Plan:
    promises = tuple(f"{fault} {seconds} s" for fault, seconds in (("host lost", 28), ("crash", 9)))
    return replace(seven.plan(seven.empty()), promises=promises)


def in_sync(seven: Any, world_of: Any) -> Plan:
    return seven.plan(seven.looks())


def but(resource: Any, **attributes: Any) -> Present:
    return Present(attributes={**resource.attributes(), **attributes})


def drift(seven: Any, world_of: Any) -> Plan:
    """A configuration edited by hand, a mode, a table, a password, and a file that is gone."""
    tls = "etcd1/directory:/etc/etcd/tls"
    overrides = {
        CONFIG: but(seven[CONFIG], content="0" * 64),
        tls: but(seven[tls], mode="0777"),
        "pg1/nftables:pgha": but(seven["pg1/nftables:pgha"], live="changed by hand"),
        "cluster/role:app": but(seven["cluster/role:app"], password="1" * 64),
        "pg2/file:/etc/profile.d/pgha-build.sh": Absent(),
    }
    plan = seven.plan(seven.looks(overrides))
    diff = ("@@ -1,2 +1,2 @@", " global", "-    maxconn 9", "+    maxconn 2100")
    return replace(plan, changes={**plan.changes, CONFIG: replace(plan.changes[CONFIG], diff=diff)})


def wanted_change(seven: Any, world_of: Any) -> Plan:
    """The spec asks for slower timings and one more extension; nobody changed anything."""
    text = SHAPE.read_text().replace("[pg_trgm, ", "[pg_trgm, hstore, ")
    new = world_of(text + "failover: {preset: standard}\n")
    looks = _as_before(seven, new)
    return new.plan(looks)


def _as_before(old: Any, new: Any) -> Any:
    """The hosts as `old` left them, asked about what `new` wants."""
    before = {resource.address: resource for resource in old.resources}
    found = {
        address: Present(attributes=resource.attributes()) for address, resource in before.items()
    }
    return new.looks(found, otherwise=lambda _: Absent(), manifest=old.manifest)


def removal(seven: Any, world_of: Any) -> Plan:
    """The balancers no longer hold an address; a user and a database have left the spec."""
    text = SHAPE.read_text().replace(", keepalived]", "]").partition("keepalived:")[0]
    users = "    - {name: report, connection_limit: 5, member_of: [pg_read_all_data]}\n"
    text = text.replace(users, "").partition("  access:")[0]
    new = world_of(text + "haproxy: {clients: [10.77.0.0/24], monitoring: [192.0.2.7/32]}\n")
    looks = _as_before(seven, new)
    return new.plan(looks)


def unknown_host(seven: Any, world_of: Any) -> Plan:
    """One host does not answer; what depends on it waits, the rest goes on."""
    unit = "etcd1/unit:etcd.service"
    lost = {"etcd2": ConnectionLost("etcd2", "no route to host")}
    return seven.plan(seven.looks({unit: but(seven[unit], state="stopped")}, errors=lost))


def triggered_restart(seven: Any, world_of: Any) -> Plan:
    units = [f"pg{n}/file:/etc/systemd/system/patroni.service" for n in (1, 2)]
    config = "pg1/file:/etc/patroni/config.yml"
    changed = {address: but(seven[address], content="0" * 64) for address in (*units, config)}
    looks = seven.looks(changed, manifest=lambda _: Manifest(cluster="orders"))
    return seven.plan(looks)


def note(seven: Any, world_of: Any) -> Plan:
    said = "stays 60: this host cannot set it to 1"
    swap = [f"pg{n}/sysctl:vm.swappiness" for n in (1, 2)]
    notes = {a: Present(attributes=seven[a].attributes(), note=said) for a in swap}
    return seven.plan(seven.looks(notes))


def unfinished(seven: Any, world_of: Any) -> Plan:
    """An apply was killed after the file was written, before the unit was restarted."""
    unit = seven["etcd1/unit:etcd.service"]

    def manifest(host: str) -> Manifest:
        known = seven.manifest(host)
        return known.begun("orders", [(unit, Impact.RESTART)]) if host == "etcd1" else known

    return seven.plan(seven.looks(manifest=manifest))


def certificates_grow_old(seven: Any, world_of: Any) -> Plan:
    address = "pg1/certificate:/etc/patroni/tls/server.crt"
    return seven.plan(seven.looks({address: but(seven[address], life="40 days left")}))


def database_cannot_be_asked(seven: Any, world_of: Any) -> Plan:
    down = Unknown("PostgreSQL does not answer: psql: error: connection refused")
    late = {r.address: down for r in seven.resources if r.late}
    return seven.plan(seven.looks(late))


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        create_all,
        in_sync,
        drift,
        wanted_change,
        removal,
        unknown_host,
        triggered_restart,
        note,
        unfinished,
        certificates_grow_old,
        database_cannot_be_asked,
    )
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_plan_reads_like_its_golden_file(
    name: str, seven: Any, world_of: Any, golden: Any
) -> None:
    plan = SCENARIOS[name](seven, world_of)
    head = f"(exit code {plan.exit_code})\n"
    golden(f"plans/{name}.txt", head + render.text(plan) + "\n")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_plan_for_programs_is_as_its_golden_file(
    name: str, seven: Any, world_of: Any, golden: Any
) -> None:
    document = render.document(SCENARIOS[name](seven, world_of))
    golden(f"plans/{name}.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_plan_shows_a_secret(name: str, seven: Any, world_of: Any) -> None:
    plan = SCENARIOS[name](seven, world_of)
    shown = render.text(plan) + json.dumps(render.document(plan)) + repr(plan)
    texts = seven.secrets.texts()
    assert len(texts) > 20
    assert [what for what, text in texts.items() if text in shown] == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_colour_only_repeats_what_a_symbol_says(name: str, seven: Any, world_of: Any) -> None:
    plan = SCENARIOS[name](seven, world_of)
    coloured = render.text(plan, colour=True)
    for code in ("31", "32", "33", "36"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured.replace("\x1b[0m", "") == render.text(plan)


@pytest.mark.parametrize("name", SCENARIOS)
def test_text_and_document_count_the_same_changes(name: str, seven: Any, world_of: Any) -> None:
    plan = SCENARIOS[name](seven, world_of)
    heads = [
        line
        for line in render.text(plan).splitlines()
        if line.startswith(tuple("  " + s for s in "+~-?"))
        and line[2:4] in {"+ ", "~ ", "- ", "? "}
    ]
    assert len(heads) == len(render.document(plan)["changes"])


def test_every_golden_plan_belongs_to_a_scenario() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(SCENARIOS)
