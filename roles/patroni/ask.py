"""Questions that a database host asks its own Patroni, as shell. Pure.

Who leads is asked at the moment it matters, never assumed.
"""

from __future__ import annotations

from builder.resources.base import quoted
from builder.spec.model import ClusterSpec, Host
from roles._failover import timings
from roles.patroni.settings import CONFIG, TLS, members, server

_CTL = f"patronictl -c {CONFIG}/config.yml"
_CURL = f'curl -sf --connect-timeout 2 -m 5 --cacert {TLS}/ca.crt "$url"'

# Patroni 3.0 does not tell «streaming» from «running».
_COUNT = """\
import json, sys
try: members = json.load(sys.stdin)["members"]
except ValueError: sys.exit("Patroni does not answer yet")
leaders = [m for m in members if m["role"] == "leader" and m["state"] == "running"]
near = lambda m: isinstance(m.get("lag"), int) and m["lag"] < 1 << 20
streams = lambda m: m["state"] == "streaming" or m["state"] == "running" and near(m)
replicas = [m for m in members if m["role"] != "leader" and streams(m)]
synchronous = [m for m in replicas if m["role"] in ("sync_standby", "quorum_standby")]
enough = len(replicas) >= int(sys.argv[1]) and len(synchronous) >= int(sys.argv[2])
if len(leaders) == 1 and enough: sys.exit(0)
told = ["%s is %s, %s" % (m["name"], m["role"].replace("_", " "), m["state"]) for m in members]
there = {m["name"] for m in members}
told += [name + " is not there" for name in sys.argv[3:] if name not in there]
print("; ".join(told))
sys.exit(1)
"""


def led(spec: ClusterSpec) -> str:
    """Somebody holds the lock and has been promoted.

    At a cluster's birth PostgreSQL takes writes before Patroni has made its roles and takes the
    lock (patroni/ha.py, `post_bootstrap`); at a failover the lock comes first.
    """
    promoted = """grep -qE '"role": *"(primary|master)"'"""
    return (
        f"for url in {_urls(spec)}; do {_CURL}/primary | {promoted} && exit 0; done\n"
        'echo "nobody leads yet"; exit 1'
    )


def complete(spec: ClusterSpec) -> str:
    """There is one leader, and as many streaming replicas as there are other hosts."""
    return _has(spec, replicas=len(members(spec)) - 1, synchronous=0)


def can_spare_the_leader(spec: ClusterSpec) -> str:
    """There is a leader, and a replica that may take over from it without loss.

    In synchronous mode Patroni chooses it some seconds after it began to stream.
    """
    return _has(spec, replicas=1, synchronous=int(spec.sections["failover"]["synchronous"]))


def _has(spec: ClusterSpec, *, replicas: int, synchronous: int) -> str:
    """By what the first Patroni that answers reads from etcd: patronictl takes a second."""
    names = [host.name for host in members(spec)]
    count = quoted(("python3", "-c", _COUNT, str(replicas), str(synchronous), *names))
    return f"for url in {_urls(spec)}; do {_CURL}/cluster && break; done | {count}"


def _urls(spec: ClusterSpec) -> str:
    port = spec.sections["patroni"]["rest_port"]
    return quoted(f"https://{host.address}:{port}" for host in members(spec))


def answers(spec: ClusterSpec, host: Host, path: str, seconds: float = 10) -> str:
    """Patroni's own answer at `path` is 200."""
    return f'[ "$({_asks(spec, host, path, seconds)})" = 200 ]'


def _asks(spec: ClusterSpec, host: Host, path: str, seconds: float) -> str:
    """Prints the HTTP status, 000 for none."""
    url = f"https://{host.address}:{spec.sections['patroni']['rest_port']}{path}"
    return f"curl -s -m {seconds:g} --cacert {TLS}/ca.crt -o /dev/null -w '%{{http_code}}' {url}"


def lets_in_whom_it_should(spec: ClusterSpec) -> str:
    """PostgreSQL goes by the pg_hba.conf that Patroni's file asks for, or is down.

    Told to reload, Patroni does so when its next loop begins, up to `loop_wait` later.
    """
    postgresql = server(spec)
    hba = quoted([f"{postgresql.data}/pg_hba.conf"])
    loaded = (
        "SELECT pg_conf_load_time() >= (pg_stat_file(current_setting('hba_file'))).modification"
    )
    return (
        f"wanted=$(sed -nE 's/^    - ((local|host|hostssl) .*)/\\1/p' {CONFIG}/config.yml)\n"
        f'[ "$wanted" = "$(grep -E "^(local|host|hostssl) " {hba})" ] || '
        "{ echo 'Patroni has not written pg_hba.conf yet'; exit 1; }\n"
        f"loaded=$({postgresql.psql('-c', loaded)} 2>/dev/null </dev/null) || exit 0\n"
        '[ "$loaded" = t ] || { echo "PostgreSQL has not read pg_hba.conf yet"; exit 1; }'
    )


def leads(spec: ClusterSpec, host: Host) -> str:
    """Prints `primary` where Patroni would have this host written to, as HAProxy asks it."""
    seconds = timings(spec).check_timeout / 2
    return f"{answers(spec, host, '/primary', seconds)} && echo primary"


def turn(spec: ClusterSpec, host: Host) -> str:
    """Prints 1 on the leader and 0 elsewhere: of a rolling change, the leader's turn is last."""
    return f"{answers(spec, host, '/leader')} && echo 1 || echo 0"


def gives_lead_away(spec: ClusterSpec, host: Host) -> str:
    """Holds once this host does not lead; while it does, it hands over to whom Patroni allows.

    In synchronous mode that is a synchronous standby, and there may be none for a moment. A Patroni
    that takes a connection and says nothing may well lead; one that takes none has ended.
    """
    if len(members(spec)) == 1:
        return ":"
    switch = f"{_CTL} switchover --leader {host.name} --force {spec.name}"
    return (
        f"status=0; code=$({_asks(spec, host, '/leader', 10)}) || status=$?\n"
        # 28: timed out
        '[ $status != 28 ] || { echo "Patroni does not say whether it leads"; exit 1; }\n'
        '[ "$code" = 200 ] || exit 0\n'
        f"r=$({switch} 2>&1 | grep -iE 'error|fail|no ' | tail -n 1)\n"
        'echo "${r:-it hands over}"; exit 1'
    )
