"""Laws that hold for every role, found through the registry; and what a new role still lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from builder import registry, templates
from builder.engine.desired import desired, listening, present
from builder.engine.graph import ancestors, graph
from builder.errors import SpecError
from builder.resources.base import Resource
from builder.resources.file import File
from builder.resources.unit import Unit
from builder.role import Role

ROOT = Path(__file__).parents[2]
ROLES = sorted(registry.roles())
SHAPES = sorted(file.stem for file in (ROOT / "tests" / "golden" / "shapes").glob("*.yml"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ours(name: str) -> bool:
    return (ROOT / "roles" / name).is_dir()


def lacks(name: str, role: Role, carried: set[str]) -> Iterator[str]:
    if not role.doc:
        yield "`doc`: one sentence for the reference page"
    if not (ROOT / "templates" / name).is_dir():
        yield f"templates/{name}/: what it writes on a host"
    if not role.everywhere and name not in carried:
        yield f"a host with roles: [{name}] in a file under tests/golden/shapes/"
    scenarios = list((ROOT / "molecule").glob("*/molecule.yml"))
    if scenarios and not (ROOT / "molecule" / name / "molecule.yml").is_file():
        yield f"molecule/{name}/molecule.yml: a scenario of its own"
    for section, declared in role.sections.items():
        if not declared.doc:
            yield f"a `doc` of its section {section}"


@pytest.mark.parametrize("name", ROLES)
def test_a_role_lacks_nothing(name: str, world: Any) -> None:
    carried = {
        role for shape in SHAPES for host in world(shape).spec.hosts.values() for role in host.roles
    }
    missing = list(lacks(name, registry.roles()[name], carried))
    assert not missing, f"the role {name} still lacks:\n" + "\n".join(f"- {m}" for m in missing)


def test_a_package_under_roles_is_a_role_of_that_name() -> None:
    packages = {p.parent.name for p in (ROOT / "roles").glob("[!_]*/__init__.py")}
    assert packages == {name for name in ROLES if ours(name)}


def test_every_folder_of_templates_belongs_to_a_role() -> None:
    assert {p.name for p in (ROOT / "templates").iterdir()} <= set(ROLES)


def test_every_template_is_used(world: Any) -> None:
    """Jinja remembers what it has loaded: after every shape, that must be all there is."""
    for shape in SHAPES:
        assert world(shape).desired.resources
    home = ROOT / "templates"
    loaded = templates._environment((home,), templates._revealed).cache
    assert loaded is not None
    used = {name for _, name in loaded}
    assert used == {str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()}


def test_a_file_of_ours_says_so_at_its_top(world: Any) -> None:
    """So that nobody edits it by hand unknowing. What is no text of ours is a certificate."""
    for shape in SHAPES:
        for resource in world(shape).resources:
            if isinstance(resource, File) and not resource.content.startswith(b"-----BEGIN"):
                first = b"\n".join(resource.content.splitlines()[:2])
                # nft reads its file from the host; a first line may be an interpreter.
                assert b"Managed by pgha-build" in first, resource.address


def rules(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, rule in schema.items():
        yield from rule_and_below(rule, f"{path}.{key}")


def rule_and_below(rule: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, rule
    below = rule.get("schema", {})
    if rule.get("type") == "dict":
        yield from rules(below, path)
    elif below:
        yield from rule_and_below(below, f"{path}[]")
    if "valuesrules" in rule:
        yield from rule_and_below(rule["valuesrules"], f"{path}.*")


@pytest.mark.parametrize("name", ROLES)
def test_every_key_of_a_section_is_documented(name: str) -> None:
    for section, declared in registry.roles()[name].sections.items():
        found = list(rules(declared.schema, section))
        assert found
        assert [path for path, rule in found if not rule.get("meta", {}).get("doc")] == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_unit_that_nobody_else_may_start_is_among_its_roles_services(
    shape: str, world: Any
) -> None:
    """A member of a rolling group must not be restarted by a package's upgrade."""
    services = {s for role in registry.roles().values() for s in role.services}
    for resource in world(shape).resources:
        if isinstance(resource, Unit) and resource.group:
            assert resource.name.removesuffix(".service") in services


