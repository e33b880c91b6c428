"""Reads cluster.yml from disk. The only IO of this package; what comes in is bounded.

The size is checked while reading, the encoding and the characters before YAML sees the text:
YAML 1.1 takes several invisible characters for line breaks, so that a value could look like one
line in an editor and be two for a program.
"""

from __future__ import annotations

import re
from pathlib import Path

from builder.diagnostics import Diagnostic
from builder.errors import SpecError
from builder.spec.document import Document
from builder.spec.tree import Malformed, parse

LARGEST_BYTES = 1024 * 1024

# Everything invisible but tab, line feed and carriage return; the last are Unicode line breaks.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def load(path: Path, content: bytes | None = None) -> Document:
    """The document in the file, or in `content` as if it were in that file.

    SpecError if there is none that could be judged further.
    """
    file = str(path)
    try:
        return parse(_text(_bounded(_content(path) if content is None else content)), file)
    except Malformed as error:
        problem = error.problem
        diagnostic = Diagnostic(
            file=file, line=error.line, message=problem.message, advice=problem.advice
        )
        raise SpecError((diagnostic,)) from None


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise Malformed(0, "this is not a file")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise Malformed(0, "there is no such file", "`pgha-build init` writes one") from None
    except (OSError, ValueError) as error:
        raise Malformed(0, f"cannot be read: {getattr(error, 'strerror', error)}") from None
    return content


def _bounded(content: bytes) -> bytes:
    if len(content) > LARGEST_BYTES:
        raise Malformed(0, f"larger than {LARGEST_BYTES // 1024} KiB; a cluster.yml never is")
    return content


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Malformed(line, "this is not UTF-8 text", "save the file as UTF-8") from None
    if odd := _FORBIDDEN.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        character = f"U+{ord(odd.group()):04X}"
        raise Malformed(line, f"the control character {character} is not allowed", "remove it")
    return text
