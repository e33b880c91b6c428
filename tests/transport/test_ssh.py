"""The transport against a real sshd: what a user notices when SSH works, and when it does not."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from builder.errors import (
    AuthenticationError,
    CommandTimeout,
    ConnectionLost,
    HostKeyError,
    TransportError,
)
from builder.transport import hold
from builder.transport.base import Endpoint
from builder.transport.login import open_socket
from builder.transport.ssh import SshConnections, connect

SSHD = Path("/usr/sbin/sshd")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running sshd: its port, its host key, and the key that it lets in."""

    port: int
    host_key: str
    identity: Path
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            host="server",
            address="127.0.0.1",
            port=self.port,
            user="root",
            identity_files=(self.identity,),
            host_keys=(self.host_key,),
            agent=False,
        )

    def with_known_hosts(self, text: str) -> Endpoint:
        file = self.folder / "known_hosts"
        file.write_text(text)
        return replace(self.endpoint, host_keys=(), known_hosts=(file,))


def new_key(path: Path, passphrase: str = "") -> str:
    """Make a key pair; returns `type base64` of the public half."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(words, check=True)
    return path.with_suffix(".pub").read_text().strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if os.geteuid() != 0 or not SSHD.exists():
        pytest.skip("needs root and Debian's openssh-server for a real sshd")
    folder = tmp_path_factory.mktemp("sshd")
    host_key = new_key(folder / "host")
    (folder / "authorized").write_text(new_key(folder / "id") + "\n")
    port = free_port()
    lines = (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\n"
    )
    (folder / "config").write_text(lines)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-f", folder / "config"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port), "sshd listens")
        yield Server(
            port=port,
            host_key=host_key,
            identity=folder / "id",
            process=process,
            folder=folder,
        )
    finally:
        process.terminate()
        process.wait(10)


def test_a_script_says_what_it_says(server: Server) -> None:
    with connect(server.endpoint) as connection:
        done = connection.run("echo out; echo err >&2; exit 7", timeout_seconds=10)
    assert (done.status, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_lines_come_while_the_script_runs(server: Server, tmp_path: Path) -> None:
    """The script waits for a file that is made only when its first line has arrived."""
    go = tmp_path / "go"
    with connect(server.endpoint) as connection:
        done = connection.run(
            f"echo first; until [ -e {go} ]; do sleep 0.05; done; echo second",
            timeout_seconds=10,
            on_line=lambda line: go.touch() if line == "first" else None,
        )
    assert done.stdout == "first\nsecond\n"


def test_much_output_on_both_sides_arrives_whole(server: Server) -> None:
    with connect(server.endpoint) as connection:
        done = connection.run(
            "head -c 10000000 /dev/zero | tr '\\0' x & head -c 10000000 /dev/zero | tr '\\0' y >&2;"
            " wait",
            timeout_seconds=60,
        )
    assert (len(done.stdout), len(done.stderr)) == (10_000_000, 10_000_000)


def test_a_large_script_arrives_whole(server: Server) -> None:
    text = "x" * 5_000_000
    with connect(server.endpoint) as connection:
        done = connection.run(f"wc -c <<'END'\n{text}\nEND", timeout_seconds=60)
    assert done.stdout.strip() == "5000001"


def test_bytes_that_are_no_text_do_no_harm(server: Server) -> None:
    with connect(server.endpoint) as connection:
        done = connection.run("printf '\\377\\376ok\\n'", timeout_seconds=10)
    assert done.stdout.endswith("ok\n")


def test_a_script_that_is_too_slow_is_ended_there(server: Server, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with connect(server.endpoint) as connection, pytest.raises(CommandTimeout, match="server"):
        connection.run(f"echo $$ >{pid}; sleep 300", timeout_seconds=1)
    number = int(pid.read_text())
    until(lambda: not Path(f"/proc/{number}").exists(), "the remote shell is gone")


def test_scripts_run_side_by_side(server: Server, tmp_path: Path) -> None:
    """The first ends only when the second has run."""
    go = tmp_path / "go"
    with connect(server.endpoint) as connection:
        waits = threading.Thread(
            target=lambda: connection.run(
                f"until [ -e {go} ]; do sleep 0.05; done", timeout_seconds=20
            )
        )
        waits.start()
        connection.run(f": >{go}", timeout_seconds=10)
        waits.join(15)
        assert not waits.is_alive()


def test_a_script_is_in_no_argument_list(server: Server) -> None:
    with connect(server.endpoint) as connection:
        done = connection.run(
            "canary=s3cr3t-c4n4ry; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '",
            timeout_seconds=20,
        )
    assert "s3cr3t-c4n4ry" not in done.stdout


def test_another_host_key_stops_everything(server: Server, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    with pytest.raises(HostKeyError) as error:
        connect(replace(server.endpoint, host_keys=(other,)))
    assert str(error.value).count("SHA256:") == 2


def test_an_unknown_host_key_is_not_accepted(server: Server) -> None:
    with pytest.raises(HostKeyError, match="not known"):
        connect(server.with_known_hosts(""))


def test_known_hosts_are_honoured(server: Server) -> None:
    line = f"[127.0.0.1]:{server.port} {server.host_key}\n"
    with connect(server.with_known_hosts(line)) as connection:
        assert connection.run("echo in", timeout_seconds=10).stdout == "in\n"


def test_a_refused_key_is_said_with_the_user_and_the_key(server: Server, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger")
    endpoint = replace(server.endpoint, identity_files=(tmp_path / "stranger",))
    with pytest.raises(AuthenticationError, match=r"refuses root; tried .*stranger"):
        connect(endpoint)


def test_a_key_that_cannot_be_read_is_said_and_the_next_one_is_tried(
    server: Server, tmp_path: Path
) -> None:
    new_key(tmp_path / "locked", "a passphrase")
    useless = (tmp_path / "locked", tmp_path / "missing")
    with pytest.raises(AuthenticationError, match=r"locked \(.*ssh-add.*missing \(cannot be read"):
        connect(replace(server.endpoint, identity_files=useless))
    files = (*useless, *server.endpoint.identity_files)
    with connect(replace(server.endpoint, identity_files=files)) as connection:
        assert connection.run("echo in", timeout_seconds=10).stdout == "in\n"


def test_the_agent_has_the_key_whose_file_wants_a_passphrase(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual case: the file is named in ssh_config, and the agent holds it open."""
    (key,) = server.endpoint.identity_files
    locked = tmp_path / "id"
    locked.write_bytes(key.read_bytes())
    locked.chmod(0o600)
    Path(f"{locked}.pub").write_bytes(Path(f"{key}.pub").read_bytes())
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")])
    try:
        until((tmp_path / "agent").exists, "the agent listens")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        subprocess.run(["ssh-add", "-q", str(locked)], check=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret phrase", "-f", str(locked)],
            check=True,
        )
        endpoint = replace(server.endpoint, identity_files=(locked,), agent=True)
        with connect(endpoint) as connection:
            assert connection.run("echo in", timeout_seconds=10).stdout == "in\n"
        with pytest.raises(AuthenticationError, match="has a passphrase"):
            connect(replace(endpoint, agent=False))
    finally:
        agent.terminate()
        agent.wait()


