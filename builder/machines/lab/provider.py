"""The provider `lab`: makes, finds and unmakes the nspawn hosts of one cluster.

`up` and `destroy` hold the lab's lock; whatever a killed one left behind, the next one clears.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from builder.errors import MachineError
from builder.machines.base import Power, Progress
from builder.machines.lab import links, network
from builder.machines.lab.cgroup import Group
from builder.machines.lab.commands import run
from builder.machines.lab.files import HostFile, lab_files
from builder.machines.lab.host import LabHost
from builder.machines.lab.keys import ensure_key
from builder.machines.lab.layout import GATEWAY, STATE, layout_of
from builder.machines.lab.locks import locked
from builder.machines.lab.mirror import apt_settings
from builder.machines.lab.packages import await_package_cache, ensure_package_cache
from builder.machines.lab.requirements import refuse_if_unable, require_root, this_machine
from builder.machines.lab.resolver import resolver
from builder.machines.lab.rootfs import rootfs
from builder.machines.lab.together import on_all
from builder.spec.model import ClusterSpec
from builder.transport.base import Endpoint


class LabProvider:
    """Implements `builder.machines.base.Provider`, and what only a lab can do to its hosts."""

    def __init__(self, spec: ClusterSpec) -> None:
        self.layout = layout_of(spec)

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Every host with its pinned key; a host that was never made has none and is refused."""
        return {
            host.name: Endpoint(
                host=host.name,
                address=str(self.layout.addresses[host.name]),
                identity_files=(self.layout.key,),
                host_keys=host.host_keys(),
                agent=False,
            )
            for host in self._hosts()
        }

    def power(self) -> Mapping[str, Power]:
        return {host.name: host.power() for host in self._hosts()}

    def frozen(self) -> frozenset[str]:
        """The hosts that run and are frozen."""
        return frozenset(host.name for host in self._hosts() if host.group.frozen())

    def up(self, progress: Progress) -> Sequence[str]:
        refuse_if_unable(this_machine())
        with self._locked():
            self._ensure_network(progress)
            ensure_package_cache(self.layout)
            missing = [host for host in self._hosts() if host.power() is not Power.RUNNING]
            self._refuse_moved(host for host in self._hosts() if host not in missing)
            self._create(missing, progress)
            self._start(missing, progress)
            self._await(self._hosts(), progress if missing else _silently)
            await_package_cache(self.layout)
        return [host.name for host in missing]

    def destroy(self, progress: Progress) -> None:
        """All of this lab's machines, also those that have left the spec; the cache stays."""
        with self._locked():
            progress("", "takes the lab down")
            for host in self._hosts():
                host.thaw_disks()
                host.forget()
            self._end_processes()
            network.remove(self.layout)
            self._remove_nspawn_leftovers()
            run(["rm", "-rf", "--one-file-system", str(self.layout.directory)])
        network.stop_forwarding_unless_needed()

    def exec(self, host: str, argv: Sequence[str]) -> int:
        """Run a command inside, on our own stdin, stdout and stderr, without SSH; its status."""
        return self.host(host).exec(argv)

    def stop(self, host: str) -> None:
        """Shut the host down cleanly."""
        with self._locked():
            self.host(host).stop()

    def start(self, host: str) -> None:
        """Switch a stopped host on and wait until SSH answers."""
        refuse_if_unable(this_machine())
        wanted = self.host(host)
        with self._locked():
            if wanted.power() is Power.ABSENT or not network.whole(self.layout):
                raise MachineError(f"{host} is not there to be started", do="pgha-build lab up")
            if wanted.power() is Power.STOPPED:
                wanted.start(self._files()[host])
            wanted.answers(self.layout.addresses[host])

    def kill(self, host: str) -> None:
        """Cut the host's power."""
        with self._locked():
            self.host(host).kill()

    def wipe(self, host: str) -> None:
        """The machine is dead: power cut, disk gone. `up` puts a blank one in its place."""
        with self._locked():
            dead = self.host(host)
            dead.kill()
            dead.forget()
            run(["rm", "-rf", "--one-file-system", str(dead.place.directory)])

    def freeze(self, host: str) -> None:
        """Hang the host; `thaw` lets it go on."""
        self.host(host).freeze()

    def thaw(self, host: str) -> None:
        self.host(host).thaw()

    def cut(self, a: str, b: str, *, both_ways: bool = True) -> None:
        """Cut the link from `a` to `b`; "gateway" stands for this machine."""
        links.drop(self.layout, self._pairs(a, b, both_ways))

    def lossy(self, a: str, b: str, percent: int, *, both_ways: bool = True) -> None:
        """Lose `percent` of the packets from `a` to `b` at random."""
        links.drop(self.layout, self._pairs(a, b, both_ways), percent=percent)

    def heal(self) -> None:
        """Mend all links."""
        links.heal(self.layout)

    def host(self, name: str) -> LabHost:
        """The host of that name; MachineError if the spec has none."""
        if name not in self.layout.addresses:
            raise MachineError(
                f"there is no host {name!r} in this lab",
                do=f"Hosts: {', '.join(self.layout.addresses)}.",
            )
        return LabHost(layout=self.layout, place=self.layout.place(name))

    def _hosts(self) -> list[LabHost]:
        return [self.host(name) for name in self.layout.addresses]

    def _pairs(self, a: str, b: str, both_ways: bool) -> list[tuple[str, str]]:
        for name in (a, b):
            if name != GATEWAY:
                self.host(name)
        return [(a, b), (b, a)] if both_ways else [(a, b)]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lab alone; a refusal leaves no empty directory behind."""
        require_root(this_machine())
        with locked(self.layout.directory):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    self.layout.directory.rmdir()

    def _ensure_network(self, progress: Progress) -> None:
        """A whole network, or a new one: hosts that run on a broken one are powered off first."""
        with locked(STATE):
            network.refuse_overlap(self.layout)
            network.claim(self.layout)
        if network.linked(self.layout):
            network.open_the_way_out(self.layout)
            return
        self._end_processes()
        network.remove(self.layout)
        progress("", f"makes the network {self.layout.network}")
        network.make(self.layout)

    def _end_processes(self) -> None:
        group = Group.of(self.layout.name)
        group.kill()
        group.remove()

    def _create(self, hosts: Sequence[LabHost], progress: Progress) -> None:
        fresh = [host for host in hosts if not host.complete()]
        if fresh:
            lower = rootfs(self.layout.release, progress)
            for host in fresh:
                host.create(lower, self.layout.addresses[host.name], self.layout.disks[host.name])

    def _start(self, hosts: Sequence[LabHost], progress: Progress) -> None:
        files = self._files()

        def one(host: LabHost) -> None:
            progress(host.name, "boots")
            host.start(files[host.name])

        on_all(hosts, one)

    def _await(self, hosts: Iterable[LabHost], progress: Progress) -> None:
        def one(host: LabHost) -> None:
            host.answers(self.layout.addresses[host.name])
            progress(host.name, "answers over SSH")

        on_all([host for host in hosts if not host.group.frozen()], one)

    def _files(self) -> Mapping[str, Mapping[str, HostFile]]:
        """What the lab writes into each host before it boots."""
        public_key, servers, apt = ensure_key(self.layout.key), resolver(), apt_settings()
        return {
            name: lab_files(self.layout, address, public_key=public_key, resolver=servers, apt=apt)
            for name, address in self.layout.addresses.items()
        }

    def _refuse_moved(self, running: Iterable[LabHost]) -> None:
        """A running host keeps the address it booted with; the spec may say another by now."""
        for host in running:
            wanted = self.layout.with_prefix(self.layout.addresses[host.name])
            if f"ADDRESS={wanted}\n" not in host.booted_with():
                raise MachineError(
                    f"{host.name} runs, and not with the address {wanted}",
                    why="A host takes its address when it boots.",
                    do=f"pgha-build lab stop {host.name}, then pgha-build lab up.",
                )

    def _remove_nspawn_leftovers(self) -> None:
        """Directories that nspawn itself would have removed had it not been killed."""
        for place in self.layout.directory.glob("*/upper"):
            machine = self.layout.place(place.parent.name).machine
            for kind in ("propagate", "unix-export"):
                with contextlib.suppress(OSError):
                    (Path("/run/systemd/nspawn") / kind / machine).rmdir()


def _silently(host: str, what: str) -> None:
    """Progress of what need not be told."""
