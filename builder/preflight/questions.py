"""What one host is asked, as shell, and its answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builder import debian
from builder.machines.data import data
from builder.resources.base import quoted
from builder.spec.model import ClusterSpec, Host

LISTEN_SECONDS = 4  # Keepalived announces every second, or at most every few

_CHEAP = """\
echo "user $(id -u)"
( . /etc/os-release 2>/dev/null; echo "os ${ID:-unknown} ${VERSION_ID:-unknown}" )
echo "init $(cat /proc/1/comm)"
echo "clock $(date +%s)"
echo "synchronised $(timedatectl show -P NTPSynchronized 2>/dev/null)"
echo "hostname $(hostname)"
echo "machine $(cat /etc/machine-id 2>/dev/null)"
echo "memory $(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
ss -Hltnp 2>/dev/null | awk '{ print "listens", $4, $6 }'
for unit in ufw firewalld; do
  systemctl -q is-active $unit 2>/dev/null && echo "firewall $unit"
done
"""

_PATRONI = """\
if systemctl -q is-active patroni 2>/dev/null \
&& ! grep -q 'Managed by pgha-build' /etc/patroni/config.yml 2>/dev/null; then
  echo "patroni foreign"
fi
command -v python3 >/dev/null && echo "python yes"
if [ -e /dev/watchdog ]; then echo "watchdog there"
elif systemctl -q is-active pgha-watchdog.service 2>/dev/null; then echo "watchdog missing"; fi
"""

_DISK = """\
for want in {paths}; do
  there=$want; while [ ! -d "$there" ]; do there=$(dirname "$there"); done
  echo "disk $want $(df -Pm "$there" | awk 'NR == 2 {{ print $4 }}')"
  python3 -c {writes} "$want" "$there" 2>/dev/null
done
"""

# How long the slowest but one of a hundred synchronous writes takes, in microseconds. The file has
# no name by the time it is written to, so that nothing can be left of it.
_WRITES = """\
import os, sys, time
want, there = sys.argv[1:]
name = there + "/.pgha-build-" + str(os.getpid())
flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_DSYNC
file = os.open(name, flags, 0o600)
os.unlink(name)
took = []
end = time.monotonic() + 5
while len(took) < 100 and time.monotonic() < end:
    begin = time.monotonic()
    os.write(file, bytes(4096))
    took.append(time.monotonic() - begin)
print("fsync", want, int(sorted(took)[-1 - len(took) // 100] * 1000000))
"""

# Many a machine does not answer a ping. None that uses an address can hide from ARP.
_ARP = """\
import socket, struct, sys, time
address, own, device = sys.argv[1:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
s.bind((device, 0x0806))
mac, wanted = s.getsockname()[4], socket.inet_aton(address)
head = bytes([255] * 6) + mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
for _ in range(3):
    s.send(head + mac + socket.inet_aton(own) + bytes(6) + wanted)
    end = time.monotonic() + 0.5
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try: packet = s.recv(2048)
        except socket.timeout: break
        if packet[20:22] == bytes([0, 2]) and packet[28:32] == wanted:
            print("virtual answers")
            sys.exit()
"""

# Who announces a virtual router here: address and router id of every VRRP packet.
_VRRP = """\
import socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
group = struct.pack("4s4s", socket.inet_aton("224.0.0.18"), socket.inet_aton(sys.argv[1]))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
end = time.monotonic() + float(sys.argv[2])
seen = set()
while (left := end - time.monotonic()) > 0:
    s.settimeout(left)
    try: packet, (source, _) = s.recvfrom(2048)
    except socket.timeout: break
    head = (packet[0] & 15) * 4
    seen.add((source, packet[head + 1]))
for source, router in sorted(seen): print("router", router, source)
"""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a host said: each word to the lines that began with it, without it."""

    said: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def one(self, word: str) -> str:
        return next(iter(self.said.get(word, ())), "")

    def all(self, word: str) -> Sequence[str]:
        return self.said.get(word, ())


def cheap(spec: ClusterSpec, host: Host) -> str:
    """What costs next to nothing: `apply` asks it of every new host."""
    return f"{_CHEAP}{debian.FOREIGN}{debian.UNATTENDED}{_PATRONI}{_addresses(spec, host)}"


def thorough(spec: ClusterSpec, host: Host, packages: Sequence[str]) -> str:
    """All of it: takes seconds, writes and removes one small file per disk."""
    directory = spec.sections.get("postgresql", {}).get("data_directory")
    paths, writes = quoted(data(host, directory)), quoted([_WRITES])
    parts = [cheap(spec, host), _DISK.format(paths=paths, writes=writes)]
    if packages:
        names = quoted(packages)
        parts.append(
            f'for n in {names}; do echo "wanted $n"; done\n'
            f"{debian.candidates(packages)} 2>/dev/null | "
            'awk \'/^[^ ]/ { name = $1 } $1 == "Candidate:" { print "candidate", name, $2 }\''
        )
    if virtual := virtual_ip(spec):
        words = quoted((_ARP, virtual, host.address))
        device = f"$(ip -o -4 address show to {host.address}/32 | awk '{{ print $2; exit }}')"
        parts.append(
            f"ping -n -q -c 1 -W 1 {virtual} >/dev/null 2>&1 && echo 'virtual answers' || "
            f'python3 -c {words} "{device}" 2>/dev/null'
        )
        if "keepalived" in host.roles:
            words = quoted((_VRRP, host.address, str(LISTEN_SECONDS)))
            parts.append(f"python3 -c {words} 2>/dev/null")
    return "\n".join(parts)


def virtual_ip(spec: ClusterSpec) -> str:
    written = spec.sections.get("keepalived", {}).get("virtual_ip") or ""
    return str(written).split("/")[0]


def _addresses(spec: ClusterSpec, host: Host) -> str:
    ask = "ip -o -4 address show to {0} 2>/dev/null | awk '{{ print \"{1}\", $2 }}'\n"
    text = ask.format(f"{host.address}/32", "interface")
    if virtual := virtual_ip(spec):
        text += ask.format(f"{virtual}/32", "virtual-here")
    return text


def read(output: str) -> Answers:
    said: dict[str, list[str]] = {}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest.strip())
    return Answers(said=said)
