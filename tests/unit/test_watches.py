"""The watches beside PostgreSQL, carried out with a Patroni that is played."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from types import SimpleNamespace

import pytest

from builder.templates import render

LEADS = '{"state": "running", "role": "primary"}'
FOLLOWS = '{"state": "running", "role": "replica"}'
PAUSED = '{"state": "running", "role": "primary", "pause": true}'


@dataclass
class Stage:
    """A data directory with a process that stands for the postmaster, and the script beside it."""

    folder: Path
    postmaster: subprocess.Popen[bytes]

    def says(self, answer: str, name: str = "answer") -> None:
        """What Patroni answers from now on; empty: nothing."""
        new = self.folder / f"{name}.new"
        new.write_text(answer)
        new.rename(self.folder / name)

    def asked(self, times: int) -> None:
        """Wait until the watch has asked, or looked, so often again."""
        log = self.folder / "asked"
        wanted = len(log.read_text()) + times if log.exists() else times
        end = time.monotonic() + 120
        while not log.exists() or len(log.read_text()) < wanted:
            assert time.monotonic() < end, "the watch does not ask"
            time.sleep(0.02)

    @contextmanager
    def watched(
        self, name: str, asked_by: str, *words: str, **values: object
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The watch runs beside it. `asked_by`: the program whose calls are counted."""
        bin_ = self.folder / "bin"
        bin_.mkdir()
        for program, text in PROGRAMS.items():
            counts = f"printf x >>{self.folder}/asked\n" if program == asked_by else ""
            (bin_ / program).write_text(f"#!/bin/sh\ncd {self.folder}\n{counts}{text}\n")
            (bin_ / program).chmod(0o755)
        given = {"data": self.folder / "data", "ca": "ca", "url": "url", **values}
        script = render(f"patroni/{name}", given).text
        environment = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"}
        watch = subprocess.Popen(["sh", "-c", script, name, *words], env=environment)
        try:
            yield watch
        finally:
            watch.kill()
            watch.wait()


# What a watch asks; curl ends with what is in `status`, of what is asked last in its address.
PROGRAMS = {
    "curl": 'for asked; do :; done; cat answer; exit "$(cat "status-${asked##*/}" 2>/dev/null)"',
    "sleep": "exec /bin/sleep 0.05",
    "systemctl": 'cat "$3"',  # show -P PROPERTY UNIT
}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    data = tmp_path / "data"
    data.mkdir()
    postmaster = subprocess.Popen(["/bin/sleep", "60"], cwd=data)
    (data / "postmaster.pid").write_text(f"{postmaster.pid}\n")
    made = Stage(tmp_path, postmaster)
    made.says("")
    yield made
    postmaster.kill()
    postmaster.wait()


@pytest.fixture
def leased(stage: Stage) -> Iterator[Stage]:
    times = SimpleNamespace(patroni_silent=1)
    with stage.watched("lease-watch", "curl", timings=times):
        yield stage


def test_a_leader_whose_patroni_falls_silent_is_ended(leased: Stage) -> None:
    leased.says(LEADS)
    leased.asked(2)
    leased.says("")
    assert leased.postmaster.wait(20) == -9


@pytest.mark.parametrize("last", ["", FOLLOWS, PAUSED])
def test_who_was_not_called_a_leader_or_is_paused_is_left_alone(leased: Stage, last: str) -> None:
    """Also where it was one before; and where Patroni was never heard, as while it is adopted."""
    if last:
        leased.says(LEADS)
        leased.asked(2)
    leased.says(last)
    leased.asked(2)
    leased.says("")
    leased.asked(40)
    assert leased.postmaster.poll() is None


def test_a_leader_that_was_started_since_is_left_to_patroni(leased: Stage) -> None:
    leased.says(LEADS)
    leased.asked(2)
    (leased.folder / "data/postmaster.pid").write_text(f"{os.getpid()}\n")
    leased.says("")
    leased.asked(40)
    assert leased.postmaster.poll() is None


