"""Cerberus, with its traps closed. Pure.

What is different here, and why:

- `integer` does not take `true` (in Python a bool is an int).
- A pattern must match the whole value; Cerberus appends a `$`, which forgives a final newline.
- A key without a value (`port:`) gets its default, and is not "null".
- The schema is not checked on each run (a test does it once) and errors are neither sorted nor put
  into trees while they come in: both cost more than the validation, the latter quadratically.

A document is validated *before* defaults are filled in: Cerberus' normalisation trusts the types it
finds and fails with AttributeError on a mapping where a list should be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

from cerberus import TypeDefinition, Validator
from cerberus.errors import REGEX_MISMATCH, ValidationError
from cerberus.schema import UnvalidatedSchema

from builder.spec.types import Rule


def errors_in(values: Mapping[str, Any], rule: Rule) -> list[ValidationError]:
    """Everything that Cerberus finds wrong, as a tree of its errors."""
    validator = _SpecValidator(UnvalidatedSchema(rule["schema"]))
    validator.validate(values, normalize=False)
    return list(validator._errors)


def with_defaults(values: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
    """A copy of the valid `values` with every default filled in; shares nothing with the schema."""
    validator = _SpecValidator(UnvalidatedSchema(rule["schema"]))
    normalised = validator.normalized(values, always_return_document=True)
    return deepcopy(dict(normalised))


class _SpecValidator(Validator):  # type: ignore[misc]  # Cerberus has no types
    types_mapping: ClassVar[dict[str, TypeDefinition]] = {
        **Validator.types_mapping,
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "float": TypeDefinition("float", (float, int), (bool,)),
    }

    def _error(self, *args: Any) -> None:
        if len(args) == 1:
            self._errors.extend(args[0])
        else:
            super()._error(*args)

    def _validate_nullable(self, nullable: bool, field: str, value: Any) -> None:
        """{'type': 'boolean'}"""
        if value is None and "default" in self.schema[field]:
            self._drop_remaining_rules()
        else:
            super()._validate_nullable(nullable, field, value)

    def _validate_regex(self, pattern: str, field: str, value: Any) -> None:
        """{'type': 'string'}"""
        if isinstance(value, str) and not re.compile(pattern).fullmatch(value):
            self._error(field, REGEX_MISMATCH)
