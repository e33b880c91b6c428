"""YAML text to values with line numbers. Pure; bounded in time and memory whatever the text.

PyYAML's parser is used for events only; the values are made here, because its composer follows
aliases (a few hundred bytes can become gigabytes), keeps the last of duplicate keys silently, and
obeys tags. None of these has a place in a cluster.yml: each is refused, with its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from builder.spec.document import Document, KeyPath
from builder.spec.model import Problem
from builder.spec.scalars import meaning

DEEPEST = 20
MOST_VALUES = 20_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Malformed(Exception):
    """Reading cannot go on: the mistake, and its line."""

    def __init__(self, line: int, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.problem = Problem(path=(), message=message, advice=advice)


def parse(text: str, file: str) -> Document:
    """The document in `text`. Malformed if there is none to speak of."""
    builder = _Builder(yaml.parse(text, Loader=_LOADER))
    try:
        values = builder.document()
    except yaml.MarkedYAMLError as error:
        raise _syntax(error) from None
    except yaml.YAMLError as error:
        raise Malformed(1, f"this is not YAML: {error}") from None
    return Document(
        file=file,
        values=values,
        lines=builder.lines,
        problems=tuple(builder.problems),
        spoiled=frozenset(builder.spoiled),
    )


def _syntax(error: yaml.MarkedYAMLError) -> Malformed:
    mark = error.problem_mark or error.context_mark
    advice = ""
    if "cannot start any token" in (error.problem or ""):
        advice = "indent with spaces, not tabs; quote a text that begins with %, @ or `"
    elif "mapping values are not allowed" in (error.problem or ""):
        advice = "quote a text that contains `: `, and check the indentation"
    return Malformed(_line(mark), f"this is not YAML: {error.problem or error.context}", advice)


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 1


class _Builder:
    """Turns events into values; `lines` and `problems` fill on the way."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[int, Problem]] = []
        self.spoiled: set[KeyPath] = set()
        self.left = MOST_VALUES

    def document(self) -> dict[str, Any]:
        """The one mapping that a cluster.yml is."""
        start = self._content()
        if start is None:
            raise Malformed(1, "the file is empty", "`pgha-build init` writes one to start from")
        if not isinstance(start, yaml.MappingStartEvent):
            raise Malformed(
                _line(start.start_mark), "expected `key: value` lines", "begin with `name: …`"
            )
        self.lines[()] = _line(start.start_mark)
        values: dict[str, Any] = self._value(start, ())
        more = self._content()
        if more is not None:
            raise Malformed(
                _line(more.start_mark), "a second document begins here", "remove the line `---`"
            )
        return values

    def _content(self) -> Any:
        """The next event that brings content; None at the end of the file."""
        frame = (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.DocumentEndEvent)
        event = next(event for event in self.events if not isinstance(event, frame))
        if isinstance(event, yaml.StreamEndEvent) or _is_nothing(event):
            return None
        return event

    def _value(self, event: Any, path: KeyPath) -> Any:
        """What begins with `event`; reads it to its end, also where it is refused."""
        self._count(event, path)
        if self._is_refused(event, path):
            self.spoiled.add(path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return _scalar(event)

    def _is_refused(self, event: Any, path: KeyPath) -> bool:
        if refusal := _refusal(event):
            self._problem(event, path, *refusal)
        return refusal is not None

    def _problem(self, event: Any, path: KeyPath, message: str, advice: str = "") -> None:
        problem = Problem(path=path, message=message, advice=advice)
        self.problems.append((_line(event.start_mark), problem))

    def _count(self, event: Any, path: KeyPath) -> None:
        self.left -= 1
        if self.left < 0:
            raise Malformed(_line(event.start_mark), f"more than {MOST_VALUES} values in one file")
        if len(path) > DEEPEST:
            raise Malformed(_line(event.start_mark), f"nested deeper than {DEEPEST} levels")

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, path)
            if key is None or key in values:
                self._skip(next(self.events))
                continue
            self.lines[(*path, key)] = _line(event.start_mark)
            values[key] = self._value(next(self.events), (*path, key))
        return values

    def _key(self, event: Any, path: KeyPath) -> str | None:
        """The key that `event` begins; None if there can be no such key."""
        if not isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            self._skip(event)
        elif self._is_refused(event, path):
            return None
        elif isinstance(key := _scalar(event), str):
            self._look_for_first(key, event, path)
            return key
        self._problem(event, path, "a key must be text", "put it in quotes")
        return None

    def _look_for_first(self, key: str, event: Any, path: KeyPath) -> None:
        here = (*path, key)
        if here in self.lines:
            first = f"given twice, first on line {self.lines[here]}"
            self._problem(event, here, first, "keep one of the two")

    def _skip(self, event: Any) -> None:
        """Read what begins with `event` to its end, and forget it."""
        depth = _step(event)
        while depth > 0:
            event = next(self.events)
            self._count(event, ())
            depth += _step(event)

    def _sequence(self, path: KeyPath) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            item = (*path, len(values))
            self.lines[item] = _line(event.start_mark)
            values.append(self._value(event, item))
        return values


def _step(event: Any) -> int:
    """How much deeper it goes behind `event`."""
    if isinstance(event, yaml.CollectionStartEvent):
        return 1
    return -1 if isinstance(event, yaml.CollectionEndEvent) else 0


def _scalar(event: Any) -> Any:
    if isinstance(event, yaml.AliasEvent):
        return None
    return meaning(event.value) if event.implicit[0] else event.value


def _refusal(event: Any) -> tuple[str, str] | None:
    """Why `event` has no place in a cluster.yml, and what to do instead."""
    if isinstance(event, yaml.AliasEvent):
        return "aliases (`*name`) are not supported", "write the value out"
    if event.anchor is not None:
        return "anchors (`&name`) are not supported", "write the value out where it is needed"
    if event.tag is not None:
        return "tags (`!name`) are not supported", "remove the tag; put a text in quotes"
    if isinstance(event, yaml.ScalarEvent) and not event.value.isprintable():
        return f"{_odd_character(event.value)} is not allowed here", "write one line of plain text"
    return None


def _odd_character(text: str) -> str:
    names = {"\n": "a line break", "\t": "a tab", "\xa0": "a no-break space", "\0": "a NUL byte"}
    odd = next(character for character in text if not character.isprintable())
    return names.get(odd, f"the invisible character U+{ord(odd):04X}")


def _is_nothing(event: Any) -> bool:
    """An empty document is an empty plain scalar."""
    return isinstance(event, yaml.ScalarEvent) and event.value == "" and event.implicit[0]
