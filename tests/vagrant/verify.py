"""`vagrant up && pgha-build apply`, and what follows, on seven virtual machines.

Not collected with the other tests: scripts/test-vagrant starts it where libvirtd runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOSTS = 7


class Home:
    """A fresh folder with a Vagrantfile, as after clone and install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *argv: str, seconds: float = 1800, check: bool = True) -> str:
        begin = time.monotonic()
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env={**os.environ, "PGHA_BUILD": f"{sys.executable} -m builder"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=seconds,
        )
        print(f"{time.monotonic() - begin:6.0f} s  {' '.join(argv)}", flush=True)
        assert not check or done.returncode == 0, done.stdout[-60000:]
        return done.stdout

    def pgha(self, *words: str, **options: Any) -> str:
        return self.run("pgha-build", *words, **options)

    def status(self) -> Any:
        text = self.pgha("status", "--json", check=False)
        return json.loads(text[text.index("{") :])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(ROOT / "Vagrantfile", folder)
    made = Home(folder)
    yield made
    made.run("vagrant", "destroy", "-f", check=False)


def until(holds: Any, what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(1)


def test_without_a_cluster_yml_vagrant_makes_one_and_refuses_a_broken_one(home: Home) -> None:
    """It writes one for seven machines; ours are smaller, slower, and from another box."""
    home.run("vagrant", "status")
    file = home.folder / "cluster.yml"
    spec = yaml.safe_load(file.read_text())
    assert len(spec["hosts"]) == HOSTS
    spec["machines"] = {"provider": "vagrant", "box": "pgha", "memory_mib": 768}
    spec["failover"] = {"preset": "slow", "synchronous": True}
    good = yaml.safe_dump(spec, sort_keys=False)
    file.write_text(good.replace("memory_mib: 768", "memory_mb: 768"))
    said = home.run("vagrant", "status", check=False)
    assert "machines.memory_mb: unknown key" in said
    file.write_text(good)


def test_vagrant_up_then_apply_makes_the_cluster(home: Home) -> None:
    home.run("vagrant", "up", seconds=3600)
    home.pgha("apply", "--yes", seconds=3600)
    until(lambda: home.status()["patroni"]["leader"], "there is a leader", 120)
    assert "No changes" in home.pgha("plan")


def test_patroni_uses_the_watchdog(home: Home) -> None:
    leader = home.status()["patroni"]["leader"]
    holder = "sudo sh -c 'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c /dev/watchdog'"
    assert int(home.run("vagrant", "ssh", leader, "-c", holder).split()[-1]) >= 1


def test_a_machine_whose_power_is_cut_loses_the_lead_and_comes_back(home: Home) -> None:
    before = home.status()["patroni"]["leader"]
    home.run("vagrant", "halt", "--force", before)
    until(lambda: home.status()["patroni"]["leader"] not in {before, None}, "another leads", 300)
    home.pgha("up", "--yes", seconds=1800)
    until(
        lambda: home.status()["patroni"]["members"][before]["state"] == "streaming",
        "it is back",
        600,
    )


@pytest.mark.parametrize(
    "fault",
    [
        "etcd-member-off",
        "host-power-off",
        "patroni-stop",  # the watchdog resets the machine, which no lab host has
    ],
)
def test_the_drill_passes(home: Home, fault: str) -> None:
    home.pgha("drill", fault, "--yes", "--json", seconds=1800)


def test_destroy_leaves_no_machine(home: Home) -> None:
    home.pgha("destroy", "--yes")
    assert "running" not in home.run("vagrant", "status")
    assert not (home.folder / ".pgha/orders/vagrant.json").exists()


@pytest.mark.parametrize(
    "scenario", ["etcd", "system", "patroni", "haproxy", "keepalived", "default"]
)
def test_a_molecule_scenario_runs_in_virtual_machines(home: Home, scenario: str) -> None:
    """After the others: so many machines at once are too much for an emulator."""
    settings = {"box": "pgha", "memory_mib": 768}
    home.run(
        "env",
        f"--chdir={ROOT}",
        "PGHA_MACHINES=vagrant",
        "PGHA_PRESET=slow",
        f"PGHA_MACHINES_SETTINGS={json.dumps(settings)}",
        "molecule",
        "test",
        "-s",
        scenario,
        seconds=3600,
    )
