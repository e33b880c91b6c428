"""Which restarts a plan leads to, and in which order over all members. Pure.

Replicas go first, and the leader hands over before its turn. Where a parameter is lowered that a
replica must not have less of than its leader, it is the other way round: the leader restarts in
place, then the replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from builder.resources.base import Action, AttributeChange, Change, Impact, Observed, Present
from builder.resources.patroni_config import PatroniConfig, changed_parameters
from builder.spec.model import ClusterSpec
from roles.patroni.alter_system import altered
from roles.patroni.restart import need_restart
from roles.patroni.running import RunningPostgresql, Waiting, may_restart

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

Parameters = Mapping[str, AttributeChange]


def follow_through(spec: ClusterSpec, changes: Mapping[str, Change]) -> Mapping[str, Change]:
    """A changed setting may ask for restarts: say so in the plan, and look when it is in force.

    So may settings that wait already: an earlier run owes them, or somebody changed them by hand.
    """
    changed = {
        name: item
        for change in changes.values()
        if isinstance(change.resource, PatroniConfig) and change.action is Action.UPDATE
        for name, item in changed_parameters(change).items()
    }
    running = {
        address: change.resource
        for address, change in changes.items()
        if isinstance(change.resource, RunningPostgresql)
        and isinstance(change.observed, Present)
        and change.action is not Action.DELETE
    }
    owed = any(_is_owed_leader_first(changes[address].observed) for address in running)
    if owed or any(_is_lowered(changed[name]) for name in _LEADER_LOWERS_FIRST & changed.keys()):
        running = {address: resource.leader_first() for address, resource in running.items()}
    return {
        address: _planned(changes[address], resource, changed)
        for address, resource in running.items()
    }


def _is_owed_leader_first(observed: Observed) -> bool:
    """Also where nothing is known: at worst a replica then pauses until Patroni restarts it."""
    if not isinstance(observed, Waiting):
        return False
    settings = observed.settings
    shared = _LEADER_LOWERS_FIRST & settings.keys()
    return not settings or any(_is_less(*settings[name]) for name in shared)


def _is_lowered(item: AttributeChange) -> bool:
    return item.after is None or _is_less(str(item.before), str(item.after))


def _is_less(before: str, after: str) -> bool:
    return before.isdigit() and after.isdigit() and int(after) < int(before)


def _planned(change: Change, resource: RunningPostgresql, changed: Parameters) -> Change:
    """Beside changed parameters, what waits is known only once they are in force."""
    if not changed:
        return replace(change, resource=resource)
    waiting = change.observed.settings if isinstance(change.observed, Waiting) else {}
    known = need_restart(changed)
    names = sorted({*known, *waiting, *need_restart(altered(change))})
    for_what = ", ".join(names) or "settings that wait for it"
    restarts = bool(known) or may_restart(change)
    return replace(
        change,
        resource=resource,
        action=Action.DECIDE,
        reason=f"restarts for {for_what}" if restarts else "restarts only if it has to",
        impact=resource.restart_impact if restarts else Impact.RELOAD,
    )
