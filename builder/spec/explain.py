"""Cerberus' errors in the words of the people who write cluster.yml. Pure.

Cerberus says which rule failed; a person wants to know what fits, what was found, and what the key
is for. So nearly every error becomes "expected …, got …" from the rule itself, with the key's
documentation as advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from cerberus import errors as cerberus
from cerberus.errors import ValidationError

from builder.spec.document import KeyPath, dotted
from builder.spec.model import Problem
from builder.spec.schema import CORE, rule_at
from builder.spec.section import Vocabulary
from builder.spec.types import Rule

_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "float": "a number",
    "number": "a number",
    "boolean": "true or false",
    "list": "a list",
    "dict": "a mapping (`key: value` lines)",
}
_TRUTH = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_MISSING = "is required"
_LONGEST_GUESS = 64
_CREDENTIALS = re.compile(r"://\S*@")


def explain(
    found: Iterable[ValidationError], rule: Rule, vocabulary: Vocabulary
) -> Iterator[Problem]:
    """One problem per mistake; `rule` is that of the whole document.

    A required key that was only misspelled is one mistake, not two.
    """
    problems = [problem for error in found for problem in _explain(error, rule, vocabulary)]
    misspelled = {(*each.path[:-1], each.advice) for each in problems}
    for problem in problems:
        answer = (*problem.path[:-1], _question(str(problem.path[-1])))
        if problem.message != _MISSING or answer not in misspelled:
            yield problem


def _explain(error: ValidationError, root: Rule, vocabulary: Vocabulary) -> Iterator[Problem]:
    if error.code == cerberus.KEYSRULES.code:
        yield from _wrong_keys(error, root)
    elif error.is_group_error and not error.is_logic_error:
        for child in error.child_errors:
            yield from _explain(child, root, vocabulary)
    elif error.code == cerberus.UNKNOWN_FIELD.code:
        yield _unknown(error.document_path, root, vocabulary)
    else:
        yield _wrong(error, rule_at(root, error.document_path))


def _wrong_keys(error: ValidationError, root: Rule) -> Iterator[Problem]:
    rule = rule_at(root, error.document_path).get("keysrules", {})
    for path in dict.fromkeys(child.document_path for child in error.child_errors):
        message = f"`{_short(str(path[-1]))}` cannot be a name here: expected {expectation(rule)}"
        yield Problem(path=path, message=message, advice=_doc(rule))


def _wrong(error: ValidationError, rule: Rule) -> Problem:
    path: KeyPath = error.document_path
    if error.code == cerberus.REQUIRED_FIELD.code:
        return Problem(path=path, message=_MISSING, advice=_doc(rule))
    if error.code == cerberus.CUSTOM.code:
        return Problem(path=path, message=str(error.info[0]), advice=_doc(rule))
    if message := _about_other_keys(error):
        return Problem(path=path, message=message, advice=_doc(rule))
    message = f"expected {_expected(error, rule)}, got {_shown(error.value)}"
    return Problem(path=path, message=message, advice=_hint(error.value, rule) or _doc(rule))


def _about_other_keys(error: ValidationError) -> str:
    if error.code == cerberus.DEPENDENCIES_FIELD.code:
        return f"needs `{error.info[0]}` to be given too"
    if error.code == cerberus.DEPENDENCIES_FIELD_VALUE.code:
        wanted = ", ".join(f"`{key}` = {_shown(error.constraint[key])}" for key in error.info[0])
        return f"needs {wanted}"
    if error.code == cerberus.EXCLUDES_FIELD.code:
        return f"cannot be given together with {error.info[0]}"
    return ""


def _expected(error: ValidationError, rule: Rule) -> str:
    """Some limits say it better than the rule's own words."""
    special = {
        cerberus.MAX_LENGTH.code: "at most {} {}",
        cerberus.MIN_LENGTH.code: "at least {} {}",
    }.get(error.code)
    if special is None:
        return expectation(rule)
    thing = ("character", "characters") if isinstance(error.value, str) else ("entry", "entries")
    return special.format(error.constraint, thing[error.constraint != 1])


