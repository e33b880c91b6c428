"""Labs for tests: made on demand, always taken down, and those of killed runs cleared first.

A lab's name carries the process that made it (pid and start time), so a later run knows which labs
have lost theirs. Names and networks differ per run: several runs may share a machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.drill import clients, judge
from builder.drill.history import Attempt, History, Kind, Outcome
from builder.errors import MachineError
from builder.machines.lab.layout import NETWORK_RECORD, STATE
from builder.machines.lab.locks import locked
from builder.machines.lab.provider import LabProvider
from builder.machines.lab.requirements import refuse_if_unable, this_machine
from builder.spec.model import ClusterSpec, Host, Machines
from builder.spec.read import read_spec

PREFIX = "pt"
NUMBERS = count()
COMMAND = Path(sys.executable).with_name("pgha-build")
FEW = clients.Traffic(writers=3, fresh_writers=1, fresh_readers=0)  # two runs share the machine
SpecMaker = Callable[..., ClusterSpec]
LabMaker = Callable[[ClusterSpec], LabProvider]


# They take longest, so two halves of a run that begin with them end at about the same time.
LONGEST = (
    "test_cluster_operations",
    "test_drill",
    "test_cluster_changes",
    "test_cluster_shapes",
    "test_adopt",
    "test_terraform",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files whose tests share a cluster come first, and of those the longest."""
    sharing = {item.path for item in items if _shares(item)}
    ranks = {stem: rank for rank, stem in enumerate(LONGEST)}
    items.sort(key=lambda i: (i.path not in sharing, ranks.get(i.path.stem, 9), i.path.stem))


def _shares(item: pytest.Item) -> bool:
    return "seven" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="module", autouse=True)
def nothing_idles(request: pytest.FixtureRequest, shared: list[Cluster]) -> None:
    """Seven idle hosts cost a third of a core: they go where this file does not share them."""
    here = [item for item in request.session.items if item.path == request.path]
    if not any(_shares(item) for item in here):
        while shared:
            shared.pop().run("destroy", "--yes")


def silent(host: str, what: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="session")
def able() -> None:
    """This machine can run labs; else the test is skipped, saying what is missing."""
    try:
        refuse_if_unable(this_machine())
    except MachineError as error:
        pytest.skip(str(error))
    with locked(Path(__file__).parent):  # of the other half of this run
        _clear_leftovers()


@pytest.fixture(scope="session")
def fresh_spec(able: None) -> SpecMaker:
    """Makes a spec with the given hosts, and a name and a network that nobody else has."""

    def make(hosts: Sequence[str] = ("h1", "h2"), **settings: object) -> ClusterSpec:
        number = next(NUMBERS)
        network = _free_network(number)
        addresses = [str(network[11 + index]) for index in range(len(hosts))]
        return ClusterSpec(
            name=_own_name(number),
            machines=Machines(provider="lab", settings=settings),
            hosts={
                name: Host(name=name, address=address, roles=())
                for name, address in zip(hosts, addresses, strict=True)
            },
            sections={},
            path=Path("/nowhere/cluster.yml"),
        )

    return make


@pytest.fixture(scope="session")
def start_lab(able: None) -> Iterator[LabMaker]:
    """Starts the lab of a spec and takes it down at the end of the run, whatever happens."""
    made: list[LabProvider] = []

    def start(spec: ClusterSpec) -> LabProvider:
        lab = LabProvider(spec)
        made.append(lab)
        lab.up(silent)
        return lab

    yield start
    for lab in made:
        lab.destroy(silent)


