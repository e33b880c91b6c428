"""Taking over a cluster that somebody has set up by hand. Pure.

The one danger is two leaders: a Patroni that asks the old etcd and one that asks the new one do not
know of each other. So nothing of the new is started before everything of the old is stopped, and
the host that holds the lead starts first: in an etcd that knows nothing yet, whoever comes first
leads (Patroni docs, existing_data.rst). PostgreSQL itself runs on meanwhile: a Patroni that is
paused leaves it alone when it stops.

Interrupted anywhere, the same command goes on: what it finds says how far it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder import debian
from builder.operations.course import (
    Confirm,
    Converge,
    Course,
    Hear,
    On,
    Preview,
    Target,
    Tell,
    Whole,
)
from builder.resources.base import quoted
from builder.resources.sql import identifier, literal
from builder.resources.steps import Await, Shell, Step
from roles.etcd.settings import CONFIG as ETCD_CONFIG
from roles.etcd.settings import members as etcd_members
from roles.patroni.ask import answers
from roles.patroni.check import CHECK, asked_first
from roles.patroni.contents import api, own_grants, own_passwords
from roles.patroni.settings import (
    REPLICATION,
    REWIND,
    SUPERUSER,
    data_directory,
    members,
    server,
)
from roles.patroni.survey import KEPT, UNDER_WAY, Found, find_leader, summary, survey

_LOOK_SECONDS = 30
_STOP_SECONDS = 120


def adopt(target: Target) -> Course:
    """Let pgha-build run a cluster that was made by hand: same machines, same data."""
    hosts = [host.name for host in members(target.spec)]
    heard = yield Hear(
        label="looks at what was made by hand",
        scripts=dict.fromkeys(hosts, survey(data_directory(target.spec))),
        timeout_seconds=_LOOK_SECONDS,
    )
    found = {host: Found.read(heard[host]) for host in hosts}
    leader = find_leader(target.spec, found)
    yield Tell(lines=list(summary(target.spec, found, leader)))
    yield Preview()
    yield Confirm(
        question=f"Take over the cluster on {', '.join(hosts)}? {leader} stays the leader and no "
        "row is touched. Connections through the balancers end, and new ones wait until Patroni "
        "runs under the new etcd: less than a minute."
    )
    packages = [f"{h}/package:{p}" for h, names in target.packages.items() for p in names]
    checks = [f"{host}/file:{CHECK}" for host in hosts]
    yield Converge(why="packages that are missing, while all still runs", only=packages + checks)
    yield from asked_first(target.spec)
    yield from _stop_the_old(target, found, leader)
    yield from _start_the_new(target, found, leader)
    yield Converge(why="everything else")
    yield Whole(timeout_seconds=600)
    for host in hosts:
        yield On(host=host, label="is adopted", steps=(Shell(script=f"rm -f {UNDER_WAY}"),))


# ── the old ─────────────────────────────────────────────────────────────────────────────────────
def _stop_the_old(target: Target, found: Mapping[str, Found], leader: str) -> Course:
    old = [host for host, item in found.items() if item.patroni_runs and not item.ours]
    if old:
        yield On(host=old[0], label="pauses Patroni, everywhere", steps=(_pause(found[old[0]]),))
    for host in sorted(old, key=lambda name: name == leader):
        stop = _stop_patroni(found[host], data_directory(target.spec))
        yield On(host=host, label="stops Patroni; PostgreSQL runs on", steps=(stop,))
    for host in (name for name, item in found.items() if item.postgresql_runs):
        yield On(host=host, label="lets Patroni in", steps=_let_in(target))
    for member in etcd_members(target.spec):
        yield On(host=member.name, label="stops the etcd made by hand", steps=(_stop_etcd(),))


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
        + f"touch {UNDER_WAY}\n"
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
def _start_the_new(target: Target, found: Mapping[str, Found], leader: str) -> Course:
    yield Converge(why="etcd, anew and over TLS", only=("etcd",))
    if not found[leader].run_by_us:
        yield Converge(why=f"{leader}, which leads", only=_patroni_on([leader]))
    yield On(host=leader, label="makes the roles that replicas need", steps=_roles(target, leader))
    others = [host for host, item in found.items() if host != leader and not item.run_by_us]
    if others:
        yield Converge(why=f"what follows: {', '.join(others)}", only=_patroni_on(others))
    for host in found:
        yield On(host=host, label="reads all settings", steps=_reads(target))
    all_have_read = api(target.spec, target.secrets).everybody_has_read()
    yield On(host=leader, label="until all have read them", steps=(all_have_read,))


def _patroni_on(hosts: Sequence[str]) -> Sequence[str]:
    return [f"{host}/unit:patroni.service" for host in hosts]


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
        f"THEN CREATE ROLE {identifier(name)} WITH {options}; END IF; END$$;"
    )
