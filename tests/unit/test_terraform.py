"""The provider, asked as Terraform asks it, without Terraform and without hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tf.gen import tfplugin_pb2 as pb
from tf.utils import read_dynamic_value, to_dynamic_value

from builder import terraform
from builder.cli.terraform import install
from builder.engine.execute import Apply, Result
from builder.errors import MachineError, PghaError
from builder.resources.base import Absent, Present, Unknown
from builder.terraform.cluster import ClusterResource
from builder.terraform.inside import RoleResource
from builder.terraform.provider import PghaProvider
from builder.terraform.serve import Servicer, guarded
from builder.terraform.status import StatusSource
from builder.terraform.text import Unclear, spec_text
from builder.terraform.work import Cluster, Done, Seen, done_by, seen_in, tell

SPEC = """
name: orders
hosts:
  one: {address: 10.0.0.11, roles: [etcd, patroni, haproxy, keepalived]}
postgresql: {users: [{name: app}], databases: [{name: app, owner: app}]}
keepalived: {virtual_ip: 10.0.0.100/24}
"""
TYPE = "pgha_cluster"
FIELDS = [attribute.name for attribute in ClusterResource.get_schema().attributes]


@pytest.fixture
def asked() -> Servicer:
    return guarded(Servicer(PghaProvider()))


def block(**values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(FIELDS), "host": [], "spec": SPEC, **values}


def state(tmp_path: Path, **values: Any) -> dict[str, Any]:
    """Of a cluster that was applied."""
    cluster = Cluster(SPEC, str(tmp_path))
    known = {**cluster.outputs(), "ca_certificate": "PEM", "changes": [], "drift": []}
    own = {"directory": str(tmp_path), "impact": "", "deletion_protection": True}
    return {**block(), **known, **own, **values}


def validate(asked: Servicer, **values: Any) -> list[Any]:
    request = pb.ValidateResourceConfig.Request(
        type_name=TYPE, config=to_dynamic_value(block(**values))
    )
    return list(asked.ValidateResourceConfig(request, None).diagnostics)


def plan(asked: Servicer, before: Any, after: Any) -> Any:
    request = pb.PlanResourceChange.Request(
        type_name=TYPE,
        prior_state=to_dynamic_value(before),
        proposed_new_state=to_dynamic_value(after),
    )
    return asked.PlanResourceChange(request, None)


def apply(asked: Servicer, before: Any, after: Any) -> Any:
    request = pb.ApplyResourceChange.Request(
        type_name=TYPE, prior_state=to_dynamic_value(before), planned_state=to_dynamic_value(after)
    )
    return asked.ApplyResourceChange(request, None)


def errors(response: Any) -> list[str]:
    return [d.summary for d in response.diagnostics if d.severity == pb.Diagnostic.ERROR]


# ── the schema ──────────────────────────────────────────────────────────────────────────────────
def test_every_attribute_says_what_it_is(asked: Servicer) -> None:
    schema = asked.GetProviderSchema(pb.GetProviderSchema.Request(), None)
    assert set(schema.resource_schemas) == {"pgha_cluster", "pgha_role", "pgha_database"}
    assert set(schema.data_source_schemas) == {"pgha_status"}
    for found in (*schema.resource_schemas.values(), *schema.data_source_schemas.values()):
        assert found.block.description
        assert all(attribute.description for attribute in found.block.attributes)
    assert not any(a.sensitive for a in schema.resource_schemas[TYPE].block.attributes)
    assert StatusSource.get_name() == "status"


# ── what a block says ───────────────────────────────────────────────────────────────────────────
def test_host_blocks_make_the_same_cluster_as_a_file() -> None:
    hosts = [
        {"name": name, "address": f"10.0.0.1{n}", "roles": ["etcd"]} for n, name in enumerate("ba")
    ]
    settings = json.dumps({"failover": {"preset": "lan"}})
    text = spec_text({"name": "orders", "host": hosts, "settings": settings})
    assert yaml.safe_load(text) == {
        "name": "orders",
        "hosts": {
            "a": {"address": "10.0.0.11", "roles": ["etcd"]},
            "b": {"address": "10.0.0.10", "roles": ["etcd"]},
        },
        "failover": {"preset": "lan"},
    }
    assert list(yaml.safe_load(text)["hosts"]) == ["a", "b"], "a set has no order of its own"


HOST = {"name": "a", "address": "10.0.0.1", "roles": ["etcd"]}


@pytest.mark.parametrize(
    ("written", "attribute"),
    [
        ({}, "spec"),
        ({"name": "orders"}, "spec"),
        ({"spec": SPEC, "name": "orders"}, "name"),
        ({"spec": SPEC, "host": [HOST]}, "host"),
        ({"name": "orders", "host": [HOST], "settings": "{"}, "settings"),
        ({"name": "orders", "host": [HOST], "settings": "[]"}, "settings"),
        ({"name": "orders", "host": [HOST], "settings": '{"hosts": {}}'}, "settings"),
    ],
)
def test_a_block_that_contradicts_itself_is_refused_where_it_does(
    written: dict[str, Any], attribute: str
) -> None:
    with pytest.raises(Unclear) as refused:
        spec_text(written)
    assert refused.value.attribute == attribute


def test_mistakes_in_the_spec_come_all_at_once_each_with_its_line(asked: Servicer) -> None:
    wrong = SPEC.replace("roles:", "rolls:").replace("10.0.0.100/24", "nowhere")
    found = validate(asked, spec=wrong)
    assert len(found) >= 2
    assert all(d.attribute.steps[0].attribute_name == "spec" for d in found)
    assert any("cluster.yml:4" in d.detail for d in found)


def test_a_good_block_is_good_and_an_unknown_impact_is_not(asked: Servicer) -> None:
    assert validate(asked) == []
    (found,) = validate(asked, max_impact="huge")
    assert found.attribute.steps[0].attribute_name == "max_impact"


# ── planning ────────────────────────────────────────────────────────────────────────────────────
def test_nothing_changes_where_nothing_was_changed_and_nobody_is_asked(
    asked: Servicer, tmp_path: Path
) -> None:
    before = state(tmp_path, changes=["~ one/file:/x"])
    planned = plan(asked, before, before)
    assert errors(planned) == []
    assert read_dynamic_value(planned.planned_state) == before


@pytest.mark.parametrize("limit", [{"max_impact": "reload"}, {"deletion_protection": False}])
def test_another_limit_changes_nothing_on_the_hosts(
    limit: dict[str, Any], asked: Servicer, tmp_path: Path
) -> None:
    before = state(tmp_path, changes=["~ one/file:/x"], impact="reload")
    planned = read_dynamic_value(plan(asked, before, {**before, **limit}).planned_state)
    assert (planned["changes"], planned["impact"]) == ([], "none")


def test_drift_is_planned_away_with_what_it_takes(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(changes=("~ one/file:/x", "~ one/unit:y [restart]"), impact="restart of y on one")
    monkeypatch.setattr(Cluster, "look", lambda _: seen)
    planned = plan(asked, state(tmp_path, drift=["~ one/file:/x"]), state(tmp_path))
    found = read_dynamic_value(planned.planned_state)
    assert (found["changes"], found["drift"]) == (list(seen.changes), [])
    assert found["impact"] == "restart of y on one"


def test_what_cannot_be_looked_at_is_drift_and_fails_an_apply(seven: Any) -> None:
    unit = seven["pg1/unit:patroni.service"]
    plan = seven.plan(seven.looks({unit.address: Unknown("no bus")}))
    told = f"{unit.address}: no bus"
    assert told in seen_in(plan).unknown
    assert f"cannot be looked at: {told}" in done_by(plan, Result()).failures


def test_another_name_is_another_cluster(asked: Servicer, tmp_path: Path) -> None:
    after = state(tmp_path, spec=SPEC.replace("orders", "others"))
    assert errors(plan(asked, state(tmp_path), after)) == ["orders cannot become others"]


def test_destroying_can_be_planned(asked: Servicer, tmp_path: Path) -> None:
    planned = plan(asked, state(tmp_path), None)
    assert errors(planned) == []
    assert read_dynamic_value(planned.planned_state) is None


# ── applying ────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "make_machines", lambda *_: None)


@pytest.mark.usefixtures("machines")
def test_a_new_cluster_that_was_interrupted_is_kept_and_is_no_error(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would make Terraform think that it is broken, and destroy it the next time."""
    done = Done(interrupted=True, left=("one/unit:patroni.service",))
    monkeypatch.setattr(Cluster, "apply", lambda *_, **__: done)
    made = apply(asked, None, block(directory=str(tmp_path)))
    assert errors(made) == []
    assert "interrupted" in made.diagnostics[0].summary
    assert read_dynamic_value(made.new_state)["id"] == "orders"