def expectation(rule: Rule) -> str:
    """What fits `rule`, in words."""
    if expects := rule.get("meta", {}).get("expects"):
        return str(expects)
    if "allowed" in rule:
        return "one of " + ", ".join(f"`{value}`" for value in rule["allowed"])
    for choice in ("anyof", "oneof"):
        if choice in rule:
            return " or ".join(expectation(each) for each in rule[choice])
    kinds = rule.get("type", [])
    words = [_KINDS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return (" or ".join(words) or "another value") + _range(rule)


def _range(rule: Rule) -> str:
    least = f" from {rule['min']}" if "min" in rule else ""
    most = f" up to {rule['max']}" if "max" in rule else ""
    return least + most


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    if isinstance(value, str):
        shown = _short(_CREDENTIALS.sub("://…@", value))
        return f"the text `{shown}`" if value else "an empty text"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"the number {value}"


def _fits_in_quotes(value: Any, rule: Rule) -> bool:
    if rule.get("type") != "string" or not isinstance(value, bool | int | float):
        return False
    text = str(value).lower()
    return text in rule.get("allowed", [text]) and bool(re.fullmatch(rule.get("regex", ".*"), text))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_GUESS else text[:_LONGEST_GUESS] + "…"


def _hint(value: Any, rule: Rule) -> str:
    """The likely slip behind a wrong value."""
    if not isinstance(value, str):
        return "put it in quotes" if _fits_in_quotes(value, rule) else ""
    if rule.get("meta", {}).get("ipv4") and ":" in value:
        return "IPv6 is not supported yet"
    if rule.get("type") == "boolean" and value.lower() in _TRUTH:
        return f"write {_TRUTH[value.lower()]}"
    if rule.get("type") == "integer" and value.isdecimal():
        return "write the number without quotes and leading zeros"
    return did_you_mean(value, [each for each in rule.get("allowed", ()) if isinstance(each, str)])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a question; empty if none is near."""
    if len(word) > _LONGEST_GUESS:
        return ""
    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return _question(near[0]) if near else ""


def _question(word: str) -> str:
    return f"did you mean `{word}`?"


def _unknown(path: KeyPath, root: Rule, vocabulary: Vocabulary) -> Problem:
    key = str(path[-1])
    parent = rule_at(root, path[:-1])
    if len(path) == 1:
        return _unknown_section(key, parent, vocabulary)
    advice = did_you_mean(key, parent.get("schema", {})) or _of_provider(path, key, vocabulary)
    return Problem(path=path, message="unknown key", advice=advice or _known(path, parent))


def _known(path: KeyPath, parent: Rule) -> str:
    keys = ", ".join(parent.get("schema", {}))
    return f"{dotted(path[:-1])} may have: {keys}" if keys else ""


def _of_provider(path: KeyPath, key: str, vocabulary: Vocabulary) -> str:
    owners = [name for name, settings in vocabulary.machines.items() if key in settings]
    if path[:-1] != ("machines",) or not owners:
        return ""
    return f"it is a setting of the provider {' or '.join(owners)}"


def _unknown_section(key: str, root: Rule, vocabulary: Vocabulary) -> Problem:
    owned = [name for name, role in vocabulary.owners.items() if role == key]
    if key in vocabulary.roles and owned:
        advice = f"{key} is a role; its settings are in: {', '.join(owned)}"
    elif key in vocabulary.roles:
        advice = f"{key} is a role, and has no settings"
    else:
        advice = did_you_mean(key, root["schema"]) or _sections(vocabulary)
    return Problem(path=(key,), message="unknown section", advice=advice)


def _sections(vocabulary: Vocabulary) -> str:
    return "there are: " + ", ".join([*CORE, *sorted(vocabulary.sections)])


def _doc(rule: Rule) -> str:
    return str(rule.get("meta", {}).get("doc", ""))
