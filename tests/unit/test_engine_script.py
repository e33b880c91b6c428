"""Scripts run for real: by `sh`, on this machine, as whoever runs the tests, below a folder.

Only the two places that need root are moved: our state folder, and /run for the file that asks a
script to stop. What a host would do is done here.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.engine.script import STATE, Outcome, Piece, Script
from builder.resources.steps import Await, Put, Run, Shell, Step

USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name
NONCE = "0123456789abcdef"


@dataclass(frozen=True)
class Ran:
    """What a script did: its reading, all that it printed, and the progress it told."""

    outcome: Outcome
    stdout: str
    stderr: str
    progress: Sequence[str]
    seconds: float


@dataclass(frozen=True)
class Machine:
    folder: Path

    def script(self, *pieces: Sequence[Step], tail: str = "", diagnose: str = "") -> Script:
        labelled = [
            Piece(label=f"piece {n}", steps=steps, diagnose=diagnose)
            for n, steps in enumerate(pieces)
        ]
        return Script(host="pg1", pieces=labelled, tail=tail, nonce=NONCE)

    @property
    def stop_file(self) -> Path:
        return self.folder / "stop"

    def text(self, script: Script) -> str:
        text = script.text().replace(STATE, str(self.folder / "state"))
        return text.replace(script.stop_file, str(self.stop_file))

    def run(self, script: Script) -> Ran:
        begun = time.monotonic()
        said = subprocess.run(
            ["sh", "-s"], input=self.text(script), capture_output=True, text=True, check=False
        )
        progress: list[str] = []
        line = script.reader(progress.append)
        for text in said.stdout.splitlines():
            line(text)
        return Ran(
            outcome=script.outcome(said.stdout),
            stdout=said.stdout,
            stderr=said.stderr,
            progress=progress,
            seconds=time.monotonic() - begun,
        )

    def do(self, *pieces: Sequence[Step], tail: str = "", diagnose: str = "") -> Ran:
        return self.run(self.script(*pieces, tail=tail, diagnose=diagnose))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def put(path: Path, content: bytes = b"new\n", **options: object) -> Put:
    return Put(path=str(path), content=content, owner=USER, group=GROUP, **options)  # type: ignore[arg-type]


# ── writing a file ──────────────────────────────────────────────────────────────────────────────
@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=300), mode=st.sampled_from(["0644", "0600", "0755", "0440"]))
def test_a_file_arrives_byte_by_byte_with_its_mode(
    content: bytes, mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("put")
    ran = Machine(folder).do([put(folder / "a file", content, mode=mode)])
    assert ran.outcome == Outcome(done=1), ran.stdout
    assert (folder / "a file").read_bytes() == content
    assert oct((folder / "a file").stat().st_mode & 0o7777) == oct(int(mode, 8))
    assert sorted(path.name for path in folder.iterdir()) == ["a file", "state"]


def test_a_large_file_arrives_whole(machine: Machine, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    machine.do([put(tmp_path / "large", content)])
    assert (tmp_path / "large").read_bytes() == content


def test_a_file_is_replaced_in_one_instant(machine: Machine, tmp_path: Path) -> None:
    """Whoever has the old one open reads it to its end: it is another file that takes its place."""
    target = tmp_path / "file"
    target.write_text("old\n")
    with target.open() as reader:
        before = target.stat().st_ino
        machine.do([put(target)])
        assert target.stat().st_ino != before
        assert reader.read() == "old\n"
    assert target.read_text() == "new\n"


def test_the_program_that_will_read_a_file_sees_the_new_one_with_its_mode(
    machine: Machine, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    check = ("sh", "-c", f'cat "$0" >{tmp_path}/seen; stat -c %a "$0" >>{tmp_path}/seen', "{}")
    assert machine.do([put(target, mode="0640", check=check)]).outcome.done == 1
    assert (tmp_path / "seen").read_text() == "new\n640\n"


def test_a_file_that_its_program_refuses_leaves_the_old_one_and_no_trace(
    machine: Machine, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    target.write_text("old\n")
    check = ("sh", "-c", "echo line 3: unknown word; exit 4", "{}")
    ran = machine.do([put(target, check=check)])
    assert ran.outcome.failed == 0
    assert ran.outcome.said == "line 3: unknown word"
    assert target.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "state"]


def test_a_check_that_says_much_and_agrees_is_no_failure(machine: Machine, tmp_path: Path) -> None:
    ran = machine.do([put(tmp_path / "file", check=("sh", "-c", "echo a warning", "{}"))])
    assert ran.outcome == Outcome(done=1)
    assert "warning" not in ran.stdout


def test_a_link_is_replaced_and_never_followed(machine: Machine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("somebody's\n")
    target = tmp_path / "file"
    target.symlink_to(elsewhere)
    machine.do([put(target)])
    assert elsewhere.read_text() == "somebody's\n"
    assert not target.is_symlink()
    assert target.read_text() == "new\n"


def test_a_link_where_the_new_file_is_prepared_is_never_followed(
    machine: Machine, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("somebody's\n")
    (tmp_path / ".file.pgha-new").symlink_to(elsewhere)
    machine.do([put(tmp_path / "file")])
    assert elsewhere.read_text() == "somebody's\n"
    assert (tmp_path / "file").read_text() == "new\n"


def test_a_secret_file_is_never_open_while_it_is_written(machine: Machine, tmp_path: Path) -> None:
    """The check runs as the last thing before the rename: nothing but the owner could read."""
    check = ("sh", "-c", f'stat -c %a "$0" >{tmp_path}/mode', "{}")
    machine.do([put(tmp_path / "key", b"secret", mode="0600", check=check)])
    assert (tmp_path / "mode").read_text() == "600\n"
    text = machine.text(machine.script([put(tmp_path / "key", b"secret", mode="0600")]))
    assert "umask 077" in text


def test_a_directory_where_a_file_should_be_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    ran = machine.do([put(tmp_path / "file")])
    assert ran.outcome.failed == 0
    assert ran.outcome.said
    assert list((tmp_path / "file").iterdir()) == []


def test_a_folder_that_is_not_there_is_a_failure(machine: Machine, tmp_path: Path) -> None:
    ran = machine.do([put(tmp_path / "no" / "file")])
    assert ran.outcome.failed == 0
    assert "no" in ran.outcome.said


@pytest.mark.parametrize("name", ["with space", "quote'd", "$(touch bad)", "-rf", "*", "ü", "a;b"])
def test_any_name_is_only_a_name(name: str, machine: Machine, tmp_path: Path) -> None:
    ran = machine.do([put(tmp_path / name, check=("test", "-f", "{}"))])
    assert ran.outcome.done == 1, ran.stdout
    assert {path.name for path in tmp_path.iterdir()} == {name, "state"}


# ── running things ──────────────────────────────────────────────────────────────────────────────
def test_pieces_run_in_order_and_the_tail_runs_last(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pieces = [[Shell(script=f"echo {n} >>{log}")] for n in range(4)]
    ran = machine.do(*pieces, tail=f"echo tail; cat {log}")
    assert ran.outcome == Outcome(done=4, tail="tail\n0\n1\n2\n3\n")
    assert ran.progress == ["piece 0", "piece 1", "piece 2", "piece 3"]


def test_a_failing_step_stops_everything_behind_it_and_says_why(
    machine: Machine, tmp_path: Path
) -> None:
    failing = [Shell(script="echo before; echo no such thing >&2; exit 3"), touch(tmp_path / "a")]
    ran = machine.do([touch(tmp_path / "first")], failing, [touch(tmp_path / "b")], tail="echo t")
    assert ran.outcome == Outcome(done=1, failed=1, said="before\nno such thing", tail="t\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "state"]


def touch(path: Path) -> Run:
    return Run(argv=("touch", "--", str(path)))


def test_a_failing_line_within_a_fragment_stops_it(machine: Machine, tmp_path: Path) -> None:
    ran = machine.do([Shell(script=f"false\ntouch {tmp_path}/behind")])
    assert ran.outcome.failed == 0
    assert not (tmp_path / "behind").exists()


def test_what_may_have_gone_wrong_is_looked_up_only_after_a_failure(machine: Machine) -> None:
    failed = machine.do([Shell(script="echo its own words; exit 1")], diagnose="echo the journal")
    assert failed.outcome.said == "its own words\nthe journal"
    assert "journal" not in machine.do([Shell(script=":")], diagnose="echo the journal").stdout


@pytest.mark.parametrize("words", ["printf 'no newline'", "printf '\\n\\n'", "printf 'a\\nb'", ":"])
@pytest.mark.parametrize("status", [0, 1])
def test_output_without_a_last_newline_changes_nothing(
    words: str, status: int, machine: Machine
) -> None:
    ran = machine.do([Shell(script=f"{words}; exit {status}")], [Shell(script=words)])
    assert (ran.outcome.done, ran.outcome.failed) == ((0, 0) if status else (2, None))


@pytest.mark.parametrize(
    ("status", "accept", "fails"),
    [(0, (0,), False), (1, (0,), True), (1, (0, 1), False), (2, (0, 1), True), (0, (1,), True)],
)
@pytest.mark.parametrize("stdin", [b"", b"text"])
def test_an_exit_status_is_accepted_only_where_it_is_listed(
    status: int, accept: tuple[int, ...], fails: bool, stdin: bytes, machine: Machine
) -> None:
    step = Run(argv=("sh", "-c", f"exit {status}"), accept=accept, stdin=stdin)
    assert (machine.do([step]).outcome.failed == 0) is fails


@settings(max_examples=20, deadline=None)
@given(
    words=st.lists(
        st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        max_size=4,
    )
)
def test_words_reach_a_program_as_they_are(
    words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    program = folder / "program"
    program.write_text(f'#!/bin/sh\nfor w; do printf "%s\\0" "$w"; done >{folder}/words\n')
    program.chmod(0o755)
    assert Machine(folder).do([Run(argv=(str(program), *words))]).outcome.done == 1
    assert (folder / "words").read_bytes() == b"".join(w.encode() + b"\0" for w in words)


@settings(max_examples=10, deadline=None)
@given(stdin=st.binary(min_size=1, max_size=2000))
@pytest.mark.parametrize("kind", ["run", "shell"])
def test_stdin_reaches_a_program_byte_by_byte(
    kind: str, stdin: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stdin")
    copy = f"cat >{folder}/copy"
    step: Step = Shell(script=copy, stdin=stdin)
    if kind == "run":
        step = Run(argv=("sh", "-c", copy), stdin=stdin)
    assert Machine(folder).do([step]).outcome.done == 1
    assert (folder / "copy").read_bytes() == stdin


def test_a_program_that_reads_stdin_does_not_eat_the_script(
    machine: Machine, tmp_path: Path
) -> None:
    ran = machine.do([Run(argv=("cat",)), Shell(script="cat")], [touch(tmp_path / "behind")])
    assert ran.outcome.done == 2
    assert (tmp_path / "behind").exists()


def test_a_step_that_hangs_is_ended(machine: Machine) -> None:
    ran = machine.do([Run(argv=("sleep", "60"), timeout_seconds=1)])
    assert ran.outcome.failed == 0
    assert "did not finish in time" in ran.outcome.said
    assert ran.seconds < 10


def test_the_time_a_script_may_take_covers_each_of_its_steps(machine: Machine) -> None:
    waiting = Await(what="w", condition="true", timeout_seconds=300)
    script = machine.script([Run(argv=("a",), timeout_seconds=100)], [waiting, put(Path("/f"))])
    assert script.timeout_seconds >= 100 + 300


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────
def test_a_condition_that_comes_to_hold_ends_the_wait(machine: Machine, tmp_path: Path) -> None:
    ask = f"[ -e {tmp_path}/there ] || {{ echo not there yet; exit 1; }}"
    step = Await(what="it is there", condition=ask, timeout_seconds=20, interval_seconds=0.1)
    timer = threading.Timer(0.5, (tmp_path / "there").touch)
    timer.start()
    ran = machine.do([step], [touch(tmp_path / "behind")])
    timer.join()
    assert ran.outcome.done == 2
    assert ran.progress == ["piece 0", "waiting: not there yet", "piece 1"]
    assert ran.seconds < 10


def test_a_condition_that_never_holds_fails_with_its_last_answer(machine: Machine) -> None:
    ask = "n=$((n + 1)); echo answer $(date +%s%N); echo last line; false"
    step = Await(what="never", condition=ask, timeout_seconds=1, interval_seconds=0.2)
    ran = machine.do([step])
    assert ran.outcome.failed == 0
    answers = re.findall(r"answer \d+", ran.stdout)
    ended = "It did not finish in time, and was ended."
    assert ran.outcome.said == f"{answers[-1]}\nlast line\n{ended}"


def test_the_same_answer_is_told_once(machine: Machine) -> None:
    step = Await(what="w", condition="echo no; false", timeout_seconds=1, interval_seconds=0.1)
    assert machine.do([step]).progress == ["piece 0", "waiting: no"]


# ── stopping ────────────────────────────────────────────────────────────────────────────────────
def test_a_script_that_is_asked_to_stop_finishes_its_piece_and_begins_no_other(
    machine: Machine, tmp_path: Path
) -> None:
    asks = Shell(script=f": >{machine.stop_file}")
    ran = machine.do([asks, touch(tmp_path / "same")], [touch(tmp_path / "next")], tail="echo t")
    assert ran.outcome == Outcome(done=1, stopped=True, tail="t\n")
    assert (tmp_path / "same").exists()
    assert not (tmp_path / "next").exists()
    assert not machine.stop_file.exists(), "it would stop the next one"


def test_two_scripts_on_one_host_run_one_after_the_other(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    slow = Shell(script=f"echo begin >>{log}; sleep 0.3; echo end >>{log}")
    threads = [threading.Thread(target=machine.do, args=([slow],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.read_text().split() == ["begin", "end"] * 3


# ── reading ─────────────────────────────────────────────────────────────────────────────────────
FORGED = "deadbeefdeadbeef"


@pytest.mark.parametrize("word", ["end 0 0", "end 1 0", "stopped", "tail", "begin 1"])
def test_a_program_cannot_forge_a_marker(word: str, machine: Machine, tmp_path: Path) -> None:
    forge = Shell(script=f"echo '@pgha-{FORGED} {word}'; echo '@pgha- {word}'; exit 1")
    ran = machine.do([forge], [touch(tmp_path / "behind")])
    assert (ran.outcome.done, ran.outcome.failed, ran.outcome.stopped) == (0, 0, False)
    assert ran.progress == ["piece 0"]


def test_a_program_is_not_told_the_marker(machine: Machine) -> None:
    """Neither in its environment nor in the arguments of any process above it."""
    look = (
        "env; echo; for p in self $PPID; do tr '\\0' '\\n' </proc/$p/cmdline; "
        "tr '\\0' '\\n' </proc/$p/environ; done"
    )
    ran = machine.do([Shell(script=f"( {look} ) | grep -c '{NONCE[:8]}'\"{NONCE[8:]}\" || true")])
    assert ran.outcome.done == 1
    assert "\n0\n" in ran.stdout


def test_an_answer_that_was_cut_counts_what_had_ended(machine: Machine) -> None:
    script = machine.script([Shell(script=":")], [Shell(script="echo some words")])
    whole = machine.run(script).stdout
    ends = [match.start() for match in re.finditer(r"@pgha-\w+ end \d", whole)]
    assert script.outcome(whole[: ends[1]]) == Outcome(done=1, failed=1, said="some words")
    assert script.outcome(whole[: ends[0]]).done == 0
    assert script.outcome("").failed == 0


def test_every_script_has_a_marker_of_its_own() -> None:
    assert len({Script(host="h", pieces=[]).nonce for _ in range(50)}) == 50


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────
SPY = """
read -r secret
for f in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do
  case "$(tr '\\0' ' ' <$f 2>/dev/null)" in *"$secret"*) echo "seen in $f";; esac
done
"""


def test_a_secret_on_stdin_is_in_no_process_list(machine: Machine) -> None:
    ran = machine.do([Shell(script=SPY, stdin=b"correct-horse-" + NONCE.encode() + b"\n")])
    assert ran.outcome.done == 1
    assert "seen in" not in ran.stdout


def test_the_spy_sees_a_secret_in_argv(machine: Machine) -> None:
    """The law above would hold for a spy that is blind."""
    secret = b"battery-staple-" + NONCE.encode()
    shown = Run(argv=("sh", "-c", SPY, secret.decode()), stdin=secret + b"\n")
    assert "seen in" in machine.do([shown]).stdout


@pytest.mark.parametrize("make", [
    lambda secret: Run(argv=("true",), stdin=secret),
    lambda secret: Shell(script="true", stdin=secret),
    lambda secret: Put(path="/f", content=secret),
])  # fmt: skip
def test_a_step_does_not_print_what_it_carries(make: Callable[[bytes], Step]) -> None:
    assert "correct horse" not in repr(make(b"correct horse"))
