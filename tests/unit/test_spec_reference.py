"""The reference page and the JSON schema say what the validation does; both are pure."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from builder.spec import types
from builder.spec.json_schema import json_schema
from builder.spec.reference import markdown
from builder.spec.section import Section, Vocabulary

VOCABULARY = Vocabulary(
    sections={
        "postgresql": Section(
            doc="PostgreSQL.",
            schema={
                "users": types.list_of(
                    types.table({"name": types.required(types.identifier("Its name."))}, "x"),
                    "Who.",
                ),
                "parameters": types.mapping_of(
                    types.identifier("Name."), types.scalar("A | value."), "Any."
                ),
                "tls": types.table({"enabled": types.boolean(True, "Encrypt.")}, "TLS."),
            },
        )
    },
    roles=frozenset({"etcd", "patroni"}),
    machines={"lab": {"image": types.text("Image.")}, "existing": {}},
)

SOUND: dict[str, Any] = {
    "name": "orders",
    "hosts": {"pg1": {"address": "10.77.0.21", "roles": ["patroni"], "ssh": {"user": "ops"}}},
    "postgresql": {"users": [{"name": "app"}], "parameters": {"jit": False}, "tls": None},
}

WRONG: list[dict[str, Any]] = [
    {**SOUND, "name": "Orders"},
    {**SOUND, "weather": {}},
    {**SOUND, "hosts": {}},
    {**SOUND, "hosts": {"PG1": SOUND["hosts"]["pg1"]}},
    {**SOUND, "hosts": {"pg1": {"address": "10.77.0.21", "roles": ["x"]}}},
    {**SOUND, "hosts": {"pg1": {"roles": ["etcd"]}}},
    {**SOUND, "machines": {"provider": "existing", "image": "x"}},
    {**SOUND, "postgresql": {"users": [{}]}},
]


def test_every_key_has_its_row() -> None:
    page = markdown(VOCABULARY)
    rows = [
        "| `users[].name` | a name",
        "| `tls.enabled` | true or false | `true` | Encrypt. |",
        "| `parameters.<name>` | text, a number, true or false |  | A \\| value. |",
        "| `<name>.address` | an IPv4 address such as 10.77.0.21 | *required* |",
        "### machines, with `provider: existing`\n\nNo further settings.",
    ]
    assert [row for row in rows if row not in page] == []


def test_the_json_schema_is_one_and_takes_a_sound_spec() -> None:
    schema = json_schema(VOCABULARY)
    Draft202012Validator.check_schema(schema)
    assert list(Draft202012Validator(schema).iter_errors(SOUND)) == []


@pytest.mark.parametrize("values", WRONG)
def test_the_json_schema_refuses_what_the_program_refuses(values: dict[str, Any]) -> None:
    assert not Draft202012Validator(json_schema(VOCABULARY)).is_valid(values)
