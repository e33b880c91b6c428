"""The provider `vagrant`: virtual machines on libvirt, made by a Vagrantfile."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from builder.errors import MachineError
from builder.machines.base import Power, Progress
from builder.machines.vagrant import record
from builder.machines.vagrant.record import Access
from builder.spec.model import ClusterSpec
from builder.transport.base import Endpoint

_STATES = {
    "running": Power.RUNNING,
    "shutoff": Power.STOPPED,
    "paused": Power.RUNNING,
    "not_created": Power.ABSENT,
}
_KEYS = "cat /etc/ssh/ssh_host_*_key.pub"
_AT_ONCE = 3  # Vagrant is slow to start, and busy while it does


class VagrantProvider:
    """Implements `builder.machines.base.Provider`, and what libvirt can do to a machine's power."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._record = spec.path.parent / ".pgha" / spec.name / "vagrant.json"

    # ── how to reach them ───────────────────────────────────────────────────────────────────────
    def endpoints(self) -> Mapping[str, Endpoint]:
        """From the record; Vagrant is asked only about machines that are new since."""
        root = self._root()
        known = dict(record.load(self._record))
        ids = {name: record.machine_id(root, name) for name in self._spec.hosts}
        fresh = [n for n, now in ids.items() if now and (n not in known or known[n].machine != now)]
        if fresh:
            known |= self._learn(fresh, ids)
            record.save(self._record, known)
        there = {name: access for name, access in known.items() if ids.get(name)}
        return {
            name: _endpoint(name, there.get(name), host.address)
            for name, host in self._spec.hosts.items()
        }

    def _learn(self, names: Sequence[str], ids: Mapping[str, str]) -> Mapping[str, Access]:
        """Ask Vagrant how it logs in, and let it bring the host keys from inside."""
        power = self.power()
        running = [name for name in names if power[name] is Power.RUNNING]
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            found = pool.map(lambda name: self._access(name, ids[name]), running)
            return dict(zip(running, found, strict=True))

    def _access(self, name: str, machine: str) -> Access:
        from paramiko import SSHConfig

        with self._vagrant(f"learn how to reach {name}") as vagrant:
            said = SSHConfig.from_text(vagrant.ssh_config(vm_name=name)).lookup(name)
            keys = vagrant.ssh(vm_name=name, command=_KEYS)
        lines = (line.split() for line in keys.splitlines())
        return Access(
            machine=machine,
            address=said["hostname"],
            port=int(said.get("port", 22)),
            user=said["user"],
            identity_files=tuple(said.get("identityfile", ())),
            host_keys=tuple(" ".join(words[:2]) for words in lines if len(words) >= 2),
        )

    # ── their life ──────────────────────────────────────────────────────────────────────────────
    def power(self) -> Mapping[str, Power]:
        with self._vagrant("say what runs") as vagrant:
            states = {status.name: status.state for status in vagrant.status()}
        return {
            name: _STATES.get(states.get(name, "not_created"), Power.UNKNOWN)
            for name in self._spec.hosts
        }

    def up(self, progress: Progress) -> Sequence[str]:
        power = self.power()
        missing = [name for name, state in power.items() if state is not Power.RUNNING]
        if missing:
            progress("", f"Vagrant makes and starts {', '.join(missing)}")
            with self._vagrant("start the machines") as vagrant:
                _tell(vagrant.up(stream_output=True), progress)
        return missing

    def destroy(self, progress: Progress) -> None:
        progress("", "Vagrant takes the machines down")
        with self._vagrant("destroy the machines") as vagrant:
            vagrant.destroy()
        self._record.unlink(missing_ok=True)

    def kill(self, host: str) -> None:
        """Cut the machine's power."""
        with self._vagrant(f"cut the power of {host}") as vagrant:
            vagrant.halt(vm_name=host, force=True)

    def start(self, host: str) -> None:
        """Switch a machine on, and wait until SSH answers."""
        with self._vagrant(f"start {host}") as vagrant:
            vagrant.up(vm_name=host, provision=False)

    def freeze(self, host: str) -> None:
        """Hang the machine (libvirt pauses its processors)."""
        with self._vagrant(f"pause {host}") as vagrant:
            vagrant.suspend(vm_name=host)

    def thaw(self, host: str) -> None:
        with self._vagrant(f"resume {host}") as vagrant:
            vagrant.resume(vm_name=host)

    # ── Vagrant itself ──────────────────────────────────────────────────────────────────────────
    def _root(self) -> Path:
        """Beside cluster.yml: another further up may be another's, or another cluster's."""
        here = self._spec.path.parent
        if (here / "Vagrantfile").is_file():
            return here
        raise MachineError(
            f"there is no Vagrantfile in {here}",
            why="machines.provider is `vagrant`; the Vagrantfile makes the machines.",
            do="pgha-build init --provider vagrant writes one beside cluster.yml.",
        )

    @contextmanager
    def _vagrant(self, what: str) -> Iterator[Any]:
        """python-vagrant, and its complaints as ours: it keeps stderr only in a file."""
        from vagrant import Vagrant

        root = self._root()
        with tempfile.TemporaryFile() as errors:
            make: Any = Vagrant
            tool = make(root=root, env=self._environment(), err_cm=_same(errors))
            try:
                yield tool
            except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()
                raise MachineError(
                    f"Vagrant could not {what}: {said or error}",
                    do=f"Try `vagrant status` in {root}; it needs the package vagrant-libvirt.",
                ) from error

    def _environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "PGHA_SPEC": str(self._spec.path),
            "PGHA_BUILD": shlex.join([sys.executable, "-m", "builder"]),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        }


def _same(file: IO[bytes]) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        yield file

    return opened


def _endpoint(name: str, access: Access | None, address: str) -> Endpoint:
    """A machine that is not there yet has no key that we would accept."""
    if access is None:
        return Endpoint(host=name, address=address, user="vagrant", agent=False)
    return Endpoint(
        host=name,
        address=access.address,
        port=access.port,
        user=access.user,
        identity_files=tuple(Path(file) for file in access.identity_files),
        host_keys=access.host_keys,
        agent=False,
    )


def _tell(lines: Iterator[str], progress: Progress) -> None:
    """`==> etcd1: Starting domain.` is progress of etcd1; what is indented beneath is detail."""
    for line in lines:
        if line.startswith("==> "):
            host, _, text = line[4:].strip().partition(": ")
            progress(host, text.rstrip("."))
