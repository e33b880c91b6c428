"""Taking over a cluster that somebody has set up by hand. Pure.

The one danger is two leaders: a Patroni that asks the old etcd and one that asks the new one do not
know of each other. So nothing of the new is started before everything of the old is stopped, and
the host that holds the lead starts first: in an etcd that knows nothing yet, whoever comes first
leads (Patroni docs, existing_data.rst). PostgreSQL itself runs on meanwhile: a Patroni that is
paused leaves it alone when it stops.

Interrupted anywhere, the same command goes on: what it finds says how far it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder import debian
from builder.operations.course import (
    Confirm,
    Converge,
    Course,
    Hear,
    On,
    OperationError,
    Preview,
    Target,
    Tell,
    Whole,
)
from builder.resources.base import quoted
from builder.resources.sql import literal
from builder.resources.steps import Await, Shell, Step
from roles.etcd.settings import CONFIG as ETCD_CONFIG
from roles.etcd.settings import members as etcd_members
from roles.patroni.ask import answers
from roles.patroni.contents import api, own_grants, own_passwords
from roles.patroni.settings import (
    REPLICATION,
    REWIND,
    SUPERUSER,
    data_directory,
    members,
    server,
)

KEPT = "/var/lib/pgha-build/before"
_UNDER_WAY = f"{KEPT}/adopting"
_LOOK_SECONDS = 30
_MARK = "Managed by pgha-build"
_STOP_SECONDS = 120

# One line per fact. The old configuration is the last word of the unit's command line.
_SURVEY = """\
data={data}
config=$(systemctl show -P ExecStart patroni.service 2>/dev/null \
| sed -n 's/.*argv\\[\\]=\\([^;]*[^; ]\\) *;.*/\\1/p' | awk '{{ print $NF }}')
[ -f "$config" ] || config=
echo "config $config"
[ ! -e {under_way} ] || echo "adopting yes"
systemctl -q is-active patroni.service && echo "patroni runs"
[ -z "$config" ] || ! grep -q '{mark}' "$config" || echo "ours yes"
[ -z "$config" ] || echo "scope $(sed -n 's/^scope: *["'\\'']*\\([^"'\\'' ]*\\).*/\\1/p' "$config")"
if [ -e "$data/PG_VERSION" ]; then
  echo "version $(cat "$data/PG_VERSION")"
  [ -e "$data/postgresql.conf" ] && echo "settings there"
  [ -e "$data/standby.signal" ] && echo "standby yes"
  echo "system $(LC_ALL=C {binaries}/pg_controldata -D "$data" 2>/dev/null \
| sed -n 's/^Database system identifier: *//p' | head -n 1)"
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
  [ -n "$pid" ] && [ -d "/proc/$pid" ] && echo "postgresql runs"
