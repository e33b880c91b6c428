"""Membership of etcd: founding a cluster, joining one, and leaving it. Pure.

A member that lost its data must not come back under its old identity: it would vote again on what
it has already promised (etcd docs, failures). So a host without data joins as a new member, and its
old entry is removed first. Only where no host of the spec has any data is a cluster founded; a
founding that reached too few hosts for a leader is done anew: nobody can have written to it.
etcd itself refuses what would cost quorum (`strict-reconfig-check`), and then we wait and try
again: members therefore join one by one. Data that the cluster has no use for is set aside, and the
host joins: of a member that was removed, and of one that began anew under an old identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from builder.errors import PlanError
from builder.resources.base import (
    Absent,
    Action,
    Change,
    Observed,
    Present,
    Resource,
    Unknown,
    quoted,
)
from builder.resources.steps import Await, Put, Shell, Step
from builder.spec.model import ClusterSpec
from roles.etcd.client import etcdctl
from roles.etcd.settings import BOOTSTRAP, DATA, FOUNDING, USER

_JOIN_SECONDS = 120
_WORDS = "grep -v '^[[:punct:]]' | tail -n 2"  # etcdctl logs in JSON beside its words


@dataclass(frozen=True, kw_only=True)
class EtcdMember(Resource):
    """A host's membership; `name` is the member's. `peers` are all members as name=URL.

    `founding` is decided with all hosts in view (`founders`). `others` are the other members'
    client endpoints, asked when joining.
    """

    kind: ClassVar[str] = "etcd_member"
    THERE: ClassVar[str] = "there"
    REMOVED: ClassVar[str] = "of a member that was removed"
    LOST: ClassVar[str] = "lost, and begun anew"
    UNBORN: ClassVar[str] = "of a founding that never came to a leader"

    url: str = ""
    peers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    cluster: str = ""
    founding: bool = False

    def attributes(self) -> Mapping[str, object]:
        return {"data": self.THERE}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        """Of a member that is not healthy, the others know whether its data is of any use.

        Where none of them has a quorum, it is kept.
        """
        own = wanted[0]
        if not own.others:  # alone, or on its way out
            return f"[ -d {DATA}/member ] && echo there || echo absent"
        here = f"https://127.0.0.1:{own.others[0].rpartition(':')[2]}"
        health = f"{etcdctl(here)} --command-timeout=3s endpoint health"
        name, url = quoted([own.name]), quoted([own.url])
        return (
            f"if [ ! -d {DATA}/member ]; then echo absent\n"
            f"elif {health} >/dev/null 2>&1; then echo there\n"
            f"elif list=$({own._asked(3)} member list -w simple 2>/dev/null); then\n"
            f"  wal=; [ ! -e {DATA}/member/wal ] || wal=there\n"
            f"  printf '%s\\n' \"$list\" | awk -F', ' -v name={name} -v url={url} -v wal=\"$wal\" "
            f"{quoted([_JUDGED])}\n"
            f"elif [ -e {FOUNDING} ]; then echo unborn\n"
            "else echo there; fi"
        )

    def _asked(self, seconds: int) -> str:
        endpoints = ",".join(f"https://{other}" for other in self.others)
        return f"{etcdctl(endpoints)} --command-timeout={seconds}s"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        answers: Mapping[str, Observed] = {
            "there": Present(attributes={"data": cls.THERE}),
            "removed": Present(attributes={"data": cls.REMOVED}),
            "lost": Present(attributes={"data": cls.LOST}),
            "unborn": Present(attributes={"data": cls.UNBORN}),
            "absent": Absent(),
        }
        said = answers.get(output.strip(), Unknown("the probe said nothing about it"))
        return {member.name: said for member in wanted}

    def differs(self, attribute: str, desired: object, observed: object) -> bool:
        """A founding has done its part where the data is; a leader may need the other hosts."""
        return desired != observed and not (self.founding and observed == self.UNBORN)

    def steps(self, change: Change) -> Sequence[Step]:
        directory = f"install -d -m 0700 -o {USER} -g {USER} {DATA} {DATA}/member"
        stop = "systemctl stop etcd.service 2>/dev/null || :\n"
        if self.founding:
            found = self._bootstrap("new", ",".join(self.peers))
            begun = 'echo "etcd has come to a leader meanwhile: plan again"; exit 1'
            unborn = f"[ ! -e {DATA}/member ] || [ -e {FOUNDING} ] || {{ {begun}; }}\n"
            marked = f"install -m 0600 -o {USER} -g {USER} /dev/null {FOUNDING}\n"
            bare = Shell(script=f"{unborn}{stop}rm -rf {DATA}")
            return (bare, found, Shell(script=f"{marked}{directory}"))
        aside = f"{stop}[ ! -e {DATA} ] || {{ rm -rf {DATA}.old && mv {DATA} {DATA}.old; }}\n"
        joined = "the cluster takes it as a new member"
        join = f"{self._join()}{directory}"  # at once: who is on the list must be able to start
        return (
            Shell(script=f"{aside}rm -f {FOUNDING}"),
            Await(what=joined, condition=join, timeout_seconds=_JOIN_SECONDS),
        )

    def _bootstrap(self, state: str, peers: str) -> Put:
        text = _BOOTSTRAP.format(peers=peers, token=self.cluster, state=state)
        return Put(path=BOOTSTRAP, content=text.encode())

    def _join(self) -> str:
        """Shell: drop what is left of us, be added, and write down what etcd needs to start."""
        ctl = self._asked(5)
        text = _BOOTSTRAP.format(peers="$peers", token=self.cluster, state="existing")
        name, url = quoted([self.name]), quoted([self.url])
        return (
            f'list=$({ctl} member list -w simple 2>&1) || {{ echo "$list" | {_WORDS}; exit 1; }}\n'
            "old=$(printf '%s\\n' \"$list\" | awk -F', ' "
            f"-v name={name} -v url={url} '$3 == name || $4 == url {{ print $1 }}')\n"
            f"for id in $old; do {ctl} member remove $id 2>&1 | {_WORDS}; done\n"
            f"added=$({ctl} member add {name} --peer-urls={url} 2>&1) "
            f'|| {{ echo "$added" | {_WORDS}; exit 1; }}\n'
            "peers=$(printf '%s\\n' \"$added\" "
            "| sed -n 's/^ETCD_INITIAL_CLUSTER=\"\\(.*\\)\"$/\\1/p')\n"
            f"cat >{BOOTSTRAP} <<END\n{text}END\n"
        )

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)

    def removal(self) -> Sequence[Step]:
        """The data of a member that has left is of no use to anybody, and harmful to one."""
        return (Shell(script=f"rm -rf {DATA} {FOUNDING}"),)


# Its row: who has no client URL has never run, and is about to join or to be founded.
_JUDGED = """\
$3 == name || $4 == url { row = $5 == "" ? "new" : "ran" }
END { print row == "" ? "removed" : row == "ran" && !wal ? "lost" : "there" }"""

_BOOTSTRAP = """\
# Managed by pgha-build. Read by etcd until its data directory exists, and never again.
ETCD_INITIAL_CLUSTER={peers}
ETCD_INITIAL_CLUSTER_TOKEN={token}
ETCD_INITIAL_CLUSTER_STATE={state}
"""


def founders(spec: ClusterSpec, changes: Mapping[str, Change]) -> Mapping[str, Change]:
    """Found a cluster only where every member of the spec was looked at, and no data counts."""
    members = {a: c for a, c in changes.items() if isinstance(c.resource, EtcdMember)}
    new = {a: c for a, c in members.items() if c.action is Action.CREATE or _unborn(c)}
    if not new or any(isinstance(c.observed, Present) and not _unborn(c) for c in members.values()):
        return {}
    if silent := [c.resource.hosts[0] for c in members.values() if c not in new.values()]:
        raise PlanError(
            f"etcd of {spec.name} cannot be founded: {', '.join(silent)} could not be looked at",
            why="If a host has data already, a second cluster would be born beside the first.",
            do="Bring the host up, or take it out of cluster.yml.",
        )
    return {
        address: replace(change, resource=replace(change.resource, founding=True))
        for address, change in new.items()
        if isinstance(change.resource, EtcdMember)
    }


def _unborn(change: Change) -> bool:
    seen = change.observed
    return isinstance(seen, Present) and seen.attributes["data"] == EtcdMember.UNBORN


def guard(_: ClusterSpec, changes: Mapping[str, Change]) -> None:
    """Some member that has the data must stay: who joins gets it from there. Raises PlanError.

    With all of them gone, a second cluster would be founded, which knows neither who leads nor the
    settings of PostgreSQL.
    """
    there = [
        change
        for change in changes.values()
        if isinstance(change.resource, EtcdMember)
        and isinstance(change.observed, Present)
        and change.observed.attributes["data"] == EtcdMember.THERE
    ]
    leaving = [c.resource.hosts[0] for c in there if c.action is Action.DELETE]
    if leaving and len(leaving) == len(there):
        raise PlanError(
            f"every etcd member that has the data would leave at once: {', '.join(leaving)}",
            why="New members get it from those that are there; alone, they would be another, empty "
            "etcd. A host that cannot be looked at does not count.",
            do=f"Let {leaving[0]} stay beside the new ones (an odd number in all), apply, and take "
            "it out after that.",
        )


@dataclass(frozen=True, kw_only=True)
class EtcdMembers(Resource):
    """The member list as a whole: nobody is in it whom the spec does not name."""

    kind: ClassVar[str] = "etcd_members"
    late: ClassVar[bool] = True

    names: tuple[str, ...] = ()
    port: int = 2379

    def attributes(self) -> Mapping[str, object]:
        return {"strangers": ()}

    @classmethod
    def probe(cls, wanted: Sequence[Self]) -> str:
        return (
            f"if [ -d {DATA}/member ]; then {wanted[0]._ctl('member list -w simple')} 2>&1; "
            "else echo absent; fi"
        )

    def _ctl(self, command: str) -> str:
        return f"{etcdctl(f'https://127.0.0.1:{self.port}')} --command-timeout=4s {command}"

    @classmethod
    def parse(cls, wanted: Sequence[Self], output: str) -> Mapping[str, Observed]:
        return {item.name: item._observed(output) for item in wanted}

    def _observed(self, output: str) -> Observed:
        if output.strip() == "absent":
            return Absent(elsewhere=True)
        rows = [line.split(", ") for line in output.splitlines()]
        if not rows or any(len(row) < 5 for row in rows):
            return Unknown(f"etcd does not answer: {output.strip()[:160]}")
        # A member that was added and has not started yet has no name.
        strangers = tuple(sorted(row[2] for row in rows if row[2] and row[2] not in self.names))
        return Present(attributes={"strangers": strangers})

    def steps(self, change: Change) -> Sequence[Step]:
        found = change.attributes[0].before if isinstance(change.observed, Present) else ()
        return [self._remove(name) for name in found or ()]

    def _remove(self, name: str) -> Step:
        ctl = self._ctl("member")
        only = f"awk -F', ' -v name={quoted([name])} '$3 == name {{ print $1 }}'"
        return Await(
            what=f"{name} has left",
            condition=f'id=$({ctl} list -w simple | {only}); [ -z "$id" ] || {ctl} remove $id',
            timeout_seconds=60,
        )

    @classmethod
    def revive(cls, hosts: tuple[str, ...], name: str, recalled: Mapping[str, str]) -> Self:
        return cls(hosts=hosts, name=name)
