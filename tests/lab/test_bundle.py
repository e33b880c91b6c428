"""Hosts that reach nobody but the controller get their packages in a file."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import pytest

pytestmark = pytest.mark.lab

# Nothing answers but the other hosts and the controller, and nothing of before is left.
NO_WAY_OUT = """
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
ip route del default 2>/dev/null
rm -f /etc/apt/sources.list.d/*
printf 'Acquire::http::Proxy "http://127.0.0.1:9";\\n' >/etc/apt/apt.conf.d/zzz-nobody
echo 'deb http://deb.debian.org/debian trixie main' >/etc/apt/sources.list
"""


@pytest.fixture(scope="module")
def lone(new_cluster: Any) -> Any:
    """One etcd host whose bundle is made, wiped then, blank, and alone in the world."""
    cluster = new_cluster()
    host = {"address": str(cluster.network[11]), "roles": ["etcd"]}
    cluster.write({"hosts": {"e1": host}})
    assert cluster.run("lab", "up").returncode == 0
    made = cluster.run("bundle", "-o", "all.bundle")
    assert made.returncode == 0, made.stderr[-3000:]
    assert "debian-13-" in made.stdout
    cluster.run("lab", "wipe", "e1")
    cluster.run("lab", "up")
    cluster.try_on("e1", NO_WAY_OUT)
    return cluster


def test_without_the_bundle_nothing_can_be_installed(lone: Any) -> None:
    done = lone.run("apply", "--yes", "--only", "e1/package:etcd-server")
    assert done.returncode == 1
    assert lone.try_on("e1", "command -v etcd").returncode != 0


def test_a_damaged_bundle_is_refused_before_anything_changes(lone: Any) -> None:
    content = bytearray((lone.home / "all.bundle").read_bytes())
    content[len(content) // 2] ^= 1
    (lone.home / "damaged.bundle").write_bytes(content)
    done = lone.run("apply", "--yes", "--bundle", "damaged.bundle")
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert lone.try_on("e1", "ls /var/lib/pgha-build/bundle").returncode != 0


def test_a_bundle_that_lacks_a_package_is_refused_before_anything_changes(lone: Any) -> None:
    with tarfile.open(lone.home / "all.bundle") as whole:
        whole.extractall(lone.home / "parts", filter="data")
    manifest = lone.home / "parts" / "manifest.json"
    document = json.loads(manifest.read_text())
    (system,) = document["systems"].values()
    del system["packages"]["etcd-client"]
    manifest.write_text(json.dumps(document))
    with tarfile.open(lone.home / "less.bundle", "w") as less:
        for part in sorted((lone.home / "parts").iterdir()):
            less.add(part, arcname=part.name)
    done = lone.run("apply", "--yes", "--bundle", "less.bundle")
    assert done.returncode == 1
    assert "lacks etcd-client, which e1 needs" in done.stderr
    assert lone.try_on("e1", "command -v etcd").returncode != 0


def test_with_the_bundle_the_host_becomes_what_it_should_be(lone: Any) -> None:
    done = lone.run("apply", "--yes", "--bundle", "all.bundle", seconds=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lone.in_sync()
    assert lone.status()["etcd"]["healthy"] == 1
    again = lone.run("apply", "--yes", "--bundle", "all.bundle")
    assert "nothing to do" in again.stdout
    lone.run("destroy", "--yes")