fi
exit 0
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found on a database host."""

    config: str = ""
    scope: str = ""
    version: str = ""
    system: str = ""
    ours: bool = False
    adopting: bool = False
    patroni_runs: bool = False
    postgresql_runs: bool = False
    standby: bool = False
    settings: bool = False

    @classmethod
    def read(cls, output: str) -> Found:
        said = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
        return cls(
            config=said.get("config", ""),
            scope=said.get("scope", ""),
            version=said.get("version", ""),
            system=said.get("system", ""),
            ours=said.get("ours") == "yes",
            adopting=said.get("adopting") == "yes",
            patroni_runs=said.get("patroni") == "runs",
            postgresql_runs=said.get("postgresql") == "runs",
            standby=said.get("standby") == "yes",
            settings=said.get("settings") == "there",
        )

    @property
    def leads(self) -> bool:
        return self.postgresql_runs and not self.standby


def adopt(target: Target) -> Course:
    """Let pgha-build run a cluster that was made by hand: same machines, same data."""
    hosts = [host.name for host in members(target.spec)]
    heard = yield Hear(
        label="looks at what was made by hand",
        scripts=dict.fromkeys(hosts, survey(data_directory(target.spec))),
        timeout_seconds=_LOOK_SECONDS,
    )
    found = {host: Found.read(said) for host, said in heard.items()}
    leader = _leader(target, found)
    old = [host for host in hosts if found[host].patroni_runs and not found[host].ours]
    yield Tell(lines=list(_summary(target, found, leader)))
    yield Preview()
    yield Confirm(
        question=f"Take over the cluster on {', '.join(hosts)}? {leader} stays the leader and no "
        "row is touched. Connections through the balancers end, and new ones wait until Patroni "
        "runs under the new etcd: less than a minute."
    )
    packages = [f"{h}/package:{p}" for h, names in target.packages.items() for p in names]
    yield Converge(why="packages that are missing, while all still runs", only=packages)
    if old:
        yield On(host=old[0], label="pauses Patroni, everywhere", steps=(_pause(found[old[0]]),))
    for host in sorted(old, key=lambda name: name == leader):
        stop = _stop_patroni(found[host], data_directory(target.spec))
        yield On(host=host, label="stops Patroni; PostgreSQL runs on", steps=(stop,))
    for host in (name for name in hosts if found[name].postgresql_runs):
        yield On(host=host, label="lets Patroni in", steps=_let_in(target))
    for member in etcd_members(target.spec):
        yield On(host=member.name, label="stops the etcd made by hand", steps=(_stop_etcd(),))
    yield Converge(why="etcd, anew and over TLS", only=("etcd",))
    if not _is_run_by_us(found[leader]):
        leads = f"{leader}/unit:patroni.service"
        yield Converge(why=f"{leader}, which leads", only=(leads,))
    yield On(host=leader, label="makes the roles that replicas need", steps=_roles(target, leader))
    if starting := [host for host in hosts if host != leader and not _is_run_by_us(found[host])]:
        units = [f"{host}/unit:patroni.service" for host in starting]
        yield Converge(why=f"what follows: {', '.join(starting)}", only=units)
    for host in hosts:
        yield On(host=host, label="reads all settings", steps=_reads(target))
    all_have_read = api(target.spec, target.secrets).everybody_has_read()
    yield On(host=leader, label="until all have read them", steps=(all_have_read,))
    yield Converge(why="everything else")
    yield Whole(timeout_seconds=600)
    for host in hosts:
        yield On(host=host, label="is adopted", steps=(Shell(script=f"rm -f {_UNDER_WAY}"),))


def _is_run_by_us(item: Found) -> bool:
    return item.ours and item.patroni_runs


def survey(data: str) -> str:
    """Shell that tells what runs on a database host, and whose it is."""
    return _SURVEY.format(
        data=quoted([data]),
        mark=_MARK,
        under_way=_UNDER_WAY,
        binaries=debian.postgresql_binaries("*"),
    )


def _leader(target: Target, found: Mapping[str, Found]) -> str:
    """Who holds the rows that count. Raises OperationError where that is not certain."""
    if all(_is_run_by_us(item) and not item.adopting for item in found.values()):
        raise OperationError(
            "this cluster is run by pgha-build already", do="pgha-build plan shows what differs."
        )
    where = data_directory(target.spec)
    leaders = [host for host, item in found.items() if item.leads]
    if not leaders:
        there = ", ".join(host for host, item in found.items() if item.version) or "no host"
        raise OperationError(
            f"nobody runs PostgreSQL as the leader on {where} ({there} has data there)",
            why="The one that leads must start first, so it has to be known.",
            do="Set postgresql.data_directory to where the data is, and have the old cluster run.",
        )
    if len(leaders) > 1:
        raise OperationError(
            f"{' and '.join(leaders)} both take writes",
            why="One of them holds rows that the other has not.",
            do="Decide which counts, and stop PostgreSQL and Patroni on the other.",
        )
    leader = leaders[0]
    for host, item in found.items():
        if reason := _misfit(target, item, found[leader]):
            raise OperationError(f"{host}: {reason[0]}", do=reason[1])
    return leader


def _misfit(target: Target, item: Found, leader: Found) -> tuple[str, str] | None:
    """Why a host's PostgreSQL cannot be taken over, and what helps."""
    version = str(target.spec.sections["postgresql"]["version"])
    if not item.version:
        return None  # a replica that is copied anew
    if item.version != version:
        return f"its data is of PostgreSQL {item.version}", "Set postgresql.version to that."
    if item.system != leader.system:
        return (
            f"its data is of another cluster (system {item.system or 'unknown'})",
            "Move that data directory away; the host becomes a new replica.",
        )
    if not item.settings:
        return (
            "its postgresql.conf is not in the data directory",
            "Debian's pg_createcluster keeps it in /etc/postgresql: copy its files there.",
        )
    return None


def _summary(target: Target, found: Mapping[str, Found], leader: str) -> Iterator[str]:
    yield f"Found, with its data in {data_directory(target.spec)}:"
    for host, item in found.items():
        if not item.version:
            yield f"  {host}: no data; it will be copied from {leader}"
            continue
        role = "leads" if host == leader else "replica" if item.postgresql_runs else "stopped"
        by = "of pgha-build" if item.ours else f"scope {item.scope}" if item.scope else "none"
        runs = "" if item.patroni_runs else ", not running"
        yield f"  {host}: PostgreSQL {item.version}, {role}; Patroni: {by}{runs}"


