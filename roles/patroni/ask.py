"""Questions that a database host asks its own Patroni, as shell. Pure.

Who leads is asked at the moment it matters, never assumed.
"""

from __future__ import annotations

from builder.resources.base import quoted
from builder.spec.model import ClusterSpec, Host
from roles._failover import timings
from roles.patroni.settings import CONFIG, REST_USER, TLS, members, server

_CTL = f"patronictl -c {CONFIG}/config.yml"
_CURL = f'curl -sf --connect-timeout 2 -m 5 --cacert {TLS}/ca.crt "$url"'

# Patroni 3.0 does not tell «streaming» from «running».
_MEMBERS = """\
import json, sys
text, said = sys.stdin.read().strip(), []
while text:
    try: found, end = json.JSONDecoder().raw_decode(text)
    except ValueError: break
    said.append(found)
    text = text[end:].lstrip()
own = [one for one in said if "patroni" in one]
members = next((one["members"] for one in said if "members" in one), None)
if members is None: sys.exit("Patroni does not answer yet")
old = any(one["patroni"]["version"].startswith("3.0.") for one in own)
leaders = [m["name"] for m in members if m["role"] == "leader" and m["state"] == "running"]
near = lambda m: isinstance(m.get("lag"), int) and m["lag"] < 1 << 20
streams = lambda m: m["state"] == "streaming" or old and m["state"] == "running" and near(m)
replicas = [m["name"] for m in members if m["role"] != "leader" and streams(m)]
def end(status):
    told = ["%s is %s, %s" % (m["name"], m["role"].replace("_", " "), m["state"]) for m in members]
    there = {m["name"] for m in members}
    print("; ".join(told + [name + " is not there" for name in names if name not in there]))
    sys.exit(status)
"""
_COUNT = """\
wanted, names = [int(word) for word in sys.argv[1:3]], sys.argv[3:]
roles = {m["name"]: m["role"] for m in members}
waited_for = [r for r in replicas if roles[r] in ("sync_standby", "quorum_standby")]
if len(leaders) == 1 and len(replicas) >= wanted[0] and len(waited_for) >= wanted[1]: sys.exit(0)
# 75: it is under way. By what the leader sends, for a copy that fails is begun anew for ever.
end(75 if any(r["state"] == "backup" for one in own for r in one.get("replication") or ()) else 1)
"""
_TURN = """\
print(2 if sys.argv[1] in leaders else int(sys.argv[1] in replicas))
"""
_OTHERS = """\
own, names = sys.argv[1], sys.argv[2:]
well = {*leaders, *replicas}
end(0 if own not in well or leaders and well.issuperset(names) else 1)
"""


def configured(spec: ClusterSpec) -> str:
    """A Patroni answers with what etcd holds as configuration, since the cluster's birth."""
    return (
        f"for url in {_urls(spec)}; do {_CURL}/config >/dev/null && exit 0; done\n"
        'echo "Patroni does not answer yet"; exit 1'
    )


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
    names = [host.name for host in members(spec)]
    return _judged(spec, _COUNT, str(replicas), str(synchronous), *names)


def may_be_missed(spec: ClusterSpec, host: Host) -> str:
    """All others are well; or this one is not, or nobody answers, and nothing is lost with it."""
    others = [other.name for other in members(spec) if other != host]
    return _judged(spec, _OTHERS, host.name, *others, silent="exit 0") if others else ":"


def restart_turn(spec: ClusterSpec, host: Host) -> str:
    """Prints 0 on a member that is not well, 1 on a replica, 2 on the leader.

    A replica that is well is not restarted while another is not, which its own restart may mend.
    """
    silent = f"{_writes(spec)} && echo 2 || echo 0; exit 0"
    return f"( {_judged(spec, _TURN, host.name, silent=silent)}\n) || echo 0"


def _judged(spec: ClusterSpec, judge: str, *words: str, silent: str = ":") -> str:
    """By etcd, as the first Patroni that answers reads it, and what each says of itself.

    patronictl takes a second for that. `silent` is carried out where none answers.
    """
    curl = f'{_CURL}/cluster --fail-early "$url/patroni"'
    python = quoted(("python3", "-c", _MEMBERS + judge, *words))
    asked = f'seen=; for url in {_urls(spec)}; do seen="$seen $({curl})" || :; done'
    heard = f"case $seen in *[![:space:]]*) ;; *) {silent} ;; esac"
    return f"{asked}\n{heard}\nprintf '%s\\n' \"$seen\" | {python}"


def _writes(spec: ClusterSpec) -> str:
    """PostgreSQL here is a primary, by what it says itself."""
    asked = server(spec).psql("-c", "SELECT NOT pg_is_in_recovery()")
    return f'[ "$({asked} 2>/dev/null </dev/null)" = t ]'


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


_SHOWN = """\
import ssl, sys
host, port, file = sys.argv[1:]
der = ssl.PEM_cert_to_DER_cert
try: shown = der(ssl.get_server_certificate((host, int(port)), timeout=5))
except OSError as error: sys.exit("Patroni shows no certificate: %s" % error)
if shown != der(open(file).read()): sys.exit("Patroni does not show its new certificate yet")
"""


