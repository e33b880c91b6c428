"""The running PostgreSQL of a host: restarted where it says that a setting waits for that. Pure.

Patroni knows which (`pending_restart`); in which order members restart is for `rolling_restart` to
say. A replica whose Patroni has not told its PostgreSQL the settings is made to, which needs no
restart by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from builder.resources.base import (
    Absent,
    Change,
    Impact,
    Observed,
    Present,
    Resource,
    Unknown,
    quoted,
)
from builder.resources.gate import journal
from builder.resources.patroni_config import RestApi
from builder.resources.sql import Server
from builder.resources.steps import Await, Shell, Step
from roles.patroni import alter_system
from roles.patroni.alter_system import altered
from roles.patroni.restart import need_restart, restarted

_PENDING = '"pending_restart": true'
_NO_TIMELINE = '"timeline": null'
# Ends when it has been in force for a second; or after ten, whatever is then.
_SETTLED = """\
calm=0
for _ in $(seq 10); do
  if {{ {waits}; }}; then calm=0; else calm=$((calm + 1)); fi
  [ $calm -lt 2 ] || break
  sleep 1
done
"""


@dataclass(frozen=True, kw_only=True)
class RunningPostgresql(Resource):
    """`name` is the member's. `leaves` and `complete` are conditions in shell (`ask`).

    `managed` are the parameters that nobody else may set.
    """

    kind: ClassVar[str] = "postgresql"
    late: ClassVar[bool] = True

    api: RestApi = RestApi()
    server: Server = Server()
    managed: frozenset[str] = frozenset()
    leaves: str = ":"
    complete: str = ":"
    last: str = "echo 0"
    alone: bool = False

    def attributes(self) -> Mapping[str, object]:
        return {"settings": "in force", alter_system.ATTRIBUTE: ()}

    def turn(self) -> str:
        return self.last

    def leader_first(self) -> Self:
        """It restarts in place, before the replicas."""
        return replace(self, leaves=":", last=f"echo $((1 - $({self.last})))")

    def impact(self, change: Change) -> Impact:
        if not isinstance(change.observed, Present):
            return Impact.NONE  # it is born with its settings
        if isinstance(change.observed, Unread):
            return Impact.RELOAD
        only_reset = change.changes(alter_system.ATTRIBUTE) and not may_restart(change)
        return Impact.RELOAD if only_reset else self.restart_impact

    @property
    def restart_impact(self) -> Impact:
        return Impact.OUTAGE if self.alone else Impact.SWITCHOVER

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        api = wanted[0].api
        return (
            f"if [ ! -e {quoted([api.data + '/PG_VERSION'])} ]; then echo absent; "
            f"else {{ {api.curl('/patroni')}; }} 2>&1; {alter_system.probe(api.data)}; fi"
        )

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        said, lines = alter_system.split(output)
        observed = _observed(said)
        return {
            item.name: alter_system.with_altered(observed, lines, item.managed) for item in wanted
        }

    def steps(self, change: Change) -> Sequence[Step]:
        reads, names = self._reading(change), altered(change)
        if not names:
            return (*reads, *self._restart(self.leaves))
        reset = (alter_system.reset(self.server, names), *self._reload())
        if not may_restart(change):
            return (*reads, *reset)
        leaves = f"{{ {self._waits()}; }} || exit 0\n{self.leaves}"  # what waited may be reset
        return (*reads, *reset, *self._restart(leaves))

    def _reload(self) -> Sequence[Step]:
        """Patroni looks for what waits for a restart only when it is told to reload."""
        return (self.api.send("POST", "/reload", {}, 30), self.api.everybody_has_read())

    def _restart(self, leaves: str) -> Sequence[Step]:
        whole = Await(what="all members are back", condition=self.complete, timeout_seconds=300)
        # Who has just handed over was restarted by that.
        restart = restarted(self.api, only_if=self._waits())
        read = self.api.everybody_has_read().script
        return (
            whole,
            Await(what="it leads no more", condition=leaves, timeout_seconds=60),
            whole,
            restart,
            whole,
            # A replica may start with its leader's older numbers (patroni/postgresql/config.py,
            # effective_configuration), or by what Patroni knew while PostgreSQL was down: told to
            # reload, it goes by its configuration in etcd again.
            Shell(script=_SETTLED.format(waits=self._waits())),
            self.api.send("POST", "/reload", {}, 30, only_if=self._waits()),
            Shell(script=f"if {{ {self._waits()}; }}; then\n{read}\nfi"),
            restart,
            whole,
        )

    def _reading(self, change: Change) -> Sequence[Step]:
        """Once it was told to reload, its settings are in force or wait for a restart."""
        if not isinstance(change.observed, Unread):
            return ()
        why = "Patroni cannot log in to its PostgreSQL for replication: journalctl -u patroni"
        known = f"! {self._says(_NO_TIMELINE)} || {{ echo {quoted([why])}; exit 1; }}"
        return (
            *self._reload(),
            Await(what="its timeline is known", condition=known, timeout_seconds=60),
        )

    def _waits(self) -> str:
        return self._says(_PENDING)

    def _says(self, words: str) -> str:
        return f"{{ {self.api.curl('/patroni')}; }} 2>&1 | grep -qF {quoted([words])}"

    def diagnose(self) -> str:
        return journal(("patroni",))

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)


@dataclass(frozen=True)
class Waiting(Present):
    """Settings wait for a restart. Their values now and after it, as Patroni 3.3 and later say."""

    settings: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Unread(Present):
    """A replica whose timeline Patroni does not know: nobody can hand over to it, nor fail over.

    Patroni asks for it by a replication connection. On a replica that it found running, PostgreSQL
    has the pg_hba.conf that is wanted, for TLS only, and no TLS until Patroni is told to reload
    (patroni/postgresql/__init__.py, `load_current_server_parameters`).
    """


def may_restart(change: Change) -> bool:
    """Whether PostgreSQL may have to restart for it."""
    return isinstance(change.observed, Waiting) or bool(need_restart(altered(change)))


def _observed(output: str) -> Observed:
    if output.strip() == "absent":
        return Absent(elsewhere=True)
    if '"state"' not in output:
        said = output.strip()[:160]
        return Unknown(
            f"Patroni does not answer: {said} (journalctl -u patroni says more; where it runs, "
            "systemctl restart patroni on its host helps)"
        )
    if _NO_TIMELINE in output:
        return Unread(attributes={"settings": "not in force: this replica cannot take over"})
    if _PENDING not in output:
        return Present(attributes={"settings": "in force"})
    try:
        said, _ = json.JSONDecoder().raw_decode(output[output.index("{") :])
    except ValueError:
        return Unknown(f"Patroni's answer broke off: {output.strip()[-160:]}")
    reasons = said.get("pending_restart_reason") or {}
    settings = {name: (item["old_value"], item["new_value"]) for name, item in reasons.items()}
    told = ", ".join(
        f"{name} from {before} to {after}" for name, (before, after) in settings.items()
    )
    waits = f"wait for a restart: {told}" if told else "wait for a restart"
    return Waiting(attributes={"settings": waits}, settings=settings)
