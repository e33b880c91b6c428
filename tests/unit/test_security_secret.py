"""A secret does not print itself, whatever is done to whoever holds it."""

from __future__ import annotations

import copy
import json
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Any

import pytest

from builder.resources.base import digest, shown
from builder.security.authority import Authority
from builder.security.secret import MASK, Secret

TEXT = "correct horse"
SECRET = Secret(TEXT)


@dataclass(frozen=True)
class Holder:
    """Somebody who forgot `repr=False`."""

    secret: Secret = SECRET
    nested: dict[str, list[Secret]] = field(default_factory=lambda: {"all": [SECRET]})


def raised(secret: Secret) -> str:
    try:
        _ = secret + 1  # type: ignore[operator]
    except TypeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        return "".join(shown.format())
    raise AssertionError("it was added")


SHOWS: dict[str, Callable[[], object]] = {
    "str": lambda: str(SECRET),
    "repr": lambda: repr(SECRET),
    "f-string": lambda: f"{SECRET} {SECRET!r} {SECRET!s} {SECRET:>30}",
    "percent": lambda: "%s %r" % (SECRET, SECRET),  # noqa: UP031
    "format": lambda: "{} {!r:>40}".format(SECRET, SECRET),  # noqa: UP032
    "pretty": lambda: pprint.pformat(Holder()),
    "holder": Holder,
    "asdict": lambda: asdict(Holder()),
    "astuple": lambda: astuple(Holder()),
    "deep copy": lambda: copy.deepcopy(Holder()),
    "list": lambda: [SECRET, {SECRET: SECRET}],
    "traceback with locals": lambda: raised(SECRET),
    "exception": lambda: ValueError(SECRET),
    "attributes": lambda: getattr(SECRET, "__dict__", {}),
    "shown": lambda: json.dumps(shown({"a": [SECRET], "b": SECRET})),
    "authority": lambda: Authority(certificate_pem=b"", key_pem=SECRET),
}


@pytest.mark.parametrize("way", SHOWS)
def test_a_secret_is_not_shown(way: str) -> None:
    said = SHOWS[way]()
    assert TEXT not in f"{said!r} {said!s}"


@pytest.mark.parametrize(
    "write",
    [
        pickle.dumps,
        json.dumps,
        lambda value: json.dumps(asdict(Holder(value))),
        "".join,
        lambda value: value.encode(),
        lambda value: b"" + value,
        bytes,
    ],
)
def test_a_secret_is_written_nowhere_by_mistake(write: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, AttributeError)) as said:
        write(SECRET)
    assert TEXT not in str(said.value)


def test_a_secret_is_shown_by_that_word_alone() -> None:
    assert SECRET.reveal() == TEXT
    assert str(SECRET) == MASK


def test_secrets_compare_by_what_they_are() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert digest(Secret("a")) == digest(Secret("a")) != digest(Secret("b"))


def test_a_secret_does_not_change() -> None:
    with pytest.raises((AttributeError, TypeError)):
        SECRET._text = "another"  # type: ignore[misc]
    assert replace(Holder(), nested={}).secret is SECRET
    assert copy.deepcopy(SECRET) == copy.copy(SECRET) == SECRET
