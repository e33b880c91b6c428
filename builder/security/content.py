"""What stands in a secrets file: made, checked, and merged with what somebody else wrote. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from builder.errors import SecretsError

_VERSION = 1
_ALPHABET = string.ascii_letters + string.digits
_PASSWORD = re.compile(r"[A-Za-z0-9_]{8,}")
PARTS = ("passwords", "authorities", "generations")
Content = dict[str, Any]


def fresh() -> Content:
    """The content of a new file."""
    return {
        "version": _VERSION,
        "id": secrets.token_hex(8),
        "leaf_seed": base64.b64encode(secrets.token_bytes(32)).decode(),
        **{part: {} for part in PARTS},
    }


def new_password() -> str:
    """190 bits in letters and digits, which mean nothing in any configuration file's syntax.

    A letter first: unquoted YAML takes it for nothing but text.
    """
    rest = "".join(secrets.choice(_ALPHABET) for _ in range(31))
    return secrets.choice(string.ascii_letters) + rest


def checked(content: Mapping[str, Any], path: Path) -> Content:
    """Raises SecretsError for what a hand has broken, naming the place and never the value."""
    if content.get("version") != _VERSION or fresh().keys() - {"id"} - content.keys():
        raise SecretsError(
            f"{path} is not a secrets file of this version of pgha-build",
            do="Restore it from your copy. Never make a new one for a cluster that runs.",
        )
    if mistake := next(_mistakes(content), None):
        raise SecretsError(f"{path}: {mistake}", do="Correct it, or restore it from your copy.")
    return {"id": _first_id(content["leaf_seed"]), **content}


def _first_id(leaf_seed: str) -> str:
    """Of a file from before there were any: all copies of it get the same."""
    return hashlib.sha256(f"id|{leaf_seed}".encode()).hexdigest()[:16]


def _mistakes(content: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(content.get("id", ""), str):
        yield "id is not a text"
    if not _is_seed(content["leaf_seed"]):
        yield "leaf_seed is not 32 bytes in base64"
    for part in PARTS:
        if not isinstance(content[part], dict):
            yield f"{part} is not a table"
            return
    for name, text in content["passwords"].items():
        if not _is_password(text):
            yield f"passwords.{name} is not 8 or more of A-Z, a-z, 0-9, _ that YAML reads as text"
    yield from _broken_authorities(content["authorities"])
    for name, number in content["generations"].items():
        if type(number) is not int or number < 1:
            yield f"generations.{name} is not a number from 1"


def _broken_authorities(authorities: Mapping[str, Any]) -> Iterator[str]:
    for name, record in authorities.items():
        halves = record if isinstance(record, dict) else {}
        if not all(isinstance(halves.get(half), str) for half in ("certificate", "key")):
            yield f"authorities.{name} does not have a certificate and a key"
        elif not _is_rotation(halves):
            yield f"authorities.{name}: what a rotation left there (coming, retired) is damaged"


def _is_rotation(record: Mapping[str, Any]) -> bool:
    coming = record.get("coming", {"certificate": "", "key": ""})
    halves = coming if isinstance(coming, dict) else {}
    texts = (halves.get("certificate"), halves.get("key"), record.get("retired", ""))
    return all(isinstance(text, str) for text in texts)


def _is_seed(text: object) -> bool:
    try:
        return isinstance(text, str) and len(base64.b64decode(text, validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


def _is_password(text: object) -> bool:
    if not isinstance(text, str) or not _PASSWORD.fullmatch(text):
        return False
    return isinstance(yaml.safe_load(text), str)


def merged(there: Content, ours: Content, path: Path) -> Content:
    """What is in the file, and what we made that is not. Where both have a name, theirs counts.

    Raises SecretsError where the keys that we derived are no longer those that follow from it.
    """
    if any(there[key] != ours[key] for key in ("leaf_seed", "generations")):
        raise SecretsError(
            f"{path} was made by somebody else in the meantime",
            do="Run the command again: it will use those secrets.",
        )
    return {**there, **{part: {**ours[part], **there[part]} for part in PARTS}}


def includes(new: Content, old: Content) -> bool:
    """Whether `new` is `old` with nothing changed and perhaps something added."""
    if new.get("leaf_seed") != old.get("leaf_seed"):
        return False
    pairs = [(new.get(part), old.get(part)) for part in PARTS]
    return all(isinstance(n, dict) and isinstance(o, dict) and {**n, **o} == n for n, o in pairs)
