"""What is wrong with a cluster.yml is said with its line, in words, and all at once.

Cases are files: `data/spec/NAME.yml` is the mistake, `NAME.txt` what is said about it. To look at
what a change of words does: `SPEC_CASES=write pytest tests/unit/test_spec.py`, then `git diff`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import SpecError
from builder.spec import types
from builder.spec.load import LARGEST_BYTES, load
from builder.spec.model import ClusterSpec, Problem
from builder.spec.section import Section, Vocabulary
from builder.spec.validate import validate

CASES = sorted((Path(__file__).parent / "data" / "spec").glob("*.yml"))


def ports_differ(spec: ClusterSpec) -> Iterator[Problem]:
    haproxy = spec.sections["haproxy"]
    if haproxy["primary_port"] == haproxy["replica_port"]:
        yield Problem(
            path=("haproxy", "replica_port"),
            message="the primary's port",
            advice="choose another",
        )


USER = types.table(
    {
        "name": types.required(types.identifier("The role's name.")),
        "login": types.boolean(True, "May log in."),
    },
    "A role.",
)

VOCABULARY = Vocabulary(
    sections={
        "postgresql": Section(
            doc="PostgreSQL.",
            schema={
                "version": types.one_of([16, 17, 18], 17, "Major version."),
                "parameters": types.mapping_of(
                    types.identifier("Parameter."), types.scalar("Its value."), "Parameters."
                ),
                "users": types.list_of(USER, "Roles."),
                "data_directory": types.path("Where.", default="/var/lib/postgresql"),
                "tuning": types.table(
                    {"inner": types.table({"percent": types.port(25, "Share.")}, "Inner.")}, "T."
                ),
            },
        ),
        "haproxy": Section(
            doc="HAProxy.",
            schema={
                "primary_port": types.port(5432, "Port of the leader."),
                "replica_port": types.port(5433, "Port of the replicas."),
                "timeout_seconds": types.seconds(30, "How long to wait."),
                "tls": types.boolean(True, "Encrypt."),
                "stats": types.optional(types.port(None, "Port of the statistics.")),
            },
            check=ports_differ,
        ),
        "keepalived": Section(
            doc="Keepalived.",
            schema={
                "virtual_ip": types.required(types.cidr("The virtual IP.")),
                "router_id": types.integer("VRRP id.", default=51, least=1, most=255),
            },
        ),
    },
    roles=frozenset({"etcd", "patroni", "haproxy", "keepalived"}),
    machines={
        "lab": {"image": types.text("The image.", default="debian")},
        "vagrant": {"memory_mib": types.integer("Memory.", default=1024, least=256, most=65536)},
        "existing": {},
    },
    owners={"postgresql": "patroni", "haproxy": "haproxy", "keepalived": "keepalived"},
)

WHOLE = """\
name: orders
ssh: {user: deploy, port: 22, identity_file: keys/id}
hosts:
  pg1: {address: 10.77.0.21, roles: [etcd, patroni]}
  lb1:
    address: 10.77.0.31
    roles: [haproxy, keepalived]
    ssh: {port: 2222, jump: "ops@bastion:22"}
postgresql:
  parameters: {fsync: on, work_mem: 4MB, max_connections: 200, random_page_cost: 1.1, jit: false}
  users: [{name: app}, {name: report, login: false}]
