"""Packages from a repository of one's own, signed with one's own key."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.lab

# A folder of packages as apt wants it: one package, newer than Debian's, and signatures.
SIGNED = r"""
set -e
export DEBIAN_FRONTEND=noninteractive GNUPGHOME=/root/.gnupg-test
apt-get -qq update
apt-get -qq install -y --no-install-recommends gpg gpg-agent apt-utils >/dev/null
mkdir -p -m 700 $GNUPGHOME /srv/signed && cd /srv/signed && chmod 755 .
gpg -q --batch --passphrase '' --quick-gen-key own@example.org ed25519 sign never
apt-get -qq -o APT::Sandbox::User=root download etcd-client
dpkg-deb -R ./*.deb unpacked
sed -i 's/^Version: .*/&+own1/' unpacked/DEBIAN/control
rm ./*.deb && dpkg-deb -Znone -b unpacked etcd-client.deb >&2 && rm -r unpacked
apt-ftparchive packages . >Packages
apt-ftparchive release . >/tmp/Release && mv /tmp/Release Release
gpg -q --batch --clearsign -o InRelease Release
gpg --export | base64 -w0
"""


@pytest.fixture(scope="module")
def lone(new_cluster: Any) -> Any:
    """One etcd host, up, with a signed repository on it."""
    cluster = new_cluster()
    host = {"address": str(cluster.network[11]), "roles": ["etcd"]}
    cluster.write({"hosts": {"e1": host}})
    assert cluster.run("lab", "up").returncode == 0
    cluster.key = cluster.on("e1", SIGNED).splitlines()[-1]
    return cluster


def source(cluster: Any, key: str) -> dict[str, Any]:
    own = {"url": "file:/srv/signed", "suite": "./", "key": key}
    return {**cluster.spec(), "packages": {"sources": {"own": own}}}


def test_a_wrong_key_is_refused_by_apt_and_nothing_is_installed(lone: Any) -> None:
    other = "set -e; export GNUPGHOME=/root/.gnupg-other; mkdir -p -m 700 $GNUPGHOME\n"
    other += "gpg -q --batch --passphrase '' --quick-gen-key x@example.org ed25519 sign never\n"
    key = lone.on("e1", f"{other} gpg --export | base64 -w0").splitlines()[-1]
    lone.write(source(lone, key))
    done = lone.run("apply", "--yes")
    assert done.returncode == 1
    assert "apt_lists:apt" in done.stderr
    assert "verify signature" in done.stderr
    assert lone.try_on("e1", "dpkg-query -W etcd-client").returncode != 0


def test_packages_come_from_the_source_and_can_be_locked(lone: Any) -> None:
    lone.write(source(lone, lone.key))
    lone.apply()
    assert lone.on("e1", "dpkg-query -W -f '${Version}' etcd-client").endswith("+own1")
    lone.in_sync()
    said = lone.run("lock")
    assert re.search(r"^e1  etcd-client  \S+\+own1$", said.stdout, re.MULTILINE)
    assert lone.run("lock").stdout.startswith("As it was.")
    lone.in_sync()


def test_a_locked_package_is_installed_as_it_was_locked_or_not_at_all(lone: Any) -> None:
    lock = lone.home / "cluster.lock.yml"
    text = lock.read_text()
    entry = yaml.safe_load(text)["hosts"]["e1"]["etcd-client"]
    lone.on("e1", "apt-get -qq -y remove etcd-client >/dev/null")
    lock.write_text(text.replace(entry["sha256"], "f" * 64))
    done = lone.run("apply", "--yes")
    assert done.returncode == 1
    assert "and cluster.lock.yml says " + "f" * 64 in done.stderr
    assert lone.try_on("e1", "command -v etcdctl").returncode != 0
    lock.write_text(text)
    lone.apply()
    lone.in_sync()
    refused = lone.run("ops", "update", "--yes")
    assert "pgha-build lock --update" in refused.stderr
    lock.unlink()


def test_what_leaves_the_sources_leaves_the_host(lone: Any) -> None:
    lone.write({key: value for key, value in lone.spec().items() if key != "packages"})
    lone.apply()
    lone.in_sync()
    assert "pgha-own" not in lone.on("e1", "ls /etc/apt/sources.list.d")
    lone.run("destroy", "--yes")
