"""What ALTER SYSTEM has set on a host. Pure.

It counts more than Patroni's configuration, and Patroni does not see it: what we manage is reset,
everything else is told and left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from builder.resources.base import Change, Observed, Present, quoted
from builder.resources.sql import Server
from builder.resources.steps import Step

ATTRIBUTE = "alter_system"
_MARK = f"@{ATTRIBUTE}"
# A line of postgresql.auto.conf, which PostgreSQL alone writes.
_LINE = re.compile(r"^([A-Za-z_][\w.]*) = '(.*)'$", re.MULTILINE)
_PLAIN = re.compile(r"[\w.+-]{0,24}")  # a number, a switch, a size: never a password beside a name


def probe(data: str) -> str:
    """Shell that prints what is set, behind a mark; `data` is the data directory."""
    file = quoted([f"{data}/postgresql.auto.conf"])
    return f"printf '\\n{_MARK}\\n'; cat {file} 2>/dev/null"


def split(output: str) -> tuple[str, str]:
    """What was printed before `probe`, and what by it."""
    before, _, lines = output.partition(f"\n{_MARK}\n")
    return before, lines


def with_altered(observed: Observed, lines: str, managed: AbstractSet[str]) -> Observed:
    """Of the parameters that are set, `managed` ones become an attribute, others a note."""
    if not isinstance(observed, Present):
        return observed
    found = dict(_LINE.findall(lines))
    ours = {name: value for name, value in found.items() if name.lower() in managed}
    others = sorted(found.keys() - ours.keys())
    return replace(
        observed,
        attributes={**observed.attributes, ATTRIBUTE: tuple(_told(ours))},
        note=f"set by ALTER SYSTEM, left alone: {', '.join(others)}" if others else "",
    )


def _told(altered: Mapping[str, str]) -> Iterator[str]:
    """A value that is more than a word could hold a secret."""
    for name, value in sorted(altered.items()):
        yield f"{name} = {value}" if _PLAIN.fullmatch(value) else name


def altered(change: Change) -> Sequence[str]:
    """The managed parameters that are set."""
    seen = change.observed.attributes if isinstance(change.observed, Present) else {}
    return [str(item).partition(" ")[0] for item in seen.get(ATTRIBUTE, ())]


def reset(server: Server, names: Sequence[str]) -> Step:
    statements = [f"ALTER SYSTEM RESET {name};" for name in names]
    return server.change("\n".join((*statements, "SELECT pg_reload_conf();")))
