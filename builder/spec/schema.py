"""The schema of cluster.yml: core keys, sections of roles, settings of the provider. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from builder.spec.document import KeyPath
from builder.spec.section import Vocabulary
from builder.spec.types import (
    HOSTNAME,
    LABEL,
    PORT,
    Rule,
    integer,
    ipv4,
    list_of,
    mapping_of,
    one_of,
    optional,
    required,
    table,
    text,
)

DEFAULT_PROVIDER = "lab"
CORE = ("name", "machines", "ssh", "hosts")

_USER = r"[A-Za-z_][A-Za-z0-9._-]{0,63}"
_KEY_TYPES = r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]{1,60})"


def cluster_schema(vocabulary: Vocabulary, provider: str) -> Rule:
    """One rule for the whole document, with the settings of `provider`; it owns all it holds."""
    keys = {
        "name": required(_name()),
        "machines": _machines(vocabulary, provider),
        "ssh": table(_ssh(), "How to reach all hosts over SSH; a host's own settings win."),
        "hosts": required(_hosts(vocabulary)),
        **{name: _section(section) for name, section in vocabulary.sections.items()},
    }
    return with_nested_defaults(deepcopy(table(keys, "The cluster.")))


def _section(section: Any) -> Rule:
    return table(section.schema, section.doc)


def _name() -> Rule:
    return text(
        "The name of the cluster: Patroni's scope, and part of certificates and host-side names.",
        pattern=r"[a-z][a-z0-9-]{0,30}",
        expects="a name of a-z, 0-9 and - that begins with a letter, at most 31 characters",
    )


def _machines(vocabulary: Vocabulary, provider: str) -> Rule:
    choice = one_of(
        sorted(vocabulary.machines),
        DEFAULT_PROVIDER,
        "Where hosts come from: `lab` (local nspawn hosts), `vagrant` (virtual machines), "
        "`existing` (hosts that are there already).",
    )
    settings = vocabulary.machines.get(provider, {})
    rule = table({"provider": choice, **settings}, "Where hosts come from, and its settings.")
    # With a wrong provider nobody knows which settings are right: one mistake, not many.
    return rule if provider in vocabulary.machines else {**rule, "allow_unknown": True}


def _hosts(vocabulary: Vocabulary) -> Rule:
    name = text(
        "What the host is called, here and on itself.",
        pattern=rf"(?!localhost\Z){LABEL}",
        expects="a host name of a-z, 0-9 and -, at most 63 characters",
    )
    return mapping_of(name, _host(vocabulary), "The machines of the cluster, by name.", least=1)


def _host(vocabulary: Vocabulary) -> Rule:
    role = one_of(sorted(vocabulary.roles), None, "A role.")
    return table(
        {
            "address": required(ipv4("The host's IPv4 address in the cluster's network.")),
            "roles": required(list_of(role, "What the host does.", default=None)),
            "ssh": table({**_ssh(), "host_key": _host_key()}, "How to reach this host over SSH."),
        },
        "A machine.",
    )


def _ssh() -> dict[str, Rule]:
    return {
        "user": optional(text("Who logs in.", pattern=_USER, expects="a user name")),
        "port": optional(integer("The TCP port of sshd.", least=1, most=65535)),
        "identity_file": optional(_identity_file()),
        "jump": optional(_jump()),
    }


def _identity_file() -> Rule:
    return text(
        "The private key to log in with; a relative path starts at the folder of cluster.yml.",
        pattern=r"(~?/)?[A-Za-z0-9._+@][A-Za-z0-9._+@/ -]*",
        expects="a path of letters, digits, spaces and ._+@-",
        longest=4096,
    )


def _jump() -> Rule:
    return text(
        "The host to go through.",
        pattern=rf"({_USER}@)?{HOSTNAME}(:{PORT})?",
        expects="`[user@]host[:port]`",
    )


def _host_key() -> Rule:
    key = text(
        "The host's public key, as in known_hosts.",
        pattern=rf"{_KEY_TYPES} [A-Za-z0-9+/]{{16,4000}}={{0,2}}( [A-Za-z0-9@._-]{{1,100}})?",
        expects="a public key such as `ssh-ed25519 AAAA…`",
        longest=4400,
    )
    return optional(key)


def with_nested_defaults(rule: Rule) -> Rule:
    """Give every table that may be absent `default: {}`, so that its keys' defaults are filled in.

    Cerberus fills in nothing below a missing key. A table with a required key stays absent.
    """
    for below in _rules_below(rule):
        with_nested_defaults(below)
    for child in _keys(rule).values():
        if _may_be_absent(child):
            child["default"] = {}
    return rule


def _may_be_absent(rule: Rule) -> bool:
    keys = _keys(rule)
    settled = any(mark in rule for mark in ("required", "default", "nullable"))
    return bool(keys) and not settled and not any(key.get("required") for key in keys.values())


def _keys(rule: Mapping[str, Any]) -> dict[str, Rule]:
    """The known keys of a table."""
    return rule["schema"] if rule.get("type") == "dict" and "schema" in rule else {}


def _rules_below(rule: Rule) -> Iterator[Rule]:
    yield from _keys(rule).values()
    if rule.get("type") == "list" and "schema" in rule:
        yield rule["schema"]
    if "valuesrules" in rule:
        yield rule["valuesrules"]
    for choice in ("anyof", "oneof", "allof"):
        yield from rule.get(choice, ())


def rule_at(rule: Rule, path: KeyPath) -> Rule:
    """The rule for what stands at `path`; empty if there is none."""
    for step in path:
        rule = _one_below(rule, step)
    return rule


def _one_below(rule: Rule, step: str | int) -> Rule:
    if isinstance(step, int):
        below = rule.get("schema", {}) if rule.get("type") == "list" else {}
    else:
        below = _keys(rule).get(step, rule.get("valuesrules", {}))
    return below if isinstance(below, dict) else {}
