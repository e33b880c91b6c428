"""A value that does not print itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

MASK = "(sensitive)"


@dataclass(frozen=True)
class Secret:
    """Text that must not reach argv, a log, a diff, a manifest or an exception.

    `str`, `repr` and formatting give a mask; `reveal()` is the only way to the text, so that every
    place which uses a secret can be found by searching for that word.
    """

    _text: str = field(repr=False)

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret{MASK}"

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")
