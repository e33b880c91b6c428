"""Labs for tests: made on demand, always taken down, and those of killed runs cleared first.

A lab's name carries the process that made it (pid and start time), so a later run knows which labs
have lost theirs. Names and networks differ per run: several runs may share a machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path

import pytest

from builder.errors import MachineError
from builder.machines.lab.layout import NETWORK_RECORD, STATE
from builder.machines.lab.provider import LabProvider
from builder.machines.lab.requirements import refuse_if_unable, this_machine
from builder.spec.model import ClusterSpec, Host, Machines

PREFIX = "pt"
SpecMaker = Callable[..., ClusterSpec]
LabMaker = Callable[[ClusterSpec], LabProvider]


def silent(host: str, what: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="session")
def able() -> None:
    """This machine can run labs; else the test is skipped, saying what is missing."""
    try:
        refuse_if_unable(this_machine())
    except MachineError as error:
        pytest.skip(str(error))
    _clear_leftovers()


@pytest.fixture(scope="session")
def fresh_spec(able: None) -> SpecMaker:
    """Makes a spec with the given hosts, and a name and a network that nobody else has."""
    numbers = count()

    def make(hosts: Sequence[str] = ("h1", "h2"), **settings: object) -> ClusterSpec:
        number = next(numbers)
        network = _free_network(number)
        addresses = [str(network[11 + index]) for index in range(len(hosts))]
        return ClusterSpec(
            name=f"{PREFIX}-{os.getpid()}-{_start_time(os.getpid())}-{number}",
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
