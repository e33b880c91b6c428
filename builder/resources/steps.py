"""What can be done on a host, as values. Pure; `engine.script` turns them into one shell script.

A step never carries a secret in `argv`: secrets travel in `stdin` and `content`, which reach the
host inside the encrypted channel and never appear in a process list.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run `argv` with `stdin`; anything but an exit status in `accept` is a failure."""

    argv: tuple[str, ...]
    stdin: bytes = field(default=b"", repr=False)
    accept: tuple[int, ...] = (0,)
    timeout_seconds: int = 300


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Run a fragment of POSIX shell. `script` is ours, its values are quoted by the caller."""

    script: str
    stdin: bytes = field(default=b"", repr=False)
    timeout_seconds: int = 300


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write a file atomically: beside its target, checked, renamed over it.

    `check` is the program that will read it, asked first; `{}` in it is the new file.

    The mode holds from the moment the file exists; `owner` and `group` are names on the host.
    """

    path: str
    content: bytes = field(repr=False)
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    check: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Await:
    """Wait until `condition` (POSIX shell, exit status 0) holds; its output says why not yet.

    While its exit status is 75, what is waited for is under way (a copy): the time begins anew, up
    to `longest_seconds` in all.
    """

    what: str
    condition: str
    timeout_seconds: int
    interval_seconds: float = 0.5
    longest_seconds: int = 0


Step = Run | Shell | Put | Await
