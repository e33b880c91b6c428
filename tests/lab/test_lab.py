"""The lab, as its user meets it: real hosts, started and damaged."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from builder.errors import MachineError
from builder.machines.base import Power
from builder.machines.lab.provider import LabProvider
from builder.spec.model import ClusterSpec
from builder.transport.base import Endpoint

pytestmark = pytest.mark.lab

SpecMaker = Callable[..., ClusterSpec]


def silent(host: str, what: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def lab(fresh_spec: SpecMaker, start_lab: Callable[[ClusterSpec], LabProvider]) -> LabProvider:
    return start_lab(fresh_spec(["h1", "h2", "a-host-with-a-name-that-is-long"]))


@pytest.fixture
def two(lab: LabProvider) -> Iterator[LabProvider]:
    """The lab, whole before and after."""
    lab.up(silent)
    yield lab
    for host, power in lab.power().items():
        if power is Power.RUNNING:
            lab.thaw(host)
    lab.heal()


def run_in(lab: LabProvider, host: str, script: str) -> subprocess.CompletedProcess[str]:
    argv = lab.host(host).entering(["sh", "-c", script])
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


def said(lab: LabProvider, host: str, script: str) -> str:
    done = run_in(lab, host, script)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def pings(lab: LabProvider, a: str, b: str) -> bool:
    address = lab.layout.addresses[b]
    return run_in(lab, a, f"ping -c 2 -i 0.2 -W 1 {address}").returncode == 0


def greets(address: str) -> bool:
    """Does sshd say hello within two seconds?"""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def over_ssh(endpoint: Endpoint, command: str) -> str:
    """What a command says over SSH, when only the pinned key is accepted."""
    with paramiko.SSHClient() as client:
        kind, key = endpoint.host_keys[0].split()[:2]
        pinned = paramiko.PKey.from_type_string(kind, paramiko.util.b(_decoded(key)))
        client.get_host_keys().add(endpoint.address, kind, pinned)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(
            endpoint.address,
            username=endpoint.user,
            key_filename=str(endpoint.identity_files[0]),
            allow_agent=False,
            look_for_keys=False,
        )
        return client.exec_command(command)[1].read().decode().strip()


def _decoded(key: str) -> bytes:
    import base64

    return base64.b64decode(key)


def test_up_again_starts_nothing(lab: LabProvider) -> None:
    assert lab.up(silent) == []


def test_every_host_opens_to_the_lab_key_and_shows_the_pinned_host_key(lab: LabProvider) -> None:
    for name, endpoint in lab.endpoints().items():
        assert over_ssh(endpoint, "hostname") == name


def test_hosts_are_systems_of_their_own_without_failed_units(lab: LabProvider) -> None:
    identities = {said(lab, host, "cat /etc/machine-id") for host in lab.layout.addresses}
    assert len(identities) == len(lab.layout.addresses)
    assert len({endpoint.host_keys for endpoint in lab.endpoints().values()}) == len(identities)
    for host in lab.layout.addresses:
        assert said(lab, host, "systemctl is-system-running --wait") == "running"


def test_sysctls_of_the_network_are_applied_at_boot(two: LabProvider) -> None:
    said(two, "h1", "echo net.ipv4.ip_nonlocal_bind=1 > /etc/sysctl.d/50-test.conf")
    two.stop("h1")
    two.start("h1")
    assert said(two, "h1", "sysctl -n net.ipv4.ip_nonlocal_bind") == "1"


def test_apt_installs_a_package_through_the_machine(lab: LabProvider) -> None:
    said(lab, "h1", "apt-get -q -y install tree && tree --version")
    said(lab, "h2", "apt-get -q update && apt-get -q -y install tree && tree --version")


def test_a_stopped_host_comes_back_as_itself(two: LabProvider) -> None:
    said(two, "h1", "echo kept > /root/note")
    identity, keys = said(two, "h1", "cat /etc/machine-id"), two.endpoints()["h1"].host_keys
    two.stop("h1")
    assert two.power()["h1"] is Power.STOPPED
    assert not greets(str(two.layout.addresses["h1"]))
    assert two.up(silent) == ["h1"]
    assert said(two, "h1", "cat /etc/machine-id /root/note") == f"{identity}\nkept"
    assert two.endpoints()["h1"].host_keys == keys


def test_a_killed_host_says_no_farewell(two: LabProvider) -> None:
    said(two, "h1", "echo survives > /root/note")
    with socket.create_connection((str(two.layout.addresses["h1"]), 22)) as connection:
        assert connection.recv(4) == b"SSH-"
        connection.recv(1000)
        two.kill("h1")
        assert two.power() == {**two.power(), "h1": Power.STOPPED, "h2": Power.RUNNING}
        connection.settimeout(1)
        with pytest.raises(TimeoutError):  # neither FIN nor RST
            connection.recv(1)
    two.start("h1")
    assert said(two, "h1", "cat /root/note") == "survives"


def test_a_frozen_host_accepts_and_says_nothing_until_thawed(two: LabProvider) -> None:
    address = str(two.layout.addresses["h1"])
    two.freeze("h1")
    assert two.frozen() == {"h1"}
    assert not greets(address)
    assert pings(two, "h2", "h1")  # the kernel still answers
    two.thaw("h1")
    assert greets(address)
    two.freeze("h1")
    two.kill("h1")
    assert two.power()["h1"] is Power.STOPPED


def test_a_host_reboots_by_itself(two: LabProvider) -> None:
    before = said(two, "h1", "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1")
    run_in(two, "h1", "systemctl reboot")
    deadline = time.monotonic() + 30
    while not run_is_new(two, before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    two.up(silent)
    assert pings(two, "h2", "h1")


def run_is_new(lab: LabProvider, before: str) -> bool:
    with contextlib.suppress(MachineError):
        script = "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1"
        done = run_in(lab, "h1", script)
        return done.returncode == 0 and done.stdout.strip() != before
    return False


def test_a_cut_link_is_cut_for_these_two_only(two: LabProvider) -> None:
    third = "a-host-with-a-name-that-is-long"
    two.cut("h1", third)
    assert not pings(two, "h1", third)
    assert not pings(two, third, "h1")
    assert pings(two, "h1", "h2")
    assert greets(str(two.layout.addresses["h1"]))
    two.cut("h2", "gateway")
    assert not greets(str(two.layout.addresses["h2"]))
    two.heal()
    assert pings(two, "h1", third)
    assert greets(str(two.layout.addresses["h2"]))


def test_a_link_can_be_cut_one_way(two: LabProvider) -> None:
    receive = "timeout 30 python3 -c 'import socket; s = socket.socket(2, 2); s.settimeout({});"
    receive += ' s.bind(("", 9000)); print("ready", flush=True); print(s.recv(9).decode())\''
    assert pings(two, "h1", "h2")  # both know the other's MAC
    two.cut("h1", "h2", both_ways=False)
    for sender, receiver, arrives in (("h1", "h2", False), ("h2", "h1", True)):
        argv = two.host(receiver).entering(["sh", "-c", receive.format(20 if arrives else 5)])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as listener:
            assert listener.stdout
            assert listener.stdout.readline() == b"ready\n"
            address = two.layout.addresses[receiver]
            send = f"for i in 1 2 3 4 5 6; do echo hello > /dev/udp/{address}/9000; sleep 0.2; done"
            run_in(two, sender, f"bash -c '{send}'")
            assert (b"hello" in listener.communicate()[0]) == arrives


def test_a_lossy_link_loses_about_its_share(two: LabProvider) -> None:
    assert pings(two, "h1", "h2")
    two.lossy("h1", "h2", 50, both_ways=False)
    address = two.layout.addresses["h2"]
    output = run_in(two, "h1", f"ping -q -c 200 -i 0.01 -W 1 {address}").stdout
    lost = float(output.partition("% packet loss")[0].split()[-1])
    assert 30 < lost < 70


def test_a_virtual_ip_moves_and_stays(two: LabProvider) -> None:
    vip = str(two.layout.network[100])
    announce = (
        "import socket,sys; s=socket.socket(17,3); s.bind(('host0',0x806));"
        "m=s.getsockname()[4]; ip=socket.inet_aton(sys.argv[1]); b=bytes([255]*6);"
        "s.send(b+m+bytes.fromhex('08060001080006040001')+m+ip+b+ip)"
    )
    seen = []
    for holder, other in (("h1", "h2"), ("h2", "h1"), ("h1", "h2")):
        run_in(two, other, f"ip address delete {vip}/32 dev host0")
        said(two, holder, f'ip address replace {vip}/32 dev host0; python3 -c "{announce}" {vip}')
        seen.append(_host_key_at(vip) == two.endpoints()[holder].host_keys[0].split()[1])
    assert seen == [True] * 3
    assert vip in said(two, "h1", "systemctl restart pgha-lab-network; ip -4 address")
    said(two, "h1", f"ip address delete {vip}/32 dev host0")


def _host_key_at(address: str) -> str:
    with paramiko.Transport((address, 22)) as transport:
        transport.start_client(timeout=5)
        return transport.get_remote_server_key().get_base64()


def test_a_network_that_somebody_uses_is_refused(lab: LabProvider, fresh_spec: SpecMaker) -> None:
    other = fresh_spec(["x1"])
    inside = replace(other.hosts["x1"], address=str(lab.layout.network[200]))
    with pytest.raises(MachineError, match=f"the lab {lab.layout.name} uses"):
        LabProvider(replace(other, hosts={"x1": inside})).up(silent)
    route = json.loads(subprocess.check_output(["ip", "-j", "route", "show", "default"]))
    gateway = replace(other.hosts["x1"], address=route[0]["gateway"])
    with pytest.raises(MachineError, match="this machine has a route"):
        LabProvider(replace(other, hosts={"x1": gateway})).up(silent)
    assert not LabProvider(other).layout.directory.exists()


def test_up_repairs_what_somebody_broke(two: LabProvider) -> None:
    subprocess.run(["ip", "link", "delete", two.layout.veth], check=True)
    assert set(two.up(silent)) == set(two.layout.addresses)
    assert all(greets(str(address)) for address in two.layout.addresses.values())


def world() -> dict[str, set[str]]:
    """What a lab could leave on a machine, as its tools show it."""
    looks = {
        "links": ["ip", "-o", "-br", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "namespaces": ["ip", "netns"],
        "mounts": ["cat", "/proc/mounts"],
        "nftables": ["nft", "list", "tables"],
        "processes": ["ps", "-eo", "pid,args"],
        "cgroups": ["find", "/sys/fs/cgroup", "-type", "d"],
        "state": ["find", "/var/lib/pgha-build", "/run/systemd/nspawn", "-maxdepth", "2"],
    }
    return {what: set(_lines(argv)) for what, argv in looks.items()}


def _lines(argv: list[str]) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def traces(lab: LabProvider) -> dict[str, list[str]]:
    """Whatever in the world carries one of this lab's names or addresses."""
    layout = lab.layout
    marks = {layout.name, layout.veth, layout.table, str(layout.network)[:-4]}
    marks |= {layout.place(host).machine for host in layout.addresses}
    found = {
        what: [line for line in lines if any(mark in line for mark in marks)]
        for what, lines in world().items()
    }
    return {what: lines for what, lines in found.items() if lines}


