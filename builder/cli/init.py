"""`pgha-build init`: a commented cluster.yml, and its secrets."""

from __future__ import annotations

import argparse
from pathlib import Path

import builder
from builder.errors import SpecError
from builder.workspace import Workspace

TEMPLATE = """\
# What pgha-build makes of this: docs/reference/cluster.yml.md
name: {name}

# Where the hosts come from. lab: systemd-nspawn hosts on this machine; vagrant: virtual machines
# on libvirt; existing: over SSH.
machines:
  provider: {provider}

hosts:
  etcd1: {{address: {net}.11, roles: [etcd]}}
  etcd2: {{address: {net}.12, roles: [etcd]}}
  etcd3: {{address: {net}.13, roles: [etcd]}}
  pg1: {{address: {net}.21, roles: [patroni]}}
  pg2: {{address: {net}.22, roles: [patroni]}}
  lb1: {{address: {net}.31, roles: [haproxy, keepalived]}}
  lb2: {{address: {net}.32, roles: [haproxy, keepalived]}}

# How fast a failure is noticed, and whether a failover may lose a commit (never, when synchronous).
failover: {{preset: lan, synchronous: true}}

postgresql:
  version: 17
  users:
    - name: app          # its password is generated: see .pgha/{name}/pgpass
  databases:
    - {{name: app, owner: app}}

# Clients connect here: 5432 writes, 5433 reads.
keepalived:
  virtual_ip: {net}.100/24
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="orders", help="name of the cluster (default: orders)")
    parser.add_argument(
        "--provider",
        default="lab",
        choices=("lab", "vagrant", "existing"),
        help="where the hosts come from (default: lab)",
    )


def run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    text = TEMPLATE.format(name=arguments.name, provider=arguments.provider, net="10.77.0")
    written = False
    try:
        with path.open("x") as file:
            file.write(text)
        written = True
        print(f"{path}: written.")
    except FileExistsError:
        print(f"{path}: is there already, left as it is.")
    if arguments.provider == "vagrant":
        _write_vagrantfile(path.absolute().parent)
    try:
        workspace = Workspace.open(path)
    except SpecError:
        if written:
            path.unlink()
        raise
    workspace.keep_secrets()
    print(f"{workspace.store.path}: secrets, readable by you only. Keep a copy in a safe place.")
    return 0


def _write_vagrantfile(folder: Path) -> None:
    """Ours, unless there is one."""
    if (folder / "Vagrantfile").is_file():
        return
    packed = Path(builder.__file__).parent / "_templates" / "Vagrantfile"
    source = packed if packed.is_file() else Path(builder.__file__).parents[1] / "Vagrantfile"
    (folder / "Vagrantfile").write_text(source.read_text())
    print(f"{folder / 'Vagrantfile'}: written.")
