"""A system user that owns or runs something. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from builder.resources.base import Absent, Change, Observed, Present, Resource, Unknown, quoted
from builder.resources.steps import Run, Step

_NO_LOGIN = "/usr/sbin/nologin"


@dataclass(frozen=True, kw_only=True)
class User(Resource):
    """A system user without a home or a login; its group has the same name."""

    kind: ClassVar[str] = "user"

    def attributes(self) -> Mapping[str, object]:
        return {"shell": _NO_LOGIN}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """getent says 2 for a user that is not there; what else goes wrong is no answer."""
        names = quoted(user.name for user in wanted)
        return f"getent passwd {names}; case $? in 0 | 2) echo looked;; esac"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        lines = output.splitlines()
        if "looked" not in lines:
            return {user.name: Unknown("getent did not finish") for user in wanted}
        shells = {line.split(":")[0]: line.rsplit(":", 1)[-1] for line in lines if ":" in line}
        return {
            user.name: Present(attributes={"shell": shells[user.name]})
            if user.name in shells
            else Absent()
            for user in wanted
        }

    def steps(self, change: Change) -> Sequence[Step]:
        if isinstance(change.observed, Present):
            return (Run(argv=("usermod", "--shell", _NO_LOGIN, "--", self.name)),)
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
        return (Run(argv=("useradd", *options, "--shell", _NO_LOGIN, "--", self.name)),)

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)

    def removal(self) -> Sequence[Step]:
        return (Run(argv=("userdel", "--", self.name)),)