def test_down_leaves_nothing(fresh_spec: SpecMaker) -> None:
    lab = LabProvider(fresh_spec())
    assert not traces(lab)
    lab.up(silent)
    lab.cut("h1", "h2")
    lab.freeze("h1")
    lab.kill("h2")
    assert set(traces(lab)) >= {"links", "routes", "namespaces", "nftables", "cgroups", "state"}
    lab.destroy(silent)
    assert not traces(lab)
    lab.destroy(silent)
    assert not traces(lab)
    assert set(lab.power().values()) == {Power.ABSENT}


UP = """
import sys; sys.path[:0] = {path!r}
import pickle
from builder.machines.lab.provider import LabProvider
LabProvider(pickle.load(sys.stdin.buffer)).up(lambda host, what: print(host, what, flush=True))
"""


@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.8, 1.2])
def test_up_works_after_a_killed_up(seconds: float, fresh_spec: SpecMaker) -> None:
    import pickle

    spec = fresh_spec(["h1", "h2", "h3"])
    lab = LabProvider(spec)
    argv = [sys.executable, "-c", UP.format(path=sys.path)]
    try:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as killed:
            assert killed.stdin
            killed.stdin.write(pickle.dumps(spec))
            killed.stdin.close()
            time.sleep(seconds)
            killed.kill()
        lab.up(silent)
        assert all(greets(str(address)) for address in lab.layout.addresses.values())
        assert all(over_ssh(end, "hostname") == name for name, end in lab.endpoints().items())
    finally:
        lab.destroy(silent)
    assert not traces(lab)


def test_two_labs_live_side_by_side(lab: LabProvider, fresh_spec: SpecMaker) -> None:
    other = LabProvider(fresh_spec(["h1"], release="bookworm"))
    try:
        other.up(silent)
        assert over_ssh(other.endpoints()["h1"], "cat /etc/debian_version").startswith("12")
        assert over_ssh(lab.endpoints()["h1"], "cat /etc/debian_version").startswith("13")
    finally:
        other.destroy(silent)
    assert greets(str(lab.layout.addresses["h1"]))
    assert Path("/sys/class/net", lab.layout.veth).exists()
