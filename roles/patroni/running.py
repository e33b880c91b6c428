"""The running PostgreSQL of a host: restarted where it says that a setting waits for that. Pure.

Patroni knows which (`pending_restart`). Replicas go first, and the leader hands over before its
turn. Where one of the settings is lowered that a replica must not have less of than its leader, it
is the other way round: the leader restarts in place, then the replicas. A replica whose Patroni has
not told its PostgreSQL the settings is made to, which needs no restart by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from builder.resources.base import (
    Absent,
    Action,
    AttributeChange,
    Change,
    Impact,
    Observed,
    Present,
    Resource,
    Unknown,
    quoted,
)
from builder.resources.gate import journal
from builder.resources.patroni_config import PatroniConfig, RestApi, changed_parameters
from builder.resources.sql import Server
from builder.resources.steps import Await, Shell, Step
from builder.spec.model import ClusterSpec
from roles.patroni import alter_system
from roles.patroni.alter_system import altered
from roles.patroni.restart import restarted

_PENDING = '"pending_restart": true'
_NO_TIMELINE = '"timeline": null'
# PostgreSQL's parameters of context `postmaster` that people change (pg_settings).
_NEED_RESTART = frozenset(
    {
        "max_connections",
        "max_wal_senders",
        "max_worker_processes",
        "max_replication_slots",
        "max_prepared_transactions",
        "max_locks_per_transaction",
        "max_files_per_process",
        "track_commit_timestamp",
        "shared_buffers",
        "shared_preload_libraries",
        "huge_pages",
        "wal_level",
        "wal_buffers",
        "wal_log_hints",
        "archive_mode",
        "hot_standby",
        "autovacuum_max_workers",
        "superuser_reserved_connections",
    }
)
# A replica cannot run with less of these than its leader (PostgreSQL docs, hot standby).
_LEADER_LOWERS_FIRST = frozenset(
    {
        "max_connections",
        "max_wal_senders",
        "max_worker_processes",
        "max_prepared_transactions",
        "max_locks_per_transaction",
    }
)


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

    def impact(self, change: Change) -> Impact:
        if not isinstance(change.observed, Present):
            return Impact.NONE  # it is born with its settings
        if isinstance(change.observed, Unread):
            return Impact.RELOAD
        only_reset = change.changes(alter_system.ATTRIBUTE) and not _restarts(change)
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
        if not _restarts(change):
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

    @property
    def leader_first(self) -> bool:
        """Also where nothing is known: at worst a replica then pauses until Patroni restarts it."""
        if not self.settings:
            return True
        shared = _LEADER_LOWERS_FIRST & self.settings.keys()
        return any(_is_less(*self.settings[name]) for name in shared)


def _restarts(change: Change) -> bool:
    """Whether PostgreSQL may have to restart for it."""
    return isinstance(change.observed, Waiting) or bool(_need_restart(altered(change)))


def _need_restart(names: Iterable[str]) -> AbstractSet[str]:
    return _NEED_RESTART & {name.lower() for name in names}


@dataclass(frozen=True)
class Unread(Present):
    """A replica whose timeline Patroni does not know: nobody can hand over to it, nor fail over.

    Patroni asks for it by a replication connection. On a replica that it found running, PostgreSQL
    has the pg_hba.conf that is wanted, for TLS only, and no TLS until Patroni is told to reload
    (patroni/postgresql/__init__.py, `load_current_server_parameters`).
    """


def _observed(output: str) -> Observed:
    if output.strip() == "absent":
        return Absent(elsewhere=True)
    if '"state"' not in output:
        return Unknown(f"Patroni does not answer: {output.strip()[:160]}")
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


def follow_through(spec: ClusterSpec, changes: Mapping[str, Change]) -> Mapping[str, Change]:
    """A changed setting may ask for restarts: say so in the plan, and look when it is in force.

    So may settings that wait already: an earlier run owes them, or somebody changed them by hand.
    """
    touched = {
        name: item
        for change in changes.values()
        if isinstance(change.resource, PatroniConfig) and change.action is Action.UPDATE
        for name, item in changed_parameters(change).items()
    }
    running = {
        address: change
        for address, change in changes.items()
        if isinstance(change.resource, RunningPostgresql)
        and isinstance(change.observed, Present)
        and change.action is not Action.DELETE
    }
    owed = [item.observed for item in running.values() if isinstance(item.observed, Waiting)]
    lowered = any(_is_lowered(touched[name]) for name in _LEADER_LOWERS_FIRST & touched.keys())
    if lowered or any(item.leader_first for item in owed):
        running = {address: _leader_first(change) for address, change in running.items()}
    if not touched:
        return running
    known = _NEED_RESTART & touched.keys()
    return {address: _looked_at_later(change, known) for address, change in running.items()}


def _leader_first(change: Change) -> Change:
    resource = change.resource
    if not isinstance(resource, RunningPostgresql):
        return change
    last = f"echo $((1 - $({resource.last})))"
    return replace(change, resource=replace(resource, leaves=":", last=last))


def _is_lowered(item: AttributeChange) -> bool:
    return item.after is None or _is_less(str(item.before), str(item.after))


def _is_less(before: str, after: str) -> bool:
    return before.isdigit() and after.isdigit() and int(after) < int(before)


def _looked_at_later(change: Change, known: AbstractSet[str]) -> Change:
    """`known`: changed settings that need a restart, beside those that wait already."""
    resource = change.resource
    if not isinstance(resource, RunningPostgresql):
        return change
    owed = change.observed.settings if isinstance(change.observed, Waiting) else {}
    names = sorted({*known, *owed, *_need_restart(altered(change))})
    for_what = ", ".join(names) or "settings that wait for it"
    restarts = bool(known) or _restarts(change)
    return replace(
        change,
        action=Action.DECIDE,
        reason=f"restarts for {for_what}" if restarts else "restarts only if it has to",
        impact=resource.restart_impact if restarts else Impact.RELOAD,
    )