def test_a_closed_port_is_said_in_words(server: Server) -> None:
    with pytest.raises(TransportError, match="nothing listens there"):
        connect(replace(server.endpoint, port=free_port()))


def test_through_a_jump_host(server: Server) -> None:
    line = f"[127.0.0.1]:{server.port} {server.host_key}\n"
    endpoint = server.with_known_hosts(line)
    with connect(replace(endpoint, jump=replace(endpoint, host="way"))) as connection:
        assert connection.run("echo through", timeout_seconds=10).stdout == "through\n"


def test_who_cannot_be_reached_is_an_error_in_its_place(server: Server) -> None:
    endpoints = {"up": server.endpoint, "down": replace(server.endpoint, port=free_port())}
    with SshConnections(endpoints) as connections:
        assert isinstance(connections["down"], TransportError)
        up = connections["up"]
        assert not isinstance(up, TransportError)
        assert up.run("echo up", timeout_seconds=10).stdout == "up\n"


def test_a_connection_that_was_lost_is_made_again_and_no_other(server: Server) -> None:
    endpoints = {name: replace(server.endpoint, host=name) for name in ("kept", "lost", "down")}
    down = {"down": replace(server.endpoint, host="down", port=free_port())}
    with SshConnections(endpoints | down) as connections:
        kept, lost = connections["kept"], connections["lost"]
        assert not isinstance(lost, TransportError)
        lost.close()
        connections.renew(endpoints)
        assert connections["kept"] is kept
        for name in ("lost", "down"):
            renewed = connections[name]
            assert not isinstance(renewed, TransportError)
            assert renewed.run("echo up", timeout_seconds=10).stdout == "up\n"


