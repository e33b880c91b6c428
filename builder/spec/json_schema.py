"""JSON Schema (draft 2020-12) of cluster.yml, for editors; from the schema that validates. Pure.

Not stricter than the program, and hardly looser: what it cannot say are the rules across keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.spec.schema import DEFAULT_PROVIDER, cluster_schema
from builder.spec.section import Vocabulary
from builder.spec.types import Rule

_TYPES = {
    "string": "string",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "boolean": "boolean",
    "list": "array",
    "dict": "object",
}
_LIMITS = {"min": "minimum", "max": "maximum"}
_CHOICES = {"anyof": "anyOf", "oneof": "oneOf", "allof": "allOf"}


def json_schema(vocabulary: Vocabulary) -> dict[str, Any]:
    """The whole document."""
    schema = _json(cluster_schema(vocabulary, DEFAULT_PROVIDER))
    schema["properties"]["machines"] = {"anyOf": _providers(vocabulary)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cluster.yml of pgha-build",
        **schema,
    }


def _providers(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """One alternative per provider; only the default one may go unnamed."""
    alternatives = []
    for provider in sorted(vocabulary.machines):
        schema = _json(cluster_schema(vocabulary, provider)["schema"]["machines"])
        schema["properties"]["provider"] = {"const": provider}
        if provider != DEFAULT_PROVIDER:
            schema["required"] = [*schema.get("required", []), "provider"]
        alternatives.append(schema)
    return alternatives


def _json(rule: Rule) -> dict[str, Any]:
    """One rule as JSON Schema. A key that has a default may be left empty, hence `null`."""
    kinds = [_TYPES[kind] for kind in _listed(rule.get("type", []))]
    null = ["null"] if "default" in rule or rule.get("nullable") else []
    schema: dict[str, Any] = {"type": kinds + null} if kinds else {}
    if "allowed" in rule:
        schema["enum"] = [*rule["allowed"], *([None] if null else [])]
    schema |= {name: rule[key] for key, name in _LIMITS.items() if key in rule}
    schema |= _sizes(rule) | _inside(rule)
    if doc := rule.get("meta", {}).get("doc"):
        schema["description"] = doc
    if rule.get("default") is not None:
        schema["default"] = rule["default"]
    return schema


def _listed(kinds: str | list[str]) -> list[str]:
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _sizes(rule: Rule) -> dict[str, Any]:
    suffix = {"list": "Items", "dict": "Properties"}.get(str(rule.get("type")), "Length")
    sizes = {
        f"{bound}{suffix}": rule[f"{bound}length"]
        for bound in ("min", "max")
        if rule.get(f"{bound}length")
    }
    if rule.get("empty") is False:
        sizes.setdefault(f"min{suffix}", 1)
    if "regex" in rule:
        sizes["pattern"] = _ecma(rule["regex"])
    return sizes


def _ecma(pattern: str) -> str:
    """The same in JavaScript's dialect, which has no `\\A` and `\\Z`."""
    return pattern.replace(r"\A", "^").replace(r"\Z", "$")


def _inside(rule: Rule) -> dict[str, Any]:
    if rule.get("type") == "list":
        return {"items": _json(rule["schema"])} if "schema" in rule else {}
    inside: dict[str, Any] = {}
    if "schema" in rule:
        inside |= _known_keys(rule["schema"])
    if "keysrules" in rule:
        inside["propertyNames"] = _json(rule["keysrules"])
    if "valuesrules" in rule:
        inside["additionalProperties"] = _json(rule["valuesrules"])
    for choice, name in _CHOICES.items():
        if choice in rule:
            inside[name] = [_json(each) for each in rule[choice]]
    return inside


def _known_keys(schema: Mapping[str, Rule]) -> dict[str, Any]:
    required = [key for key, rule in schema.items() if rule.get("required")]
    keys = {
        "properties": {key: _json(rule) for key, rule in schema.items()},
        "additionalProperties": False,
    }
    return {**keys, "required": required} if required else keys