@pytest.mark.parametrize("shape", SHAPES)
def test_a_unit_acts_for_every_file_that_its_template_or_package_may_change(
    shape: str, world: Any
) -> None:
    """What a unit reacts to is wanted on its own host, and comes before it."""
    resources = list(world(shape).resources)
    edges = graph(resources)
    for resource in resources:
        for cause in resource.triggers():
            assert cause.partition("/")[0] == resource.hosts[0]
            assert cause in ancestors(edges, [resource.address])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_unit_acts_when_what_systemd_reads_of_it_changes(shape: str, world: Any) -> None:
    """Else the apply that writes it leaves a restart to the next one."""
    resources = {resource.address: resource for resource in world(shape).resources}
    for unit in (resource for resource in resources.values() if isinstance(resource, Unit)):
        home = f"{unit.hosts[0]}/file:/etc/systemd/system/{unit.name}"
        for file in (home, f"{home}.d/pgha-build.conf"):
            assert file not in resources or file in unit.triggers(), file


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_waits_for_replicas_before_they_can_log_in(shape: str, world: Any) -> None:
    """A gate holds its host: what it waits for must not come behind it there."""
    edges = graph(list(world(shape).resources))
    role = next(address for address in edges if address.endswith("/role:replicator"))
    waits = {a for a in edges if a.endswith(("/gate:patroni", "/gate:synchronous"))}
    assert waits
    assert all(role in ancestors(edges, [gate]) for gate in waits)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_port_of_a_database_or_a_store_is_open_to_everybody(shape: str, world: Any) -> None:
    spec = world(shape).spec
    for host in spec.hosts.values():
        for opening in listening(spec, registry.roles(), host):
            if opening.peers is None:
                assert opening.what in {"writes", "reads"}, opening


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_spec_always_asks_for_the_same(shape: str, world: Any) -> None:
    there = world(shape)
    again = desired(there.spec, registry.roles(), there.secrets, NOW)
    assert list(again.resources) == list(there.desired.resources)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_resource_comes_from_a_role_that_the_spec_names(shape: str, world: Any) -> None:
    there = world(shape)
    names = {role.name for role in present(there.spec, registry.roles())}
    assert set(there.desired.origins) == {r.address for r in there.resources}
    assert {n for origin in there.desired.origins.values() for n in origin} == names


@st.composite
def cluster_files(draw: Any) -> str:
    """A cluster.yml of one to seven hosts with any set of roles on each; most are valid."""
    count = draw(st.integers(1, 7))
    names = [f"h{n}" for n in range(count)]
    some = st.sets(st.sampled_from(names))
    etcd = sorted(draw(some))
    etcd = etcd if len(etcd) % 2 else etcd[1:]
    patroni = sorted(draw(some)) if etcd else []
    haproxy = sorted(draw(some)) if patroni else []
    keepalived = sorted(set(haproxy) & draw(some))
    carried = {"etcd": etcd, "patroni": patroni, "haproxy": haproxy, "keepalived": keepalived}
    lines = ["name: c", "hosts:"]
    for number, name in enumerate(names):
        own = ", ".join(role for role, hosts in carried.items() if name in hosts)
        lines.append(f"  {name}: {{address: 10.0.0.{number + 1}, roles: [{own}]}}")
    lines.append(f"failover: {{preset: {draw(st.sampled_from(['lan', 'wan', 'slow']))}}}")
    switches = {key: draw(st.booleans()) for key in ("firewall", "hosts_file")}
    time = draw(st.sampled_from(["chrony", "other"]))
    words = ", ".join(f"{key}: {str(value).lower()}" for key, value in switches.items())
    lines.append(f"system: {{{words}, time: {time}}}")
    lines.append("haproxy: {primary_port: 6432, replica_port: 6433}")
    if keepalived:
        lines.append("keepalived: {virtual_ip: 10.0.0.100/24}")
    users = draw(st.booleans())
    lines.append("postgresql:")
    lines.append("  users: " + ("[{name: app}]" if users else "[]"))
    extensions = draw(st.sampled_from(["", ", extensions: [hstore]"]))
    lines.append("  databases: " + (f"[{{name: app, owner: app{extensions}}}]" if users else "[]"))
    return "\n".join(lines) + "\n"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(text=cluster_files())
def test_whatever_roles_hosts_carry_their_resources_can_be_ordered(
    text: str, world_of: Any
) -> None:
    """graph() refuses what is wanted twice in two ways, unknown needs, and cycles."""
    try:
        there = world_of(text)
    except SpecError:
        assume(False)
        return
    resources: list[Resource] = list(there.resources)
    edges = graph(resources)
    assert edges.keys() == {resource.address for resource in resources}
    assert not there.plan(there.looks()).differences
    assert len(there.plan(there.empty()).pending) >= len(there.spec.hosts)
