"""Answers of all hosts → findings, all at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from builder import advisories
from builder.preflight.finding import Finding, error, warning
from builder.preflight.questions import Answers, virtual_ip
from builder.role import Opening
from builder.spec.model import ClusterSpec

TESTED = {("debian", "13"), ("debian", "12")}
CLOCK_SECONDS = 2  # certificates and leases
FSYNC_MICROSECONDS = 10_000  # etcd docs, hardware: 99 % of syncs of its log within 10 ms
_TAKEN_OVER = {"etcd", "haproxy"}  # as Debian's package starts them: that unit becomes ours
MEMORY_MIB = {"patroni": 900, "etcd": 450, "haproxy": 200}
DISK_MIB = {"/var/lib/etcd": 2 * 1024}
DATA_MIB = 5 * 1024  # wherever PostgreSQL's is


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known when judging. `unreachable` says why; `ours` are hosts that carry this cluster
    already, whose ports and address are taken by it. `took_seconds` is how long the look at all of
    them took, within which each told its time."""

    spec: ClusterSpec
    answers: Mapping[str, Answers]
    openings: Mapping[str, Sequence[Opening]]
    unreachable: Mapping[str, str] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()
    took_seconds: float = 0


def judge(survey: Survey) -> list[Finding]:
    """Everything that the answers give away; what was not asked is not judged."""
    found = [error(host, why) for host, why in survey.unreachable.items()]
    for host, said in survey.answers.items():
        for rule in _RULES:
            found += rule(host, said, survey)
    for of_all in (_clocks, _doubles, _virtual, _routers):
        found += of_all(survey)
    return sorted(found, key=lambda f: (f.level, f.host, f.what))


# ── one host ────────────────────────────────────────────────────────────────────────────────────
def _login(host: str, said: Answers, _: Survey) -> Iterable[Finding]:
    if said.one("user") != "0":
        yield error(host, "we are not root there", "Log in as root, or let the user use sudo.")


def _system(host: str, said: Answers, _: Survey) -> Iterable[Finding]:
    name, _sep, version = said.one("os").partition(" ")
    if name not in {"debian", "ubuntu"}:
        yield error(host, f"runs {name} {version}", "pgha-build knows Debian's family only.")
    elif (name, version) not in TESTED:
        yield warning(host, f"runs {name} {version}, which nobody has tested")
    if said.one("init") != "systemd":
        yield error(host, f"its first process is {said.one('init')}, not systemd")
    if not said.all("python"):
        yield warning(
            host,
            "has no python3: its disks, ways between hosts, and VRRP were not tried",
            "apt-get install python3-minimal",
        )


def _address(host: str, said: Answers, survey: Survey) -> Iterable[Finding]:
    address = survey.spec.hosts[host].address
    if not said.all("interface"):
        yield error(
            host,
            f"{address} is on none of its interfaces",
            "Its services listen there: set the host's address in cluster.yml, or on the host.",
        )


def _memory(host: str, said: Answers, survey: Survey) -> Iterable[Finding]:
    needed = sum(MEMORY_MIB.get(role, 0) for role in survey.spec.hosts[host].roles)
    there = said.one("memory")
    if there.isdigit() and int(there) < needed:
        yield warning(host, f"has {there} MiB of memory; its roles want {needed} MiB")


def _disk(host: str, said: Answers, _: Survey) -> Iterable[Finding]:
    for line in said.all("disk"):
        path, _sep, free = line.partition(" ")
        little = DISK_MIB.get(path, DATA_MIB)
        if free.isdigit() and int(free) < little:
            yield warning(host, f"{path} has {free} MiB left; {little} MiB are little")
    for line in said.all("fsync"):
        path, _sep, took = line.partition(" ")
        if took.isdigit() and int(took) > FSYNC_MICROSECONDS:
            yield warning(
                host,
                f"one in a hundred synchronous writes to {path} takes {int(took) / 1000:.1f} ms",
                "Every commit waits for that: a faster disk, or one that nobody else uses."
                if path not in DISK_MIB
                else "Over 10 ms, etcd loses its leader under load: a faster disk, or `failover: "
                "{preset: slow}`.",
            )


def _packages(host: str, said: Answers, survey: Survey) -> Iterable[Finding]:
    """apt says nothing of a name that it has never heard."""
    found = dict(line.split(": ", 1) for line in said.all("candidate") if ": " in line)
    known = {name: version for name, version in found.items() if version not in {"", "(none)"}}
    if missing := [name for name in said.all("wanted") if name not in known]:
        what = f"apt knows no package {', '.join(missing)}"
        if survey.spec.sections["packages"]["sources"]:
            yield warning(host, f"{what}: packages.sources may have them, and are not there yet")
        else:
            yield error(host, what, "apt-get update; or name a repository in packages.sources.")
    for name, version in known.items():
        for flaw in advisories.package(name, version):
            yield warning(
                host, f"apt would install {name} {version}: {flaw}", "apt-get update, or a mirror."
            )


def _foreign(host: str, said: Answers, _: Survey) -> Iterable[Finding]:
    if said.all("patroni"):
        yield error(
            host,
            "a Patroni runs here that was not set up by pgha-build",
            "Take its cluster over (pgha-build ops adopt), or stop and disable it.",
        )
    for line in said.all("foreign"):
        name, _sep, file = line.partition(" ")
        yield error(
            host,
            f"{name} runs here with a configuration of its own, {file}",
            "An apply would replace it: stop and disable it, or choose another host.",
        )
    for unit in said.all("firewall"):
        yield warning(
            host,
            f"{unit} is active",
            "It must let the cluster's ports through; ours only closes them to strangers.",
        )