# ── the old ─────────────────────────────────────────────────────────────────────────────────────
def _pause(found: Found) -> Step:
    ctl = f"patronictl -c {quoted([found.config])}"
    paused = f"{ctl} show-config 2>/dev/null | grep -q '^pause: true'"
    return Shell(script=f"{paused} || {ctl} pause --wait", timeout_seconds=_STOP_SECONDS)


def _keep(*paths: str) -> str:
    """Shell: the old files are kept, each under its path, once."""
    return (
        f"install -d -m 0700 {KEPT}\n"
        f"for f in {quoted(paths)}; do\n"
        f'  [ ! -f "$f" ] || [ -e "{KEPT}$f" ] || install -D -m 0600 "$f" "{KEPT}$f"\n'
        "done\n"
    )


def _stop_patroni(found: Found, data: str) -> Step:
    """Its copy of the old settings in the data directory would count more than ours."""
    cached = f"{data}/patroni.dynamic.json"
    script = (
        _keep(found.config, cached)
        + f"touch {_UNDER_WAY}\n"
        + "systemctl stop patroni.service && systemctl disable -q patroni.service 2>/dev/null\n"
        + f"! systemctl -q is-active patroni.service && rm -f {quoted([cached])}"
    )
    return Shell(script=script, timeout_seconds=_STOP_SECONDS)


def _let_in(target: Target) -> Sequence[Step]:
    """Patroni asks a running PostgreSQL over its socket, before it writes a pg_hba.conf of ours."""
    data = data_directory(target.spec)
    try_it = f"{server(target.spec).psql()} -c 'SELECT 1' >/dev/null 2>&1"
    line = f"local all {SUPERUSER} peer"
    script = (
        f"{try_it} && exit 0\n"
        + _keep(f"{data}/pg_hba.conf")
        + f"sed -i '1i {line}' {quoted([f'{data}/pg_hba.conf'])}\n"
        + f"kill -HUP $(head -n 1 {quoted([f'{data}/postmaster.pid'])})"
    )
    enters = Await(
        what="PostgreSQL lets its own user in over the socket",
        condition=try_it,
        timeout_seconds=30,
    )
    return (Shell(script=script), enters)


def _stop_etcd() -> Step:
    """Its data stays where it is, and is no longer used."""
    script = (
        f"[ ! -e {ETCD_CONFIG}/etcd.env ] || exit 0\n"
        + _keep(debian.ETCD_DEFAULTS, "/etc/etcd/etcd.conf", "/etc/etcd/etcd.yml")
        + "systemctl stop etcd.service 2>/dev/null\n! systemctl -q is-active etcd.service"
    )
    return Shell(script=script, timeout_seconds=_STOP_SECONDS)


# ── the new ─────────────────────────────────────────────────────────────────────────────────────
def _roles(target: Target, leader: str) -> Sequence[Step]:
    """The plan makes roles once all replicas stream, and these are what they stream and rewind by:
    a leader that fails before the plan comes to them comes back all the same."""
    host = target.spec.hosts[leader]
    leads = Await(
        what="it leads", condition=answers(target.spec, host, "/primary"), timeout_seconds=120
    )
    flags = {REPLICATION: "LOGIN REPLICATION", REWIND: "LOGIN", SUPERUSER: "LOGIN SUPERUSER"}
    users = {user["name"]: "LOGIN" for user in target.spec.sections["postgresql"]["users"]}
    statements = "\n".join(_made(name, options) for name, options in (flags | users).items())
    make = server(target.spec).change(statements)
    grants = own_grants(target.spec, target.secrets)
    return (leads, make, grants, *own_passwords(target.spec, target.secrets))


def _reads(target: Target) -> Sequence[Step]:
    """On a replica that it found running, Patroni takes what is in force for what is wanted, until
    it is told to read (`load_current_server_parameters` in its postgresql/config.py). Until then
    PostgreSQL has no TLS there, and nobody can hand over to it: so all read before anything moves.
    """
    curl = api(target.spec, target.secrets).curl("/patroni")
    answers_now = f"{{ {curl}; }} 2>&1 | grep -q dcs_last_seen"
    return (
        # Before, the signal would end it.
        Await(what="Patroni answers", condition=answers_now, timeout_seconds=60),
        Shell(script="systemctl reload patroni.service"),
    )


def _made(name: str, options: str) -> str:
    return (
        f"DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(name)}) "
        f'THEN CREATE ROLE "{name}" WITH {options}; END IF; END$$;'
    )
