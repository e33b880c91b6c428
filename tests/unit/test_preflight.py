"""The preflight: answers of hosts in, findings out; each kind of trouble is seen, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder import registry
from builder.engine.desired import listening
from builder.preflight.facts import facts, rows
from builder.preflight.finding import Level
from builder.preflight.judge import Survey, judge
from builder.preflight.links import Link, blocked, links
from builder.preflight.questions import read
from builder.spec.read import read_spec

SPEC = """
name: orders
hosts:
  etcd1: {address: 10.0.0.11, roles: [etcd]}
  pg1: {address: 10.0.0.21, roles: [patroni]}
  lb1: {address: 10.0.0.31, roles: [haproxy, keepalived]}
keepalived: {virtual_ip: 10.0.0.100/24, router_id: 51}
"""
GOOD = """\
user 0
os debian 13
init systemd
clock 1000
synchronised yes
hostname {host}
machine {host}-id
memory 8000
listens 0.0.0.0:22 users:(("sshd",pid=1,fd=3))
python yes
interface eth0
disk /var/lib/etcd 90000
fsync /var/lib/etcd 900
wanted curl
candidate curl: 8.14
"""


@pytest.fixture
def survey_of(tmp_path: Path) -> Callable[..., Survey]:
    file = tmp_path / "cluster.yml"
    file.write_text(SPEC)
    spec = read_spec(file)

    def make(ours: frozenset[str] = frozenset(), **changed: Callable[[str], str]) -> Survey:
        texts = {host: GOOD.format(host=host) for host in spec.hosts}
        texts |= {host: change(texts[host]) for host, change in changed.items()}
        return Survey(
            spec=spec,
            answers={host: read(text) for host, text in texts.items()},
            openings={h.name: listening(spec, registry.roles(), h) for h in spec.hosts.values()},
            ours=ours,
        )

    return make


def said(survey: Survey) -> list[tuple[str, str, str]]:
    return [(f.level, f.host, f.what) for f in judge(survey)]


def test_hosts_that_are_well_give_no_finding(survey_of: Callable[..., Survey]) -> None:
    assert said(survey_of()) == []


TROUBLE = [
    ("user 0", "user 1000", "error", "we are not root there"),
    ("os debian 13", "os fedora 44", "error", "runs fedora 44"),
    ("os debian 13", "os ubuntu 26.04", "warning", "runs ubuntu 26.04, which nobody has tested"),
    ("init systemd", "init sh", "error", "its first process is sh, not systemd"),
    ("clock 1000", "clock 1060", "error", "its clock is 60 s off the others'"),
    ("python yes", "python yes\npatroni foreign", "error", "was not set up by pgha-build"),
    ("hostname pg1", "hostname etcd1", "error", "has the host name of etcd1: etcd1"),
    ("machine pg1-id", "machine etcd1-id", "error", "has the machine id of etcd1: etcd1-id"),
    ("memory 8000", "memory 300", "warning", "has 300 MiB of memory; its roles want 900 MiB"),
    ("interface eth0\n", "", "error", "10.0.0.21 is on none of its interfaces"),
    ("python yes\n", "", "warning", "has no python3"),
    (
        "fsync /var/lib/etcd 900",
        "fsync /var/lib/etcd 25000",
        "warning",
        "/var/lib/etcd takes 25.0 ms",
    ),
    ("disk /var/lib/etcd 90000", "disk /var/lib/etcd 100", "warning", "has 100 MiB left"),
    ("curl: 8.14", "curl: (none)", "error", "apt knows no package curl"),
    ("candidate curl: 8.14\n", "", "error", "apt knows no package curl"),
    (
        "python yes",
        "python yes\nforeign haproxy /etc/haproxy.cfg",
        "error",
        "haproxy runs here with",
    ),
    ("python yes", "python yes\nfirewall ufw", "warning", "ufw is active"),
    ("python yes", "python yes\nunattended upgrades", "warning", "unattended-upgrades is on"),
    ("python yes", "unattended upgrades\nunattended reboots\npython yes", "warning", "reboots it"),
    ("python yes", "python yes\nvirtual-here eth0", "error", "has the virtual IP 10.0.0.100"),
    ("0.0.0.0:22", "*:5432", "error", "port 5432 (PostgreSQL) is taken by sshd"),
]


@pytest.mark.parametrize(("good", "bad", "level", "what"), TROUBLE, ids=[t[1] for t in TROUBLE])
def test_each_trouble_is_seen_where_it_is_and_no_other(
    survey_of: Callable[..., Survey], good: str, bad: str, level: str, what: str
) -> None:
    survey = survey_of(pg1=lambda text: text.replace(good, bad))
    assert survey.answers["pg1"] != survey_of().answers["pg1"]
    ((found, host, text),) = said(survey)
    assert (found, host) == (level, "pg1")
    assert what in text


def test_an_unreachable_host_is_an_error_of_its_own(survey_of: Callable[..., Survey]) -> None:
    survey = replace(survey_of(), unreachable={"pg1": "no route to host"})
    assert said(survey) == [("error", "pg1", "no route to host")]


def test_slow_hosts_that_tell_their_time_one_after_another_are_not_adrift(
    survey_of: Callable[..., Survey],
) -> None:
    survey = survey_of(pg1=lambda text: text.replace("clock 1000", "clock 1006"))
    assert said(survey)
    assert said(replace(survey, took_seconds=8)) == []


def test_a_clock_matters_where_nobody_will_set_it(survey_of: Callable[..., Survey]) -> None:
    adrift = survey_of(pg1=lambda text: text.replace("synchronised yes", "synchronised no"))
    assert said(adrift) == []
    sections = {**adrift.spec.sections, "system": {"time": "other"}}
    adrift = replace(adrift, spec=replace(adrift.spec, sections=sections))
    assert said(adrift) == [("warning", "pg1", "its clock is not synchronised")]


@pytest.mark.parametrize(
    ("answer", "level"), [("there", None), ("missing", "error"), (None, "warning")]
)
def test_a_watchdog_that_is_required_has_to_be_there(
    survey_of: Callable[..., Survey], answer: str | None, level: str | None
) -> None:
    survey = survey_of(pg1=lambda text: f"{text}watchdog {answer}\n" if answer else text)
    assert said(survey) == []
    sections = {**survey.spec.sections, "patroni": {"watchdog": "required", "rest_port": 8008}}
    survey = replace(survey, spec=replace(survey.spec, sections=sections))
    assert [(found, host) for found, host, _ in said(survey)] == [(level, "pg1")] * bool(level)


def test_what_the_cluster_itself_holds_is_no_trouble(survey_of: Callable[..., Survey]) -> None:
    ours = frozenset({"pg1", "lb1"})
    busy = survey_of(
        ours,
        pg1=lambda text: f"{text}listens 0.0.0.0:5432 postgres\n",
        lb1=lambda text: f"{text}virtual-here eth0\nvirtual answers\nrouter 51 10.0.0.31\n",
    )
    assert said(busy) == []


def test_somebody_elses_address_and_router_id_are_seen(survey_of: Callable[..., Survey]) -> None:
    found = said(survey_of(lb1=lambda text: f"{text}virtual answers\nrouter 51 10.0.0.7\n"))
    assert [(level, host) for level, host, _ in found] == [("error", ""), ("error", "")]
    assert "10.0.0.7 announces virtual router 51" in found[0][2]
    assert "somebody else answers at the virtual IP 10.0.0.100" in found[1][2]


def test_every_way_that_a_role_needs_is_tried_and_a_closed_one_is_named(
    survey_of: Callable[..., Survey],
) -> None:
    survey = survey_of()
    wanted = list(links(survey.spec, survey.openings))
    assert {(w.source, w.target, w.port) for w in wanted} >= {
        ("pg1", "etcd1", 2379),
        ("lb1", "pg1", 8008),
        ("lb1", "pg1", 5432),
    }
    link = Link(
        source="pg1",
        own="10.0.0.21",
        target="etcd1",
        address="10.0.0.11",
        port=2379,
        what="etcd clients",
    )
    (finding,) = blocked([link], "blocked 10.0.0.11:2379 timed out\n")
    assert (finding.level, finding.host) == (Level.ERROR, "pg1")
    assert "does not reach etcd1 at port 2379 (etcd clients): timed out" in finding.what


def test_what_hosts_are_is_a_line_each_and_what_they_did_not_tell_is_a_question_mark(
    survey_of: Callable[..., Survey],
) -> None:
    survey = survey_of(pg1=lambda text: text.partition("memory")[0])
    head, etcd1, pg1, _ = rows(survey.answers)
    assert head.split()[:4] == ["host", "system", "interface", "memory"]
    assert etcd1.split()[:6] == ["etcd1", "debian", "13", "eth0", "7.8", "GiB"]
    assert "/var/lib/etcd: 87.9 GiB, 0.9 ms" in etcd1
    assert pg1.split() == ["pg1", "debian", "13", "?", "?", "in", "sync"]
    assert facts(survey.answers["etcd1"]) == {
        "system": "debian 13",
        "interface": "eth0",
        "memory_mib": 8000,
        "clock_synchronised": True,
        "data": [{"path": "/var/lib/etcd", "free_mib": 90000, "write_ms": 0.9}],
    }
