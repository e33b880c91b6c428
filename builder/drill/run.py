"""One drill from end to end: healthy, traffic, fault, healing, healthy, read back, judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from builder.drill import clients, samples
from builder.drill.faults import Fault
from builder.drill.health import Scene, ailments, scene
from builder.drill.history import Attempt, History, Kind, Moment, Outcome, Sample
from builder.drill.inject import Injector, Tell, undisturbed
from builder.drill.steps import Step, lacks
from builder.drill.verdict import Case, Result, judged
from builder.engine.desired import present
from builder.errors import PghaError, TransportError
from builder.resources.sql import Server, identifier
from builder.role import Role
from builder.spec.model import ClusterSpec

WARM_SECONDS = 20
BEFORE_SECONDS = 3
AFTER_SECONDS = 2
HEALTHY_SECONDS = 180


@dataclass(kw_only=True)
class Recorder:
    """What samplers and clients tell; appending to a list is safe from any thread."""

    attempts: list[Attempt] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    marks: dict[Moment, float] = field(default_factory=dict)

    def mark(self, moment: Moment) -> None:
        self.marks[moment] = time.monotonic()

    def history(self, begin: float, end: float, stored: frozenset[int] | None) -> History:
        return History(
            begin=begin,
            end=end,
            attempts=tuple(self.attempts),
            samples=tuple(self.samples),
            marks=dict(self.marks),
            stored=stored,
        )


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The cluster to drill on. `status` and `differences` look anew at each call."""

    spec: ClusterSpec
    roles: Mapping[str, Role]
    provider: Any
    uris: Mapping[str, str]
    status: Callable[[], Mapping[str, Any]]
    differences: Callable[[], Sequence[str]]
    tell: Tell
    traffic: clients.Traffic = clients.Traffic()

    @property
    def injector(self) -> Injector:
        return Injector(self.provider.endpoints(), self.provider, self.tell)

    def promises(self) -> Mapping[str, float]:
        roles = present(self.spec, self.roles)
        return {p.fault: p.seconds for role in roles for p in role.promises(self.spec)}

    def healthy_scene(self) -> Scene:
        """Who is who; refuses a cluster that is not whole."""
        status = self.status()
        wrong = ailments(self.spec, status)
        if wrong:
            raise PghaError(
                f"{self.spec.name} is not healthy: {'; '.join(wrong)}",
                why="A second fault on top of this one could cost data or service.",
                do="See `pgha-build status` and `pgha-build plan`; drill when all is well.",
            )
        return scene(self.spec, status)


def obstacle(fault: Fault, who: Scene, provider: object) -> str:
    """Why this fault is no drill here; empty where it is."""
    reason = fault.obstacle(who)
    return reason or next((r for step in fault.steps(who) if (r := lacks(step, provider))), "")


def drill(ground: Ground, fault: Fault) -> Result:
    """Raises PghaError where the cluster is not healthy before, or cannot be healed."""
    who = ground.healthy_scene()
    steps = fault.steps(who)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with _table(ground, who):
        history, wrong = _recorded(ground, fault, steps, reads=bool(who.replicas))
    differences = tuple(ground.differences())
    case = Case(
        fault=fault,
        promises=ground.promises(),
        has_address=bool(who.holder),
        ailments=wrong,
        differences=differences,
    )
    found, checks = judged(case, history)
    return Result(
        fault=fault,
        targets=tuple(step.host for step in steps),
        history=history,
        figures=found,
        checks=checks,
        ailments=tuple(wrong),
        differences=differences,
        write_bound=case.seconds(fault.writes),
        at=at,
    )


def _recorded(
    ground: Ground, fault: Fault, steps: Sequence[Step], *, reads: bool
) -> tuple[History, Sequence[str]]:
    recorder = Recorder()
    limit = WARM_SECONDS + BEFORE_SECONDS + fault.hold_seconds + 2 * HEALTHY_SECONDS
    wanted = samples.scripts(ground.spec, ground.roles)
    with (
        samples.sampling(ground.provider.endpoints(), wanted, recorder.samples.append),
        clients.running(
            ground.traffic if reads else replace(ground.traffic, readers=0),
            ground.uris,
            tell=recorder.attempts.append,
            allowed=_allowed(ground.provider),
            deadline=time.monotonic() + limit,
        ),
    ):
        _warm(recorder, {Kind.WRITE, Kind.READ} if reads else {Kind.WRITE})
        begin = time.monotonic()
        time.sleep(BEFORE_SECONDS)  # what it looks like when nothing is wrong
        _suffer(ground, fault, steps, recorder)
        wrong = _heal(ground, recorder)
        time.sleep(AFTER_SECONDS)  # and again
        end = time.monotonic()
    return recorder.history(begin, end, _stored(ground)), wrong