def test_a_held_script_ends_with_its_release(server: Server, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with connect(server.endpoint) as connection:
        held = connection.hold(
            f"echo ready; while read -r _; do :; done; sleep 0.5; : >{gone}", timeout_seconds=10
        )
        assert held.first_line == "ready"
        assert not gone.exists()
        held.release()
        assert gone.exists()  # whoever asks for the lock next must find it free


def test_a_held_script_that_has_ended_is_lost_while_its_host_answers(server: Server) -> None:
    with connect(server.endpoint) as connection:
        held = connection.hold("echo ready; read -r _; exit 0", timeout_seconds=10)
        assert (held.lost, held.reachable) == (False, True)
        held._channel.sendall(b"\n")
        until(lambda: held.lost, "its end is noticed")
        assert held.reachable
        assert connection.run("echo up", timeout_seconds=10).stdout == "up\n"


def test_a_held_script_is_lost_with_its_connection(server: Server) -> None:
    connection = connect(replace(server.endpoint, port=relay(server.port, 20_000)))
    held = connection.hold("echo ready; while read -r _; do :; done", timeout_seconds=10)
    assert (held.lost, held.reachable) == (False, True)
    with pytest.raises(ConnectionLost):
        connection.run("# padding\n" * 20_000, timeout_seconds=60)
    until(lambda: held.lost and not held.reachable, "the end of the connection is noticed")
    connection.close()


def test_who_slept_for_a_minute_has_lost_what_was_held(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the heartbeat comes to itself first: what is late is not made good."""
    monkeypatch.setattr(hold, "HEARTBEAT_SECONDS", 0.05)
    with connect(server.endpoint) as connection:
        held = connection.hold("echo ready; while read -r _; do :; done", timeout_seconds=10)
        awake = hold.now()
        monkeypatch.setattr(hold, "now", lambda: awake + 30)
        assert not held.lost
        until(lambda: held._fed == awake + 30, "it is fed again")
        monkeypatch.setattr(hold, "now", lambda: awake + 30 + hold.SILENCE_SECONDS + 1)
        held._beat.join(10)
        assert not held._beat.is_alive()
        assert held.lost


def test_half_a_script_is_not_run(server: Server, tmp_path: Path) -> None:
    """A relay cuts the connection in the middle of the transfer; no line of it may have run."""
    traces = tmp_path / "ran"
    port = relay(server.port, cut_after_bytes=400_000)
    script = f": >{traces}\n" + "# padding\n" * 200_000
    connection = connect(replace(server.endpoint, port=port))
    with pytest.raises(ConnectionLost):
        connection.run(script, timeout_seconds=20)
    connection.close()
    with connect(server.endpoint) as other:  # sshd has had its turn: whatever could run, has
        other.run("true", timeout_seconds=10)
    assert not traces.exists()


def test_a_connection_that_breaks_is_lost_and_not_awaited(server: Server) -> None:
    port = relay(server.port, cut_after_bytes=20_000)
    connection = connect(replace(server.endpoint, port=port))
    with pytest.raises(ConnectionLost):
        connection.run("cat >/dev/null; sleep 60\n" + "# padding\n" * 20_000, timeout_seconds=60)
    connection.close()


def relay(to_port: int, cut_after_bytes: int) -> int:
    """A port of this machine that passes one connection on, and cuts it after so many bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]

    def serve() -> None:
        client, _ = listener.accept()
        upstream = socket.create_connection(("127.0.0.1", to_port))
        back = threading.Thread(target=pump, args=(upstream, client, None), daemon=True)
        back.start()
        pump(client, upstream, cut_after_bytes)
        for end in (client, upstream, listener):
            end.close()

    threading.Thread(target=serve, daemon=True).start()
    assert answers(to_port)
    return port


def pump(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    passed = 0
    try:
        while (chunk := source.recv(4096)) and (limit is None or passed < limit):
            target.sendall(chunk)
            passed += len(chunk)
        source.shutdown(socket.SHUT_RDWR)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def test_a_jump_host_that_refuses_a_channel_is_a_host_that_cannot_be_reached() -> None:
    """As while the target reboots: whoever waits for it tries again."""
    from paramiko import ChannelException

    class Jump:
        def open_channel(self, *_: object, **__: object) -> None:
            raise ChannelException(2, "Connect failed")

    target = Endpoint(host="pg1", address="192.0.2.1")
    with pytest.raises(TransportError, match="cannot be reached"):
        open_socket(target, Jump(), 1)  # type: ignore[arg-type]
