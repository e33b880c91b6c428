"""Would a database host take Patroni's configuration? It is asked before that matters. Pure."""

from __future__ import annotations

import json

from builder.operations.course import Course, Hear
from builder.spec.model import ClusterSpec
from roles.patroni.dynamic import dynamic_config
from roles.patroni.settings import NAME, members
from roles.patroni.watches import HOME

CHECK = f"{HOME}/check-config"
_SECONDS = 60


def asked_first(spec: ClusterSpec) -> Course:
    """Refuses what `apply` would refuse in its middle; a host without the check says nothing."""
    what = {
        "bootstrap": {"dcs": dynamic_config(spec)},
        "watchdog": {"mode": spec.sections[NAME]["watchdog"]},
    }
    script = f"[ ! -x {CHECK} ] || {CHECK} /dev/stdin <<'PGHA'\n{json.dumps(what)}\nPGHA\n"
    yield Hear(
        label="asks whether Patroni would take its configuration",
        scripts={host.name: script for host in members(spec)},
        timeout_seconds=_SECONDS,
    )