def _unattended(host: str, said: Answers, _: Survey) -> Iterable[Finding]:
    """Upgrades at six in the morning have moved many a leader."""
    if "reboots" in said.all("unattended"):
        yield warning(
            host,
            "unattended-upgrades reboots it by itself",
            'Set Unattended-Upgrade::Automatic-Reboot "false", and reboot one host at a time.',
        )
    elif said.all("unattended"):
        yield warning(
            host,
            "unattended-upgrades is on",
            "After an apply it leaves the cluster's packages alone, not the libraries under them.",
        )


def _ports(host: str, said: Answers, survey: Survey) -> Iterator[Finding]:
    if host in survey.ours:
        return
    taken = {}
    for line in said.all("listens"):
        where, _sep, who = line.partition(" ")
        address, _, port = where.rpartition(":")
        taken[address.strip("[]"), port] = who.partition('"')[2].partition('"')[0] or "somebody"
    wildcards = ("0.0.0.0", "*", "::")  # noqa: S104
    for opening in (o for o in survey.openings[host] if o.protocol == "tcp"):
        own = (opening.address, survey.spec.hosts[host].address, "127.0.0.1", *wildcards)
        who = next(
            (taken[a, str(opening.port)] for a in own if (a, str(opening.port)) in taken), ""
        )
        if who and who not in _TAKEN_OVER:
            yield error(
                host,
                f"port {opening.port} ({opening.what}) is taken by {who}",
                "Stop and disable it, or set another port in cluster.yml.",
            )


def _watchdog(host: str, said: Answers, survey: Survey) -> Iterator[Finding]:
    """Debian keeps the drivers from loading: before the first apply a device may not be there yet.

    Patroni without a watchdog that is required does not lead, and gives up the lead that it has.
    """
    wanted = survey.spec.sections.get("patroni", {}).get("watchdog")
    if wanted != "required" or "patroni" not in survey.spec.hosts[host].roles:
        return
    if "missing" in said.all("watchdog"):
        yield error(
            host,
            "has no /dev/watchdog, and patroni.watchdog is required: it could not lead",
            "Load its driver (modprobe), or set patroni.watchdog to automatic.",
        )
    elif not said.all("watchdog"):
        yield warning(
            host,
            "has no /dev/watchdog yet, and patroni.watchdog is required",
            "apply looks for its driver, and stops before Patroni is told where there is none.",
        )


_RULES = (
    _login,
    _system,
    _address,
    _memory,
    _disk,
    _packages,
    _foreign,
    _unattended,
    _ports,
    _watchdog,
)


# ── all hosts together ──────────────────────────────────────────────────────────────────────────
def _clocks(survey: Survey) -> Iterator[Finding]:
    clocks = {h: int(a.one("clock")) for h, a in survey.answers.items() if a.one("clock").isdigit()}
    if not clocks:
        return
    middle = median(clocks.values())
    for host, clock in clocks.items():
        if abs(clock - middle) > CLOCK_SECONDS + survey.took_seconds:
            yield error(
                host,
                f"its clock is {abs(clock - middle):.0f} s off the others'",
                "Certificates would not be valid yet, or no more: synchronise the time first.",
            )
        elif survey.answers[host].one("synchronised") == "no" and not _ours_to_set(survey):
            yield warning(host, "its clock is not synchronised")


def _ours_to_set(survey: Survey) -> bool:
    """Whether the clocks will be synchronised by the first apply."""
    return bool(survey.spec.sections["system"]["time"] == "chrony")


def _doubles(survey: Survey) -> Iterator[Finding]:
    for word, what in (("machine", "machine id"), ("hostname", "host name")):
        seen: dict[str, str] = {}
        for host, said in survey.answers.items():
            value = said.one(word)
            other = seen.setdefault(value, host) if value else host
            if other != host:
                yield error(
                    host,
                    f"has the {what} of {other}: {value}",
                    "Copied machines: rm /etc/machine-id; systemd-machine-id-setup; reboot."
                    if word == "machine"
                    else "hostnamectl hostname NAME",
                )


def _virtual(survey: Survey) -> Iterator[Finding]:
    address = virtual_ip(survey.spec)
    holders = [h for h, said in survey.answers.items() if said.all("virtual-here")]
    strangers = [h for h in holders if h not in survey.ours]
    yield from (error(host, f"has the virtual IP {address} already") for host in strangers)
    answering = [h for h, said in survey.answers.items() if said.all("virtual")]
    if answering and not holders:
        yield error(
            "",
            f"somebody else answers at the virtual IP {address}",
            "Choose an address that nobody has.",
        )


def _routers(survey: Survey) -> Iterator[Finding]:
    own = survey.spec.sections.get("keepalived", {}).get("router_id")
    ours = {survey.spec.hosts[host].address for host in survey.spec.hosts}
    seen = {tuple(line.split()) for said in survey.answers.values() for line in said.all("router")}
    for router, source in sorted(seen):
        if router == str(own) and source not in ours:
            yield error(
                "",
                f"{source} announces virtual router {router} in this network",
                "Set keepalived.router_id to a number that nobody uses.",
            )