def has_reloaded(spec: ClusterSpec, host: Host) -> str:
    """What was reloaded is in force: told to, Patroni does so when its next loop begins."""
    port = str(spec.sections["patroni"]["rest_port"])
    shows = quoted(("python3", "-c", _SHOWN, host.address, port, f"{TLS}/server.crt"))
    return f"{shows} || exit 1\n{_takes_its_password(host, port)}\n{_lets_in_whom_it_should(spec)}"


def _takes_its_password(host: Host, port: str) -> str:
    """Patroni lets in who has the REST API's password of its file: with an old one it says 401.

    A change that changes nothing is asked for, and refused as such, with 400: who may ask is looked
    at first (patroni/api.py, `check_access` before `_read_json_content`).
    """
    tls = f"--cacert {TLS}/ca.crt --cert {TLS}/server.crt --key {TLS}/server.key"
    return (
        "said=$(sed -nE '/^restapi:/,/^$/s/^    password: (.*)/"
        f'user = "{REST_USER}:\\1"/p\' {CONFIG}/config.yml |\n'
        f"    curl -s -m 5 {tls} -K - -X PATCH -d '{{}}' -o /dev/null -w '%{{http_code}}' "
        f"https://{host.address}:{port}/config)\n"
        '[ "$said" = 400 ] || { echo "Patroni does not take its new password yet: $said"; exit 1; }'
    )


def _lets_in_whom_it_should(spec: ClusterSpec) -> str:
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
        f"{{ {postgresql.psql('-c', 'SELECT')} >/dev/null 2>&1 </dev/null || exit 0; "
        "echo 'Patroni has not written pg_hba.conf yet'; exit 1; }\n"
        f"loaded=$({postgresql.psql('-c', loaded)} 2>/dev/null </dev/null) || exit 0\n"
        '[ "$loaded" = t ] || { echo "PostgreSQL has not read pg_hba.conf yet"; exit 1; }'
    )


_LEADS = """\
import signal, socket, ssl, sys
host, port, file, seconds = sys.argv[1:]
tls = ssl.create_default_context(cafile=file)
def late(*_): raise TimeoutError
signal.signal(signal.SIGALRM, late)
for _ in sys.stdin:
    said = b""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, float(seconds))
            with socket.create_connection((host, port)) as one:
                with tls.wrap_socket(one, server_hostname=host) as asked:
                    asked.sendall(b"OPTIONS /primary HTTP/1.0\\r\\n\\r\\n")
                    said = asked.makefile("rb").readline()
        finally: signal.setitimer(signal.ITIMER_REAL, 0)
    except OSError: pass
    print("primary" if b" 200 " in said else "", flush=True)
"""


def leads(spec: ClusterSpec, host: Host) -> str:
    """Prints `primary` where Patroni would have this host written to, as HAProxy asks it.

    At each line that it reads: what is asked many times is not started for each.
    """
    port, seconds = spec.sections["patroni"]["rest_port"], min(1.0, timings(spec).check_timeout / 2)
    words = (host.address, str(port), f"{TLS}/ca.crt", f"{seconds:g}")
    return quoted(("python3", "-c", _LEADS, *words))


def turn(spec: ClusterSpec, host: Host) -> str:
    """Prints 1 on the leader and 0 elsewhere: of a rolling change, the leader's turn is last."""
    return f"{answers(spec, host, '/leader')} && echo 1 || echo 0"


def gives_lead_away(spec: ClusterSpec, host: Host) -> str:
    """Holds once this host does not lead; while it does, it hands over to whom Patroni allows.

    In synchronous mode that is a synchronous standby, and there may be none for a moment. A Patroni
    that takes a connection and says nothing may well lead, and so may one whose answer cannot be
    had in another way: then PostgreSQL is asked. One that takes none has ended.
    """
    if len(members(spec)) == 1:
        return ":"
    switch = f"{_CTL} switchover --leader {host.name} --force {spec.name}"
    return (
        f"status=0; code=$({_asks(spec, host, '/leader', 10)}) || status=$?\n"
        # 28: timed out
        '[ $status != 28 ] || { echo "Patroni does not say whether it leads"; exit 1; }\n'
        '[ $status = 0 ] || [ "$(systemctl show -P MainPID patroni)" = 0 ] || '
        f"! {_writes(spec)} || code=200\n"
        '[ "$code" = 200 ] || exit 0\n'
        f"r=$({switch} 2>&1 | grep -iE 'error|fail|no ' | tail -n 1)\n"
        'echo "${r:-it hands over}"; exit 1'
    )


def makes_way(spec: ClusterSpec, host: Host) -> str:
    """It leads no more, and can be spared: what a restart waits for.

    While Patroni is paused, its restart does not restart PostgreSQL, and would count as if it had.
    """
    url = f"https://{host.address}:{spec.sections['patroni']['rest_port']}"
    return (
        f"case $(url={url}; {_CURL}/patroni) in *'\"pause\": true'*)\n"
        '  echo "Patroni is paused: pgha-build ops resume"; exit 1 ;;\nesac\n'
        f"( {gives_lead_away(spec, host)}\n) || exit 1\n{may_be_missed(spec, host)}"
    )
