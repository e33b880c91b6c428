#!/usr/bin/env python3
"""How long does `plan` take, beside as many parallel `ssh host true`, as hosts are added?

Run as root: `.venv/bin/python bench/plan.py [7 14 24]`. It starts lab clusters of its own. Each
round measures both, one after the other, so that a busy machine slows both; medians are compared.
Written down in docs/explanation/speed.md. Promises: at most 2 times for seven hosts with nothing to
do; a further host at most 1.5 times what a further ssh costs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "pgha-build")
NETWORK = "10.98.0"
ROUNDS = 9


def spec(count: int) -> str:
    """3 etcd, 2 database hosts, and balancers for the rest."""
    hosts = [f"  etcd{n}: {{address: {NETWORK}.{10 + n}, roles: [etcd]}}" for n in (1, 2, 3)]
    hosts += [f"  pg{n}: {{address: {NETWORK}.{20 + n}, roles: [patroni]}}" for n in (1, 2)]
    hosts += [
        f"  lb{n}: {{address: {NETWORK}.{30 + n}, roles: [haproxy, keepalived]}}"
        for n in range(1, count - 4)
    ]
    listed = "\n".join(hosts)
    return f"name: bench\nhosts:\n{listed}\nkeepalived: {{virtual_ip: {NETWORK}.100/24}}\n"


def seconds(*argv: str, cwd: Path) -> float:
    start = time.perf_counter()
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - start


def parallel_ssh(folder: Path, addresses: list[str]) -> float:
    key = "/var/lib/pgha-build/lab/bench/id_ed25519"
    known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    calls = "\n".join(
        f"ssh -F /dev/null -i {key} {known} root@{address} true &" for address in addresses
    )
    return seconds("sh", "-c", f"{calls}\nwait", cwd=folder)


def measure(folder: Path, count: int) -> tuple[float, float]:
    """Medians of (ssh, plan) in seconds."""
    (folder / "cluster.yml").write_text(spec(count))
    subprocess.run([COMMAND, "up", "--yes"], cwd=folder, check=True, capture_output=True)
    addresses = [f"{NETWORK}.{10 + n}" for n in (1, 2, 3)] + [f"{NETWORK}.{20 + n}" for n in (1, 2)]
    addresses += [f"{NETWORK}.{30 + n}" for n in range(1, count - 4)]
    ssh, plan = [], []
    for _ in range(ROUNDS):
        ssh.append(parallel_ssh(folder, addresses))
        plan.append(seconds(COMMAND, "plan", cwd=folder))
    return statistics.median(ssh), statistics.median(plan)


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [7, 14, 24]
    rows: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            for count in counts:
                ssh, plan = measure(folder, count)
                rows.append((count, ssh, plan))
                print(
                    f"{count:3} hosts: ssh {ssh:.3f} s, plan {plan:.3f} s, {plan / ssh:.2f} times"
                )
        finally:
            subprocess.run([COMMAND, "destroy", "--yes"], cwd=folder, check=False)
    if len(rows) > 1:
        (first, ssh1, plan1), (last, ssh2, plan2) = rows[0], rows[-1]
        ssh, plan = (ssh2 - ssh1) / (last - first), (plan2 - plan1) / (last - first)
        print(f"a further host: ssh {ssh:.3f} s, plan {plan:.3f} s, {plan / ssh:.2f} times")
    print(json.dumps([{"hosts": n, "ssh": s, "plan": p} for n, s, p in rows]))


if __name__ == "__main__":
    main()