# ── clusters ────────────────────────────────────────────────────────────────────────────────────
class Cluster:
    """A cluster.yml in a folder of its own, and the command, used as a person uses it."""

    def __init__(self, home: Path, name: str, network: IPv4Network) -> None:
        self.home = home
        self.name = name
        self.network = network
        self.file = home / "cluster.yml"
        self._known: tuple[str, ClusterSpec] | None = None
        self._uris: dict[str, Mapping[str, str]] = {}

    def write(self, spec: Mapping[str, Any]) -> None:
        head = {"name": self.name, "machines": {"provider": "lab"}}
        plain = json.loads(json.dumps({**head, **spec}))  # what is shared would become an anchor
        self.file.write_text(yaml.safe_dump(plain, sort_keys=False))

    def spec(self) -> Any:
        return yaml.safe_load(self.file.read_text())

    # ── the command ─────────────────────────────────────────────────────────────────────────────
    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Begin; Ctrl-C works even where this run itself was started in the background."""
        return subprocess.Popen(
            ["env", "--default-signal=INT", str(COMMAND), *arguments],
            cwd=self.home,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, seconds: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """`seconds` is the limit within which it must have ended; else 124, as timeout(1) says."""
        with self.start(*arguments, **environment) as process:
            try:
                stdout, stderr = process.communicate(timeout=seconds)
                code = process.returncode
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
                code, stderr = 124, f"{stderr}\nkilled: it had not ended after {seconds:g} s"
        return subprocess.CompletedProcess(arguments, code, stdout, stderr)

    def document(self, *arguments: str, exit_code: int = 0, **options: Any) -> Any:
        """What the command says with --json."""
        done = self.run(*arguments, "--json", **options)
        assert done.returncode == exit_code, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout)

    def apply(self, *arguments: str, **options: Any) -> Any:
        return self.document("apply", "--yes", *arguments, **options)

    def status(self) -> Any:
        """Also where a host is down, which is exit code 1."""
        return json.loads(self.run("status", "--json").stdout)

    def in_sync(self) -> None:
        """Fails with what differs."""
        done = self.run("plan", "--json")
        plan = json.loads(done.stdout)
        wrong = {key: plan[key] for key in ("changes", "blocked", "unreachable") if plan[key]}
        assert not wrong
        assert done.returncode == 0

    # ── its hosts ───────────────────────────────────────────────────────────────────────────────
    def try_on(self, host: str, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A shell script on a host, as `pgha-build lab exec` does it, without starting that."""
        argv = ["sh", "-c", script]
        try:
            argv = LabProvider(self._read()).host(host).entering(argv)
        except MachineError as error:
            return subprocess.CompletedProcess(argv, 1, "", str(error))
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)

    def on(self, host: str, script: str, stdin: str = "") -> str:
        done = self.try_on(host, script, stdin)
        assert done.returncode == 0, f"{host}: {script}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def _read(self) -> ClusterSpec:
        text = self.file.read_text()
        if self._known is None or self._known[0] != text:
            self._known = text, read_spec(self.file)
        return self._known[1]

    def hosts(self, role: str = "") -> list[str]:
        hosts = self.spec()["hosts"].items()
        return [name for name, host in hosts if not role or role in host["roles"]]

    def leader(self) -> str:
        """As any Patroni says; empty where there is none, or nobody says."""
        spec = self._read()
        port = spec.sections["patroni"]["rest_port"]
        for host in spec.with_role("patroni"):
            ask = f"curl -sfk -m 3 https://{host.address}:{port}/cluster"
            said = self.try_on(host.name, ask)
            if said.returncode == 0:
                members = json.loads(said.stdout)["members"]
                return next((str(m["name"]) for m in members if m["role"] == "leader"), "")
        return ""

    def replica(self) -> str:
        return next(host for host in self.hosts("patroni") if host != self.leader())

    def ask(self, host: str, statement: str) -> subprocess.CompletedProcess[str]:
        """As the superuser, in the database postgres, on a host."""
        port = self.spec().get("postgresql", {}).get("port", 5432)
        psql = f"psql -XqAt -v ON_ERROR_STOP=1 -p {port}"
        return self.try_on(host, f"cd / && setpriv --reuid postgres {psql}", statement)

    def sql(self, statement: str) -> str:
        """As the superuser, in the database postgres, on the leader."""
        done = self.ask(self.leader(), statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def uris(self) -> Mapping[str, str]:
        """What clients connect to, as `status` says; asked once for each cluster.yml."""
        text = self.file.read_text()
        if text not in self._uris:
            self._uris[text] = self.status()["connection"]
        return self._uris[text]

    # ── its clients ─────────────────────────────────────────────────────────────────────────────
    def psql(self, uri: str, statement: str) -> subprocess.CompletedProcess[str]:
        argv = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", uri, "-c", statement]
        environment = {**os.environ, "PGCONNECT_TIMEOUT": "5"}
        return subprocess.run(
            argv, env=environment, capture_output=True, text=True, check=False, timeout=30
        )

    def answers(self, side: str, statement: str) -> str:
        """What `statement` says through the connection string `primary` or `replica`."""
        done = self.psql(self.uris[side], statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def writes(self, uris: Mapping[str, str] | None = None) -> Iterator[Writes]:
        """Clients write through the virtual IP while the block runs; then see what they got."""
        import psycopg

        uris = uris or self.uris
        with psycopg.connect(uris["primary"], autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {clients.SCHEMA}")
            connection.execute(f"CREATE TABLE IF NOT EXISTS {clients.TABLE} (number bigint)")
            connection.execute(f"TRUNCATE {clients.TABLE}")
        seen = Writes()
        deadline = time.monotonic() + 900
        alive = (self.home / "cluster.yml").exists
        pace = {"tell": seen.attempts.append, "allowed": alive, "deadline": deadline}
        with clients.running(FEW, uris, **pace):
            until(lambda: any(a.outcome is Outcome.ACK for a in seen.attempts), 30)
            begin = time.monotonic()
            yield seen
            last = time.monotonic()
            until(lambda: any(a.begin > last and seen.is_write(a) for a in seen.attempts), 30)
            end = time.monotonic()
        stored = clients.read_back(self.uris["primary"])
        attempts = tuple(seen.attempts)
        seen.history = History(begin=begin, end=end, attempts=attempts, stored=stored)
        self.answers("primary", f"DROP SCHEMA {clients.SCHEMA} CASCADE")


@dataclass
class Writes:
    """What clients of the cluster were told; whole when the block of `Cluster.writes` has ended."""

    attempts: list[Attempt] = field(default_factory=list)
    history: History | None = None

    @staticmethod
    def is_write(attempt: Attempt) -> bool:
        return attempt.kind is Kind.WRITE and attempt.outcome is Outcome.ACK

    def nothing_lost(self, *, pause: float) -> None:
        """Every acknowledged write is there, and there were some; none took `pause` seconds."""
        assert self.history
        assert sum(self.is_write(attempt) for attempt in self.attempts) > 100
        assert judge.lost(self.history) == ()
        assert judge.outage(self.history, Kind.WRITE) < pause


ClusterMaker = Callable[[], Cluster]


def until(holds: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds; how long that took. Fails after `seconds`.

    Looking takes half of the time at most: what is waited for needs the machine, too.
    """
    begin = asked = time.monotonic()
    while not holds():
        now = time.monotonic()
        assert now - begin < seconds, f"not within {seconds} s"
        time.sleep(max(0.1, now - asked))
        asked = time.monotonic()
    return time.monotonic() - begin


@pytest.fixture(scope="session", name="until")
def until_fixture() -> Callable[[Callable[[], bool], float], float]:
    return until


@pytest.fixture(scope="session")
def new_cluster(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterMaker]:
    """Makes clusters that are not up yet; all are gone at the end of the run."""
    if not shutil.which("psql"):
        pytest.fail("psql is missing: apt-get install postgresql-client")
    made: list[Cluster] = []

    def make() -> Cluster:
        number = next(NUMBERS)
        home = tmp_path_factory.mktemp("cluster")
        made.append(Cluster(home, _own_name(number), _free_network(number)))
        return made[-1]

    yield make
    for cluster in made:
        if cluster.file.exists():
            cluster.run("destroy", "--yes")


@pytest.fixture(scope="session")
def blank_seven(new_cluster: ClusterMaker) -> ClusterMaker:
    """Makes the seven hosts of `pgha-build init`, in a network of their own, not up yet."""

    def make() -> Cluster:
        cluster = new_cluster()
        assert cluster.run("init", "--name", cluster.name).returncode == 0
        text = cluster.file.read_text()
        cluster.file.write_text(text.replace("10.77.0.", str(cluster.network[0])[:-1]))
        return cluster

    return make


@pytest.fixture(scope="session")
def shared() -> list[Cluster]:
    """The cluster that tests share; none yet, or none any more where a test has broken it."""
    return []


@pytest.fixture
def seven(shared: list[Cluster], blank_seven: ClusterMaker) -> Iterator[Cluster]:
    """The seven hosts of `pgha-build init`, whole before, and made whole again after."""
    if not shared:
        new = blank_seven()
        done = new.run("up", "--yes")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        shared.append(new)
    cluster = shared[0]
    text = cluster.file.read_text()
    yield cluster
    cluster.file.write_text(text)
    if cluster.run("plan").returncode == 0:
        return
    cluster.run("lab", "up")
    applied = cluster.run("apply", "--yes")
    if applied.returncode or cluster.run("plan").returncode:
        shared.clear()
        told = "".join(
            f"\n── {' '.join(done.args)}: {done.returncode}\n{done.stdout}{done.stderr}"
            for done in (applied, cluster.run("plan"), cluster.run("status"))
        )
        logs = "journalctl -u patroni -u postgresql -n 60 --no-pager -o short-iso"
        for host in cluster.hosts("patroni"):
            told += f"\n── {host}\n{cluster.try_on(host, logs).stdout}"
        cluster.run("destroy", "--yes")
        pytest.fail(f"left so that an apply does not make it whole again:{told}")


def _own_name(number: int) -> str:
    return f"{PREFIX}-{os.getpid()}-{_start_time(os.getpid())}-{number}"


def _start_time(pid: int) -> str:
    """When a process was started, in clock ticks since boot (proc(5), field 22); "" if gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _free_network(number: int) -> IPv4Network:
    taken = {path.read_text().strip() for path in STATE.glob(f"*/{NETWORK_RECORD}")}
    offset = os.getpid() * 7 + number
    candidates = (f"10.{88 + (offset + i) // 256 % 2}.{(offset + i) % 256}.0/24" for i in count())
    return IPv4Network(next(network for network in candidates if network not in taken))


def _clear_leftovers() -> None:
    for directory in STATE.glob(f"{PREFIX}-*-*-*"):
        _, pid, started, _ = directory.name.split("-")
        if _start_time(int(pid)) == started:
            continue
        record = directory / NETWORK_RECORD
        network = record.read_text().strip() if record.exists() else "192.0.2.0/24"
        machines = Machines(provider="lab", settings={"network": network})
        spec = ClusterSpec(
            name=directory.name, machines=machines, hosts={}, sections={}, path=Path("/nowhere")
        )
        LabProvider(spec).destroy(silent)