class Walsender:
    """A process under the postmaster that calls itself one, and runs, or is there and does not."""

    RUNS = "import time\nwhile True: time.sleep(0.01)"
    HANGS = "import signal\nwhile True: signal.pause()"

    def __init__(self, stage: Stage, title: str, code: str) -> None:
        data = stage.folder / "data"
        child = f"exec -a {quote(title)} {sys.executable} -c {quote(code)}"
        line = f"bash -c {quote(child)} & echo $! >{data}/child; wait; sleep 60"
        self.postmaster = subprocess.Popen(["sh", "-c", line], cwd=data)
        (data / "postmaster.pid").write_text(f"{self.postmaster.pid}\n")
        end = time.monotonic() + 60
        while title not in self._title(data / "child"):
            assert time.monotonic() < end, "it does not start"
            time.sleep(0.02)
        self.pid = int((data / "child").read_text())

    def _title(self, child: Path) -> str:
        try:
            return Path(f"/proc/{child.read_text().strip()}/cmdline").read_text()
        except OSError:
            return ""

    def gone(self) -> bool:
        """Ended, whether or not its parent has seen that."""
        try:
            return "\nState:\tZ" in Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return True

    def end(self) -> None:
        if not self.gone():
            os.kill(self.pid, signal.SIGKILL)
        self.postmaster.kill()
        self.postmaster.wait()


STREAMS = "postgres: demo: walsender replicator 10.0.0.22(4711) streaming 0/3000060"


@pytest.fixture
def walsender(stage: Stage) -> Iterator[Callable[[str, str], Walsender]]:
    made: list[Walsender] = []

    def make(title: str, code: str) -> Walsender:
        made.append(Walsender(stage, title, code))
        return made[-1]

    times = SimpleNamespace(walsender_wakes=1, walsender_fall=20)
    with stage.watched("walsender-watch", "sleep", user="replicator", timings=times):
        yield make
    for one in made:
        one.end()


def test_a_walsender_that_hangs_is_ended(
    stage: Stage, walsender: Callable[[str, str], Walsender]
) -> None:
    hung = walsender(STREAMS, Walsender.HANGS)
    end = time.monotonic() + 20
    while not hung.gone():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("title", "code", "answer"),
    [
        pytest.param(STREAMS, Walsender.RUNS, LEADS, id="it runs"),
        pytest.param(STREAMS, Walsender.HANGS, PAUSED, id="Patroni is paused"),
        pytest.param(
            STREAMS.replace("walsender", "app db"),
            Walsender.HANGS,
            LEADS,
            id="a session of somebody's database",
        ),
        pytest.param(
            STREAMS.replace("replicator", "subscriber"), Walsender.HANGS, LEADS, id="another's"
        ),
        pytest.param(
            STREAMS.replace("streaming 0/3000060", "sending backup"),
            Walsender.HANGS,
            LEADS,
            id="a backup, which may wait for whom it is sent to",
        ),
    ],
)
def test_another_process_is_left_alone(
    stage: Stage, walsender: Callable[[str, str], Walsender], title: str, code: str, answer: str
) -> None:
    stage.says(answer)
    one = walsender(title, code)
    stage.asked(60)
    assert not one.gone()


@pytest.fixture
def patroni(stage: Stage) -> Iterator[Stage]:
    """The process that stands for the postmaster stands for Patroni."""
    stage.says("active", "ActiveState")
    stage.says(str(stage.postmaster.pid), "MainPID")
    stage.says("0", "status-liveness")
    stage.says("0", "status-patroni")
    stage.says(FOLLOWS)
    first = stage.folder / "stale-leader"
    first.write_text(f"#!/bin/sh\necho $1 >{stage.folder}/ended-first\n")
    first.chmod(0o755)
    times = SimpleNamespace(hung_timeout=1, patroni_interval=1, patroni_fall=20)
    with stage.watched("patroni-watch", "sleep", timings=times, stale_leader=first):
        yield stage


@pytest.mark.parametrize(
    ("path", "status", "lease"),
    [
        ("liveness", "22", "over"),
        ("liveness", "28", "over"),
        ("liveness", "7", "over"),
        ("patroni", "28", "held"),
    ],
    ids=["its loop", "all of it", "it listens no more", "what answers HAProxy"],
)
def test_a_patroni_that_hangs_is_ended(patroni: Stage, path: str, status: str, lease: str) -> None:
    """After whom it may be bad for to wait for that."""
    patroni.asked(10)
    patroni.says(status, f"status-{path}")
    assert patroni.postmaster.wait(60) == -9
    assert (patroni.folder / "ended-first").read_text().strip() == lease


@pytest.mark.parametrize(
    ("path", "status", "state"),
    [
        ("liveness", "0", "active"),
        ("liveness", "60", "active"),
        ("patroni", "22", "active"),
        ("liveness", "28", "deactivating"),
    ],
    ids=["sound", "another certificate", "PostgreSQL is down", "it stops"],
)
def test_a_patroni_that_answers_or_is_stopped_is_left_alone(
    patroni: Stage, path: str, status: str, state: str
) -> None:
    patroni.says(state, "ActiveState")
    patroni.says(status, f"status-{path}")
    patroni.asked(60)
    assert patroni.postmaster.poll() is None


