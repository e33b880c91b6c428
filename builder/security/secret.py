"""A value that does not print itself. Pure."""

from __future__ import annotations

from typing import NoReturn, Self

MASK = "(sensitive)"


class Secret:
    """Text that must not reach argv, a log, a diff, a manifest or an exception.

    `str`, `repr` and formatting give a mask; `reveal()` is the only way to the text, so that every
    place which uses a secret can be found by searching for that word. It is no dataclass, for
    `dataclasses.asdict` would take it apart.
    """

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        return self._text

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret{MASK}"

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret does not change")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")
