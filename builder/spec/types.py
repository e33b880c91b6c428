"""Typed pieces of which roles build the schemas of their sections. Pure.

Each returns a Cerberus rule. `meta.doc` is what the reference page and an error say about the key;
`meta.expects` says in words what fits; `meta.json` is what JSON Schema can express of it.

A key is optional and stays absent unless it has a default or is wrapped in `required` or
`optional`. All text is one line of printable characters: the loader refuses anything else, so that
no value can add a line to a configuration file. Patterns are matched against the whole value.
`coerce` is not supported: what is written is what is used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rule = dict[str, Any]
Complain = Callable[[str, str], None]

_PART = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = rf"{_PART}(\.{_PART})*"
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = rf"{OCTET}(\.{OCTET}){{3}}"
PORT = r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
LONGEST_TEXT = 1024


def required(rule: Rule) -> Rule:
    """The key must be given."""
    return {**rule, "required": True}


def optional(rule: Rule) -> Rule:
    """The key may be absent, and is then None."""
    return {**rule, "nullable": True, "default": None}


def text(
    doc: str,
    *,
    default: str | None = None,
    pattern: str | None = None,
    expects: str = "text",
    longest: int = LONGEST_TEXT,
) -> Rule:
    """One line of text; `pattern` must match it wholly, and `expects` says so in words."""
    limits: Rule = {"empty": False, "maxlength": longest}
    if pattern is not None:
        limits["regex"] = rf"\A(?:{pattern})\Z"
    return _rule("string", doc, expects, default, **limits)


def identifier(doc: str, *, default: str | None = None) -> Rule:
    """The name of a PostgreSQL role, database and the like, one that needs no quotes."""
    return text(
        doc,
        default=default,
        pattern=r"(?!pg_)[a-z_][a-z0-9_]{0,62}",
        expects="a name of a-z, 0-9 and _ that does not begin with a digit or `pg_`,"
        " at most 63 characters",
    )


def path(doc: str, *, default: str | None = None) -> Rule:
    """An absolute path on a host, without `..`."""
    return text(
        doc,
        default=default,
        pattern=r"/|(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._+@:=-]+)+",
        expects="an absolute path of letters, digits and ._+@:=- without `..`",
        longest=255,
    )


def ipv4(doc: str, *, default: str | None = None) -> Rule:
    """An IPv4 address of one host."""
    rule = text(doc, default=default, pattern=IPV4, expects="an IPv4 address such as 10.77.0.21")
    return {**_ip(rule), "check_with": _usable}


def cidr(doc: str, *, default: str | None = None) -> Rule:
    """An IPv4 address with its prefix length: a network, or an address in one."""
    return _ip(
        text(
            doc,
            default=default,
            pattern=rf"{IPV4}/(3[0-2]|[12]?[0-9])",
            expects="an IPv4 address with prefix length such as 10.77.0.0/24",
        )
    )


def integer(doc: str, *, default: int | None = None, least: int, most: int, unit: str = "") -> Rule:
    """A whole number in a range."""
    what = f"a whole number of {unit}" if unit else "a whole number"
    expects = f"{what} from {least} to {most}"
    return _rule("integer", doc, expects, default, min=least, max=most)


def port(default: int | None, doc: str, *, privileged: bool = False) -> Rule:
    """A TCP port; those below 1024 are for a `privileged` service, which begins as root."""
    return integer(doc, default=default, least=1 if privileged else 1024, most=65535)


def seconds(default: int | None, doc: str, least: int = 1, most: int = 86400) -> Rule:
    """A duration; the key's name should end in `_seconds`."""
    return integer(doc, default=default, least=least, most=most, unit="seconds")


def boolean(default: bool | None, doc: str) -> Rule:
    """A switch."""
    return _rule("boolean", doc, "true or false", default)


def one_of(values: Sequence[Any], default: Any, doc: str) -> Rule:
    """One of a few words or numbers."""
    kinds = sorted({_KINDS[type(value)] for value in values})
    words = ", ".join(f"`{value}`" for value in values)
    kind = kinds[0] if len(kinds) == 1 else kinds
    return _rule(kind, doc, f"one of {words}", default, allowed=list(values))


def scalar(doc: str) -> Rule:
    """Text, a number or a switch, for values that somebody else's program understands."""
    return _rule(
        ["string", "integer", "float", "boolean"],
        doc,
        "text, a number, true or false",
        None,
        maxlength=LONGEST_TEXT,
    )


def list_of(item: Rule, doc: str, *, default: Sequence[Any] | None = (), least: int = 0) -> Rule:
    """A list whose items all fit `item`."""
    start = None if default is None else list(default)
    return _rule("list", doc, "a list", start, schema=item, minlength=least)


def table(schema: Mapping[str, Rule], doc: str) -> Rule:
    """A mapping with known keys. If none of them is required, it may be absent."""
    return _rule("dict", doc, "a mapping (`key: value` lines)", None, schema=dict(schema))


def mapping_of(keys: Rule, values: Rule, doc: str, *, least: int = 0) -> Rule:
    """A mapping whose keys the user chooses; empty if absent and `least` is 0."""
    start: Rule | None = None if least else {}
    return _rule(
        "dict",
        doc,
        "a mapping (`name: value` lines)",
        start,
        keysrules=keys,
        valuesrules=values,
        minlength=least,
    )


_KINDS = {str: "string", int: "integer", bool: "boolean", float: "float"}


def _rule(kind: str | list[str], doc: str, expects: str, default: Any, **limits: Any) -> Rule:
    start = {} if default is None else {"default": default}
    return {"type": kind, **limits, **start, "meta": {"doc": doc, "expects": expects}}


def _ip(rule: Rule) -> Rule:
    """IPv6 gets its own words; see `builder.spec.explain`."""
    return {**rule, "meta": {**rule["meta"], "ipv4": True}}


def _usable(field: str, value: str, complain: Complain) -> None:
    """An address that a host can have: not the loopback, not a group, not the broadcast."""
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError:
        return  # the pattern has said so
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_reserved:
        complain(field, f"{value} cannot be the address of a host in a network")
