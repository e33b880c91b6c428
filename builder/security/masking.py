"""What somebody has written into a file by hand may hold secrets, and a diff shows it. Pure.

Our own files that hold secrets are never shown. A file of the same path that was there before, or
was edited since, is not known: so of a line with a word such as `password`, the rest is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from builder.security.secret import MASK

# HAProxy: stats auth, user … password, ca-sign-pass, Authorization; Keepalived: auth_pass.
_SAYS_SO = re.compile(
    r"""(?:(?<![a-z]) (?:auth|authorization|basic|bearer|community|token)
        | pass(?:wd|word|phrase)? | secret | credentials? | (?:api|access|private)[_-]?key)
        (?![a-z]) [\w.-]* [\s=:"'\\(),]* (?P<rest>.+)""",
    re.IGNORECASE | re.VERBOSE,
)
_IN_URL = re.compile(r"://[^/\s:@]*:(?P<rest>[^\s]+)@")
_OF_A_KEY = re.compile(r"[A-Za-z0-9+/=]{40,}\Z")  # a line of PEM


def masked(line: str) -> str:
    """A line of a file, without what could be secret in it."""
    for where in (_SAYS_SO, _IN_URL):
        if found := where.search(line):
            line = line[: found.start("rest")] + MASK + line[found.end("rest") :]
    return MASK if _OF_A_KEY.match(line.strip()) else line


def masked_diff(lines: Iterable[str]) -> Iterator[str]:
    """A unified diff, masked where lines go: what stays or comes is ours, and has no secrets."""
    return (f"-{masked(line[1:])}" if line.startswith("-") else line for line in lines)
