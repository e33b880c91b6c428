"""The pure parts of the lab: names, addresses, requirements, recipe, files."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cerberus import Validator

from builder.errors import MachineError
from builder.machines.lab.files import lab_files
from builder.machines.lab.layout import Layout, layout_of
from builder.machines.lab.mirror import apt_settings, recipe_for
from builder.machines.lab.recipe import Recipe
from builder.machines.lab.requirements import Ability, refuse_if_unable, require_root
from builder.machines.lab.resolver import reachable
from builder.machines.lab.settings import RELEASES, SCHEMA
from builder.spec.model import ClusterSpec, Host, Machines


def spec(*addresses: str, name: str = "orders", **settings: object) -> ClusterSpec:
    hosts = {f"h{i}": Host(name=f"h{i}", address=a, roles=()) for i, a in enumerate(addresses)}
    machines = Machines(provider="lab", settings=settings)
    return ClusterSpec(
        name=name, machines=machines, hosts=hosts, sections={}, path=Path("/cluster.yml")
    )


def ability(**changes: object) -> Ability:
    able = {"root": True, "keyring": True, "overlay": True, "cgroup2": True}
    return Ability(**{"finds": lambda _: True, **able, **changes})  # type: ignore[arg-type]


def test_the_network_is_the_hosts_own_24_and_its_last_address_the_gateway() -> None:
    layout = layout_of(spec("10.77.0.11", "10.77.0.21"))
    assert (str(layout.network), str(layout.gateway)) == ("10.77.0.0/24", "10.77.0.254")
    wide = layout_of(spec("10.77.3.11", "10.77.0.21", network="10.77.0.0/16", gateway="10.77.9.9"))
    assert (str(wide.network), str(wide.gateway)) == ("10.77.0.0/16", "10.77.9.9")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (spec("10.77.0.11", "10.78.0.11"), "h1: 10.78.0.11 is outside"),
        (spec("10.77.0.254"), "is the lab's gateway"),
        (spec("10.77.0.9", network="10.77.0.0/33"), "10.77.0.0/33"),
        (spec("10.77.0.9", network="10.77.0.9/24"), "host bits"),
        (spec("10.77.0.9", network="10.77.0.8/30"), "too small"),
        (spec("10.77.0.9", gateway="10.1.1.1"), "gateway 10.1.1.1 is outside"),
        (spec("fd00::1"), "fd00::1"),
        (spec(), "needs `network`"),
        (spec("10.77.0.9", name="../etc"), "cannot name"),
    ],
)
def test_addresses_that_no_lab_can_have_are_refused_with_advice(
    bad: ClusterSpec, words: str
) -> None:
    with pytest.raises(MachineError, match=r"cluster\.yml") as refusal:
        layout_of(bad)
    assert words in str(refusal.value)


def test_interface_and_machine_names_fit_the_kernel_and_differ_between_hosts_and_labs() -> None:
    layouts = [layout_of(spec("10.77.0.9", name=name)) for name in ("a", "b", "x" * 60)]
    hosts = [f"postgres-with-a-long-name-{number}" for number in range(24)] + ["a", "lb-1", "lb-2"]
    places = [layout.place(host) for layout in layouts for host in hosts]
    assert all(len(place.port) <= 15 for place in places)
    assert all(len(layout.veth) <= 15 for layout in layouts)
    assert len({place.machine for place in places}) == len(places)
    assert len({layout.veth for layout in layouts}) == len(layouts)


def test_everything_that_is_missing_is_said_at_once_with_the_packages_that_bring_it() -> None:
    bare = ability(root=False, finds=lambda p: p == "ip", keyring=False, overlay=False)
    with pytest.raises(MachineError) as refusal:
        refuse_if_unable(bare)
    text = str(refusal.value)
    assert "not root" in text
    assert "no systemd-nspawn, no mmdebstrap, no nft" in text
    assert "overlay" in text
    packages = "apt-get install debian-archive-keyring e2fsprogs mmdebstrap mount nftables"
    assert f"{packages} systemd-container util-linux." in text
    assert "iproute2" not in text


def test_each_single_lack_is_refused_and_nothing_else_is() -> None:
    refuse_if_unable(ability())
    for lack in ("root", "keyring", "overlay", "cgroup2"):
        with pytest.raises(MachineError):
            refuse_if_unable(ability(**{lack: False}))
    require_root(ability(overlay=False))
    with pytest.raises(MachineError, match="root"):
        require_root(ability(root=False))


def recipe(release: str = "trixie", mirror: str = "http://m/debian") -> Recipe:
    return Recipe(release=release, mirror=mirror, security_mirror=f"{mirror}-security", apt={})


def test_another_recipe_is_another_root_file_system() -> None:
    assert recipe().name == recipe().name
    names = {recipe(release).name for release in RELEASES} | {recipe(mirror="http://n/d").name}
    assert len(names) == len(RELEASES) + 1


def test_hosts_get_security_fixes_and_updates() -> None:
    assert recipe().sources == (
        "deb http://m/debian trixie main",
        "deb http://m/debian trixie-updates main",
        "deb http://m/debian-security trixie-security main",
    )


@pytest.mark.parametrize("release", RELEASES)
def test_what_roles_install_is_not_there_before(release: str) -> None:
    """Only libraries: else `apply` would find hosts that are no blank Debian."""
    ours = re.compile(r"postgresql|patroni|etcd-|haproxy|keepalived|chrony")
    assert not [name for name in recipe(release).packages if ours.match(name)]


def test_only_sshd_options_that_the_release_knows_are_set() -> None:
    sshd = {name: recipe(name).files["etc/ssh/sshd_config.d/lab.conf"] for name in RELEASES}
    assert "PerSourcePenalties" in sshd["trixie"]
    assert "PerSourcePenalties" not in sshd["bookworm"]
    assert all("UseDNS no" in text for text in sshd.values())


def test_the_mirror_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHA_DEBIAN_MIRROR", "http://mirror.example/debian/")
    chosen = recipe_for("trixie")
    assert chosen.mirror == "http://mirror.example/debian"
    assert chosen.security_mirror == "http://mirror.example/debian-security"


def test_a_machine_without_apt_uses_the_default_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("PGHA_DEBIAN_MIRROR", raising=False)
    assert recipe_for("trixie").mirror == "http://deb.debian.org/debian"
    assert apt_settings() == {}


def test_a_resolver_that_only_the_machine_reaches_is_not_given_to_hosts() -> None:
    stub, real = "nameserver 127.0.0.53\n", "# real\nnameserver 9.9.9.9\n"
    assert reachable([stub, real]) == real
    assert reachable([real, stub]) == real
    assert reachable([stub, "nameserver ::1\n", ""]) == ""


def test_a_host_fetches_packages_through_the_lab_whatever_the_machine_does() -> None:
    layout: Layout = layout_of(spec("10.77.0.11"))
    apt = {"Acquire::http::Proxy": "http://127.0.0.1:8000", "Acquire::Check-Date": "false"}
    files = lab_files(layout, IPv4Address("10.77.0.11"), public_key="k", resolver="", apt=apt)
    assert files["etc/apt/apt.conf.d/90lab"].text == (
        'Acquire::http::Proxy "http://10.77.0.254:3142";\nAcquire::Check-Date "false";\n'
    )
    assert files["root/.ssh/authorized_keys"].mode == 0o600


def test_settings_accept_what_the_lab_accepts() -> None:
    rules = {
        key: {rule: v for rule, v in each.items() if rule != "meta"} for key, each in SCHEMA.items()
    }
    validator = Validator(rules)
    assert validator.normalized({}) == {"release": "trixie"}
    assert validator.validate({"network": "10.0.0.0/16", "gateway": "10.0.0.1"})
    assert not validator.validate({"release": "sid"})
    assert not validator.validate({"network": "ten"})
    assert all(each["meta"]["doc"] for each in SCHEMA.values())