haproxy:
keepalived: {virtual_ip: 10.77.0.100/24}
"""


def read(path: Path) -> ClusterSpec:
    return validate(load(path), VOCABULARY, path)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "cluster.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def mistakes(path: Path) -> str:
    """The diagnostics of a file, one per line, without its folder."""
    with pytest.raises(SpecError) as caught:
        read(path)
    lines = [str(each).replace(str(path), "cluster.yml") for each in caught.value.diagnostics]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_every_mistake_is_named_with_its_line(case: Path) -> None:
    expected = case.with_suffix(".txt")
    said = mistakes(case)
    if os.environ.get("SPEC_CASES") == "write":
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8")


def test_a_sound_file_becomes_a_model_with_all_defaults(tmp_path: Path) -> None:
    spec = read(written(tmp_path, WHOLE))
    assert spec.machines.provider == "lab"
    assert spec.machines.settings == {"image": "debian"}
    assert spec.sections["haproxy"] == {
        "primary_port": 5432,
        "replica_port": 5433,
        "timeout_seconds": 30,
        "tls": True,
        "stats": None,
    }
    assert spec.sections["postgresql"]["tuning"] == {"inner": {"percent": 25}}
    assert spec.sections["postgresql"]["users"] == [
        {"name": "app", "login": True},
        {"name": "report", "login": False},
    ]


def test_plain_words_keep_the_meaning_that_they_have_for_postgresql(tmp_path: Path) -> None:
    parameters = read(written(tmp_path, WHOLE)).sections["postgresql"]["parameters"]
    assert parameters == {
        "fsync": "on",
        "work_mem": "4MB",
        "max_connections": 200,
        "random_page_cost": 1.1,
        "jit": False,
    }


def test_a_hosts_own_ssh_settings_win_over_the_clusters(tmp_path: Path) -> None:
    hosts = read(written(tmp_path, WHOLE)).hosts
    assert (hosts["pg1"].ssh.user, hosts["pg1"].ssh.port) == ("deploy", 22)
    assert (hosts["lb1"].ssh.user, hosts["lb1"].ssh.port) == ("deploy", 2222)
    assert hosts["lb1"].ssh.jump == "ops@bastion:22"
    assert hosts["pg1"].ssh.identity_file == tmp_path / "keys/id"


def test_a_section_of_a_role_that_no_host_has_may_lack_its_required_keys(tmp_path: Path) -> None:
    text = "name: orders\nhosts: {pg1: {address: 10.77.0.21, roles: [patroni]}}\n"
    assert read(written(tmp_path, text)).sections["keepalived"] == {"router_id": 51}


def test_two_specs_share_no_mutable_default(tmp_path: Path) -> None:
    path = written(tmp_path, "name: a\nhosts: {h: {address: 10.0.0.1, roles: []}}\n")
    one, other = read(path).sections["postgresql"], read(path).sections["postgresql"]
    one["users"].append("x")
    one["parameters"]["x"] = 1
    assert other["users"] == []
    assert other["parameters"] == {}
    assert read(path).sections["postgresql"]["users"] == []


@pytest.mark.parametrize("text", ["{{ 7*7 }}", "{% x %}", "'; DROP TABLE x", "$(id)", "a: b # c"])
def test_free_text_is_kept_literally(tmp_path: Path, text: str) -> None:
    values = yaml.safe_load(WHOLE.replace("on,", "x,"))
    values["postgresql"]["parameters"]["application_name"] = text
    spec = read(written(tmp_path, yaml.safe_dump(values)))
    assert spec.sections["postgresql"]["parameters"]["application_name"] == text


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    crlf = WHOLE.replace("\n", "\r\n").encode("utf-8-sig")
    assert read(written(tmp_path, crlf)).name == "orders"


def test_what_cannot_be_read_is_said_plainly(tmp_path: Path) -> None:
    missing = tmp_path / "cluster.yml"
    assert mistakes(missing) == (
        "cluster.yml: there is no such file (`pgha-build init` writes one)\n"
    )
    assert mistakes(tmp_path) == "cluster.yml: this is not a file\n"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert mistakes(fifo) == "cluster.yml: this is not a file\n"
    large = written(tmp_path, b"#" * (LARGEST_BYTES + 1))
    assert "larger than 1024 KiB" in mistakes(large)


HOSTILE = {
    "unknown keys": "".join(f"key{i}: 1\n" for i in range(9000)),
    "wrong hosts": "hosts:\n"
    + "".join(f"  H{i}: {{adress: 1, roles: [x]}}\n" for i in range(2000)),
    "wrong roles": "hosts: {a: {roles: [" + "etcc," * 15000 + "]}}\n",
    "repeated roles": "name: a\nhosts: {a: {address: 10.0.0.1, roles: ["
    + "etcd," * 15000
    + "]}}\n",
    "nested lists": "a: " + "[" * 500_000,
    "nested mappings": "{a: " * 200_000,
    "complex keys": "? " * 500_000,
    "duplicates": "name: a\n" * 100_000,
    "long text": "name: " + "x" * 1_000_000,
    "folded text": "name: >\n" + " a\n" * 300_000,
    "aliases": "a: &a [x,x]\n" + "b: [" + "*a," * 100_000 + "]\n",
    "slashes": "ssh: {identity_file: '" + "/" * 4000 + " ', jump: '" + "a." * 120 + "!'}\n",
    "dots": "postgresql: {data_directory: '" + "/a" * 120 + "/!'}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_answered_soon(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, HOSTILE[name])
    started = time.process_time()
    assert mistakes(path)
    assert time.process_time() - started < 10  # about half a second on a quiet machine


VOCABULARY_AND_TRAPS = """
    name hosts machines ssh provider roles address type schema default postgresql haproxy tls
    keepalived users parameters lab etcd 10.0.0.1 on ~ 0644 1e9 required regex tuning
"""
WORDS = st.sampled_from(VOCABULARY_AND_TRAPS.split())
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | LEAVES, inner, max_size=5),
    max_leaves=25,
)


def is_answered(path: Path) -> None:
    """A spec, or mistakes that each have a place and a text."""
    try:
        assert isinstance(read(path), ClusterSpec)
    except SpecError as error:
        assert error.diagnostics
        assert all(str(each).startswith(str(path)) for each in error.diagnostics)


IN_ONE_FOLDER = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@IN_ONE_FOLDER
@given(values=st.dictionaries(WORDS, VALUES, max_size=6))
def test_any_yaml_is_a_spec_or_a_list_of_mistakes(tmp_path: Path, values: dict[str, Any]) -> None:
    is_answered(written(tmp_path, yaml.safe_dump(values, allow_unicode=True)))


@IN_ONE_FOLDER
@given(content=st.binary(max_size=200) | st.text("ab:-[]{}&*!|>'\"#%@, \n\t?~1", max_size=80))
def test_any_bytes_are_a_spec_or_a_list_of_mistakes(tmp_path: Path, content: str | bytes) -> None:
    is_answered(written(tmp_path, content))


@IN_ONE_FOLDER
@given(data=st.data())
def test_any_part_of_a_sound_file_may_be_replaced_by_anything(tmp_path: Path, data: Any) -> None:
    values = yaml.safe_load(WHOLE)
    place: Any = values
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    is_answered(written(tmp_path, yaml.safe_dump(values, allow_unicode=True)))