def _allowed(provider: Any) -> Callable[[], bool]:
    """May a client still connect? Not to the addresses of a lab that has gone."""
    path = getattr(getattr(provider, "layout", None), "namespace_path", None)
    return path.exists if path else lambda: True


def _warm(recorder: Recorder, wanted: Set[Kind]) -> None:
    """Wait until every kind of client has had an answer, and who is primary is known."""
    end = time.monotonic() + WARM_SECONDS
    while True:
        done = {a.kind for a in recorder.attempts if a.outcome is Outcome.ACK}
        watched = any("primary" in sample.words for sample in recorder.samples)
        if wanted <= done and watched:
            return
        if time.monotonic() > end:
            said = {a.said for a in recorder.attempts if a.said} or {"nobody says who is primary"}
            raise PghaError(
                f"clients of the drill get no answer: {'; '.join(sorted(said))}",
                do="See whether this machine may connect to the cluster: haproxy.clients.",
            )
        time.sleep(0.1)  # until the next look


def _suffer(ground: Ground, fault: Fault, steps: Sequence[Step], recorder: Recorder) -> None:
    targets = ", ".join(step.host for step in steps)
    ground.tell(targets, fault.doc)
    recorder.mark(Moment.INJECTED)
    with ground.injector.injected(steps):
        ground.tell("", f"watches for {fault.hold_seconds:g} s")
        time.sleep(fault.hold_seconds)  # the fault lasts
    recorder.mark(Moment.HEALED)


def _heal(ground: Ground, recorder: Recorder) -> Sequence[str]:
    """Wait until all is whole; what is still wrong after the limit."""
    ground.tell("", "waits until the cluster is whole")
    end = time.monotonic() + HEALTHY_SECONDS
    while wrong := ailments(ground.spec, ground.status()):
        if time.monotonic() > end:
            return wrong
        time.sleep(1)  # until the next look
    recorder.mark(Moment.HEALTHY)
    return ()


def _stored(ground: Ground) -> frozenset[int] | None:
    from psycopg import Error

    for _ in range(3):
        try:
            return clients.read_back(ground.uris["primary"])
        except Error as error:
            ground.tell("", f"cannot read back yet: {error}")
            time.sleep(2)  # before the next attempt
    return None


# ── the table ───────────────────────────────────────────────────────────────────────────────────
@contextmanager
def _table(ground: Ground, who: Scene) -> Iterator[None]:
    """A schema of our own in the first database, owned by the user whom the clients are."""
    from psycopg.conninfo import conninfo_to_dict

    said = conninfo_to_dict(ground.uris["primary"])
    user, database = identifier(str(said["user"])), str(said["dbname"])
    drop = f"DROP SCHEMA IF EXISTS {clients.SCHEMA} CASCADE;"
    _sql(ground, who.leader, database, f"{drop} {_create(user)}")
    try:
        yield
    finally:
        with undisturbed():
            _sql(ground, _leader(ground) or who.leader, database, drop)


def _create(user: str) -> str:
    return (
        f"CREATE SCHEMA {clients.SCHEMA} AUTHORIZATION {user};"
        f"CREATE TABLE {clients.TABLE} (number bigint PRIMARY KEY);"
        f"ALTER TABLE {clients.TABLE} OWNER TO {user};"
    )


def _leader(ground: Ground) -> str | None:
    leader: str | None = ground.status()["patroni"]["leader"]
    return leader


def _sql(ground: Ground, host: str, database: str, statements: str) -> None:
    server = Server(port=ground.spec.sections["postgresql"]["port"])
    quiet = "SET client_min_messages = 'warning';"
    script = f"{server.psql(database=database)} <<'PGHA_SQL'\n{quiet}{statements}\nPGHA_SQL"
    try:
        ground.injector.run(host, script)
    except TransportError as error:
        ground.tell(host, f"{clients.SCHEMA} is left behind: {error.what}")