@pytest.mark.usefixtures("machines")
def test_what_failed_is_an_error_and_the_cluster_is_kept(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Done(failures=("one/unit:patroni.service: it does not start\nits journal",))
    monkeypatch.setattr(Cluster, "apply", lambda *_, **__: done)
    made = apply(asked, None, block(directory=str(tmp_path)))
    assert errors(made) == ["one/unit:patroni.service: it does not start"]
    assert read_dynamic_value(made.new_state)["id"] == "orders"


@pytest.mark.usefixtures("machines")
def test_a_defect_of_ours_is_a_diagnostic_and_loses_no_state(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(*_: Any, **__: Any) -> Done:
        raise ZeroDivisionError("a secret could be here")

    monkeypatch.setattr(Cluster, "apply", broken)
    before = state(tmp_path)
    made = apply(asked, before, state(tmp_path, changes=["~ one/file:/x"]))
    assert errors(made) == ["pgha-build failed: ZeroDivisionError"]
    assert "a secret" not in str(made.diagnostics)
    assert read_dynamic_value(made.new_state) == before
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_look_that_fails_leaves_the_state_as_it_was(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(self: Any) -> Seen:
        raise PghaError("somebody else is applying", do="Wait.")

    monkeypatch.setattr(Cluster, "look", locked)
    before = state(tmp_path)
    request = pb.ReadResource.Request(type_name=TYPE, current_state=to_dynamic_value(before))
    said = asked.ReadResource(request, None)
    assert errors(said) == ["somebody else is applying"]
    assert read_dynamic_value(said.new_state) == before


def test_destroying_is_refused_while_protected(asked: Servicer, tmp_path: Path) -> None:
    said = apply(asked, state(tmp_path), None)
    assert errors(said) == ["orders is protected"]
    assert read_dynamic_value(said.new_state)["id"] == "orders"


def test_machines_that_are_not_ours_are_let_go(asked: Servicer, tmp_path: Path) -> None:
    text = SPEC + "machines: {provider: existing}\n"
    said = apply(asked, state(tmp_path, spec=text, deletion_protection=False), None)
    assert errors(said) == []
    assert "goes on running" in said.diagnostics[0].summary
    assert read_dynamic_value(said.new_state) is None


def test_stopping_reaches_what_runs_and_what_begins_later(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []

    class Run:
        def __init__(self, name: str) -> None:
            self.name = name

        def stop(self) -> None:
            stopped.append(self.name)

    app = PghaProvider()
    first: Any = Run("first")
    second: Any = Run("second")
    app.started(first)
    Servicer(app).StopProvider(pb.StopProvider.Request(), None)
    app.started(second)
    assert stopped == ["first", "second"]
    assert hasattr(Apply, "stop")


# ── inside the database ─────────────────────────────────────────────────────────────────────────
def role(**values: Any) -> dict[str, Any]:
    names = [attribute.name for attribute in RoleResource.get_schema().attributes]
    own = {"spec": SPEC, "name": "reports", "login": True, "connection_limit": -1}
    return {**dict.fromkeys(names), **own, "current": True, "id": "orders/reports", **values}


def looked(asked: Servicer, before: dict[str, Any]) -> Any:
    request = pb.ReadResource.Request(type_name="pgha_role", current_state=to_dynamic_value(before))
    return asked.ReadResource(request, None)


def test_a_role_that_somebody_changed_is_not_current(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = role(directory=str(tmp_path))
    wanted = Cluster(SPEC, str(tmp_path)).role("reports")
    now = {**wanted.attributes(), "password": "another"}
    monkeypatch.setattr(
        Cluster, "see", lambda _, wanted: {wanted[0].address: Present(attributes=now)}
    )
    said = looked(asked, before)
    assert errors(said) == []
    assert read_dynamic_value(said.new_state) == {**before, "current": False}


def test_a_role_that_is_gone_is_forgotten_and_one_that_cannot_be_seen_is_not(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = role(directory=str(tmp_path))
    monkeypatch.setattr(Cluster, "see", lambda _, wanted: {wanted[0].address: Absent()})
    assert read_dynamic_value(looked(asked, before).new_state) is None
    monkeypatch.setattr(Cluster, "see", lambda _, wanted: {wanted[0].address: Unknown("no leader")})
    said = looked(asked, before)
    assert read_dynamic_value(said.new_state) == before
    assert "cannot be looked at" in said.diagnostics[0].summary


@pytest.mark.parametrize("name", ["app", "postgres", "pgha_clients"])
def test_a_name_of_the_clusters_own_is_refused(asked: Servicer, tmp_path: Path, name: str) -> None:
    request = pb.ApplyResourceChange.Request(
        type_name="pgha_role",
        prior_state=to_dynamic_value(None),
        planned_state=to_dynamic_value(role(name=name, directory=str(tmp_path))),
    )
    said = asked.ApplyResourceChange(request, None)
    assert errors(said) == [f"{name} belongs to cluster.yml, or to the cluster itself"]


# ── importing ───────────────────────────────────────────────────────────────────────────────────
def test_a_cluster_is_imported_by_its_file(asked: Servicer, tmp_path: Path) -> None:
    (tmp_path / "cluster.yml").write_text(SPEC)
    for name in (tmp_path, tmp_path / "cluster.yml"):
        request = pb.ImportResourceState.Request(type_name=TYPE, id=str(name))
        said = asked.ImportResourceState(request, None)
        (found,) = said.imported_resources
        assert read_dynamic_value(found.state)["spec"] == SPEC
        assert read_dynamic_value(found.state)["directory"] == str(tmp_path)
    request = pb.ImportResourceState.Request(type_name=TYPE, id=str(tmp_path / "none.yml"))
    assert "cannot be read" in errors(asked.ImportResourceState(request, None))[0]


# ── being started ───────────────────────────────────────────────────────────────────────────────
def test_called_by_hand_it_says_what_it_is() -> None:
    program = Path(sys.executable).with_name("terraform-provider-pgha")
    done = subprocess.run([program], capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stdout) == (1, "")
    assert "Terraform and OpenTofu start it" in done.stderr


def test_it_serves_until_its_parent_is_gone() -> None:
    """The handshake of go-plugin; then stdin's end is nothing, but the parent's is."""
    name, value = terraform.COOKIE
    program = Path(sys.executable).with_name("terraform-provider-pgha")
    script = f'"{program}" & head -c 1 >/dev/null; echo $! >&2'
    with subprocess.Popen(
        ["sh", "-c", script],
        env={name: value, "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as shell:
        assert shell.stdout and shell.stdin
        core, plugin, network, socket, kind, certificate = shell.stdout.readline().split("|")
        assert (core, plugin, network, kind) == ("1", "6", "unix", "grpc")
        assert Path(socket).is_socket()
        assert Path(socket).parent.stat().st_mode & 0o077 == 0
        assert len(certificate) > 100
        shell.stdin.close()
        assert shell.stdout.read() == "", "it has ended"
    assert not Path(socket).exists()


def test_the_mirror_has_the_same_bytes_for_everybody(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "terraform-provider-pgha"
    program.parent.mkdir()
    program.touch(mode=0o755)
    link, *launchers = install(tmp_path / "home", program)
    assert link.resolve() == program
    assert len({launcher.read_bytes() for launcher in launchers}) == 1
    assert str(tmp_path) not in launchers[0].read_text()
    assert {launcher.relative_to(tmp_path / "home/plugins").parts[0] for launcher in launchers} == {
        "registry.terraform.io",
        "registry.opentofu.org",
    }
    assert install(tmp_path / "home", program)
    with pytest.raises(PghaError, match="is not there"):
        install(tmp_path / "home", tmp_path / "nothing")


def test_progress_goes_where_terraform_reads_logs(capsys: Any) -> None:
    tell("pg1", "unit:patroni.service")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "[INFO] pg1: unit:patroni.service\n")


def test_machines_that_could_not_be_unmade_stay_terraforms(
    asked: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_still(*_: Any) -> None:
        raise MachineError("pg1 survives SIGKILL")

    monkeypatch.setattr(Cluster, "destroy", runs_still)
    before = state(tmp_path, deletion_protection=False)
    said = apply(asked, before, None)
    assert errors(said) == ["pg1 survives SIGKILL"]
    assert read_dynamic_value(said.new_state) == before
