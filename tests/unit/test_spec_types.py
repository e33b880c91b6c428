"""The typed pieces let through what fits, and nothing that could say more than its place allows."""

from __future__ import annotations

from typing import Any

import pytest
from cerberus import Validator

from builder.spec import types
from builder.spec.scalars import Scalar, meaning
from builder.spec.schema import with_nested_defaults
from builder.spec.validator import errors_in, with_defaults

PIECES: dict[str, types.Rule] = {
    "port": types.port(5432, "x"),
    "privileged_port": types.port(5432, "x", privileged=True),
    "identifier": types.identifier("x"),
    "cidr": types.cidr("x"),
    "ipv4": types.ipv4("x"),
    "path": types.path("x"),
    "seconds": types.seconds(30, "x", 5, 60),
    "boolean": types.boolean(True, "x"),
    "one_of": types.one_of(["a", "b"], "a", "x"),
    "text": types.text("x"),
    "careless": {"type": "string", "regex": "[a-z]+$"},
    "scalar": types.scalar("x"),
    "optional": types.optional(types.port(None, "x")),
    "list_of": types.list_of(types.identifier("x"), "x", least=1),
}

FITS: list[tuple[str, Any]] = [
    ("port", 1024),
    ("privileged_port", 1),
    ("port", 65535),
    ("port", None),
    ("identifier", "_app_1"),
    ("identifier", "a" * 63),
    ("cidr", "10.0.0.0/8"),
    ("cidr", "0.0.0.0/0"),
    ("ipv4", "192.168.1.254"),
    ("path", "/"),
    ("path", "/var/lib/postgresql/17/main"),
    ("path", "/srv/..data/.x"),
    ("seconds", 5),
    ("boolean", False),
    ("one_of", "b"),
    ("text", "{{ 7*7 }} $(id) '; DROP"),
    ("scalar", 1.5),
    ("optional", None),
    ("list_of", ["a"]),
]

REFUSED: list[tuple[str, Any]] = [
    ("port", 1023),
    ("privileged_port", 0),
    ("port", 65536),
    ("port", True),
    ("port", "5432"),
    ("port", 1.0),
    ("identifier", "pg_monitor"),
    ("identifier", "Orders"),
    ("identifier", "a b"),
    ("identifier", "a\n"),
    ("identifier", "a" * 64),
    ("identifier", 'a"; DROP'),
    ("cidr", "10.0.0.0"),
    ("cidr", "10.0.0.0/33"),
    ("cidr", "10.0.0.0/8\n"),
    ("cidr", "10.0.0.0/08"),
    ("ipv4", "10.0.0.1\n"),
    ("ipv4", "10.0.0.01"),
    ("ipv4", "١٠.0.0.1"),
    ("ipv4", "239.0.0.1"),
    ("path", "var/lib"),
    ("path", "/var/../etc"),
    ("path", "/var/.."),
    ("path", "/./etc"),
    ("path", "/var//lib"),
    ("path", "/var/lib/"),
    ("path", "/a b"),
    ("path", "/a\n"),
    ("seconds", 4),
    ("seconds", 61),
    ("boolean", 1),
    ("boolean", "true"),
    ("one_of", "A"),
    ("one_of", ["a"]),
    ("text", ""),
    ("text", "x" * (types.LONGEST_TEXT + 1)),
    ("careless", "abc\n"),
    ("scalar", []),
    ("list_of", []),
    ("list_of", ["a", "B"]),
    ("list_of", "a"),
]


def errors(piece: str, value: Any) -> list[Any]:
    return errors_in({"key": value}, types.table({"key": PIECES[piece]}, "x"))


@pytest.mark.parametrize(("piece", "value"), FITS)
def test_what_fits_is_taken(piece: str, value: Any) -> None:
    assert errors(piece, value) == []


@pytest.mark.parametrize(("piece", "value"), REFUSED)
def test_what_does_not_fit_is_refused(piece: str, value: Any) -> None:
    assert errors(piece, value)


@pytest.mark.parametrize("piece", PIECES)
def test_every_piece_is_a_schema_that_cerberus_takes(piece: str) -> None:
    Validator({"key": PIECES[piece]})


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("false", False),
        ("0", 0),
        ("-7", -7),
        ("5432", 5432),
        ("1.5", 1.5),
        ("1.0e3", 1000.0),
        *((word, word) for word in ["yes", "no", "on", "off", "True", "NULL", "y", "n"]),
        *((word, word) for word in ["0644", "0o644", "0x1F", "0b1", "1_000", "+1", "007"]),
        *((word, word) for word in ["22:30", "2024-01-01", "1e3", ".5", "5.", ".inf", ".nan"]),
        *((word, word) for word in ["1.0e999", "9" * 19, "9" * 5000, "10.77.0.1", "٣"]),
    ],
)
def test_only_what_nobody_can_misread_is_not_text(word: str, value: Scalar) -> None:
    assert meaning(word) == value
    assert type(meaning(word)) is type(value)


def test_tables_without_required_keys_are_filled_at_any_depth() -> None:
    deep = types.table({"b": types.table({"c": types.port(1, "x")}, "x")}, "x")
    rule = with_nested_defaults(types.table({"a": deep}, "x"))
    assert with_defaults({}, rule) == {"a": {"b": {"c": 1}}}
    assert with_defaults({"a": None}, rule) == {"a": {"b": {"c": 1}}}
    assert with_defaults({"a": {"b": {"c": 2}}}, rule) == {"a": {"b": {"c": 2}}}


def test_a_table_with_a_required_key_stays_absent() -> None:
    needy = types.table({"b": types.required(types.port(None, "x"))}, "x")
    assert with_defaults({}, with_nested_defaults(types.table({"a": needy}, "x"))) == {}