def test_a_patroni_that_was_paused_is_left_alone(patroni: Stage) -> None:
    patroni.says(PAUSED)
    patroni.asked(10)
    patroni.says("28", "status-patroni")
    patroni.asked(60)
    assert patroni.postmaster.poll() is None


def test_a_patroni_that_stops_postgresql_is_left_alone(patroni: Stage) -> None:
    """Its loop may wait for that; PostgreSQL's eighth line says so."""
    pid = f"{patroni.postmaster.pid}"
    patroni.says("\n".join([pid, *["…"] * 6, "stopping", ""]), "data/postmaster.pid")
    patroni.says("22", "status-liveness")
    patroni.asked(60)
    assert patroni.postmaster.poll() is None


def test_a_patroni_that_was_started_anew_unseen_is_known_once_it_answers(patroni: Stage) -> None:
    patroni.asked(10)
    with subprocess.Popen(["/bin/sleep", "60"]) as anew:
        patroni.says(str(anew.pid), "MainPID")
        patroni.postmaster.kill()
        patroni.postmaster.wait()
        patroni.asked(10)
        patroni.says("7", "status-liveness")
        assert anew.wait(60) == -9


def test_a_patroni_that_does_not_listen_yet_is_left_alone(patroni: Stage) -> None:
    """As one does that waits for etcd: this process has never answered."""
    patroni.asked(10)
    with subprocess.Popen(["/bin/sleep", "60"]) as starts:
        patroni.says(str(starts.pid), "MainPID")
        patroni.says("7", "status-liveness")
        patroni.asked(60)
        assert starts.poll() is None
        starts.kill()


def test_a_patroni_that_answers_again_in_time_is_left_alone(patroni: Stage) -> None:
    for _ in range(8):
        patroni.says("28", "status-patroni")
        patroni.asked(4)
        patroni.says("0", "status-patroni")
        patroni.asked(4)
    assert patroni.postmaster.poll() is None


@pytest.mark.parametrize(
    ("status", "knows", "replica", "ended"),
    [
        ("0", "", False, True),
        ("0", "load_current_server_parameters", False, False),
        ("0", "", True, False),
        ("22", "", False, False),
    ],
    ids=["another leads", "Patroni asks for whom commits wait", "a replica", "nobody else leads"],
)
def test_before_an_old_patroni_starts_a_leader_of_old_is_ended(
    stage: Stage, *, status: str, knows: str, replica: bool, ended: bool
) -> None:
    stage.says(status, "status-primary")
    if replica:
        stage.says("", "data/standby.signal")
    assert stale_leader(stage, knows=knows) is ended


def test_a_process_of_its_own_that_hangs_does_not_outlive_it(stage: Stage) -> None:
    """It would keep the shared memory, and no PostgreSQL could start there."""
    child = Walsender(stage, STREAMS, Walsender.HANGS)
    os.kill(child.pid, signal.SIGSTOP)
    try:
        stage.says("0", "status-primary")
        stale_leader(stage, knows="")
        assert child.postmaster.wait(20) == -9
        end = time.monotonic() + 20
        while not child.gone():
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        child.end()


@pytest.mark.parametrize(
    ("lease", "knows", "synchronous", "ended"),
    [
        ("over", "", True, True),
        ("held", "", True, True),
        ("over", "load_current_server_parameters", True, False),
        ("over", "load_current_server_parameters", False, True),
        ("held", "load_current_server_parameters", False, False),
    ],
)
def test_who_may_lead_no_longer_and_acknowledges_is_ended_before_its_patroni(
    stage: Stage, *, lease: str, knows: str, synchronous: bool, ended: bool
) -> None:
    stage.says("22", "status-primary")
    assert stale_leader(stage, lease, knows=knows, synchronous=synchronous) is ended


def test_alone_it_leads_on(stage: Stage) -> None:
    assert not stale_leader(stage, "over", knows="", others=())


def stale_leader(
    stage: Stage,
    *words: str,
    knows: str,
    synchronous: bool = True,
    others: Sequence[str] = ("https://10.0.0.22:8008/primary",),
) -> bool:
    """Whether it has ended PostgreSQL; `knows`: what this Patroni's source has."""
    stage.says(knows, "config.py")
    values = {
        "others": others,
        "sources": stage.folder / "config*.py",
        "timings": SimpleNamespace(hung_timeout=1),
        "synchronous": synchronous,
    }
    with stage.watched("stale-leader", "curl", *words, **values) as program:
        assert program.wait(20) == 0
    try:
        return stage.postmaster.wait(0.5) == -9
    except subprocess.TimeoutExpired:
        return False
