"""What a plain word in cluster.yml means. Pure.

YAML 1.1 turns `no` into false, `0644` into 420, `22:30` into 1350 and `2024-01-01` into a date.
Here only what nobody can misread is anything but text: `true`, `false`, `null`, `~`, nothing at
all, decimal numbers without leading zeros. `on` therefore stays the text that PostgreSQL expects,
and `0644` the text that `chmod` expects.
"""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE = re.compile(
    r"-?(?:0|[1-9][0-9]{0,17})"
)  # up to 18 digits: fits 64 bits, and int() is quick
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}(?:[eE][-+]?[0-9]{1,3})?")


def meaning(text: str) -> Scalar:
    """The value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
