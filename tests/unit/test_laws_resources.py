"""Laws that hold for every resource type, ours and those of roles, found through the registry."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from string import ascii_lowercase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import registry
from builder.engine.diff import difference, removed
from builder.engine.manifest import Manifest, drifted, dump, entry, load
from builder.engine.script import Piece, Script
from builder.resources.base import (
    Absent,
    Action,
    Change,
    Present,
    Resource,
    Unknown,
    digest,
    shown,
)
from builder.resources.steps import Await, Put, Run, Shell, Step

KINDS = sorted(
    name for name, kind in registry.kinds().items() if not kind.__module__.startswith("tests.")
)
LOOKED_AT = [kind for kind in KINDS if registry.kinds()[kind].observed_in_plan]
ADDRESS = re.compile(r"[a-z0-9-]+/[a-z_]+:\S+")
NOTHING_TO_MAKE = {"etcd_members"}  # a list without strangers: absent is as good
GARBAGE = (
    "",
    "\n",
    "\n\n\n",
    "sh: 1: something: not found\n",
    "bash: line 1: fork: Cannot allocate memory\n",
    "{}[]<>|=:,\n= = =\n::\n",
    "\x00\x01\x02",
    "Killed\n",
)


def sh_accepts(text: str) -> str:
    """What `sh -n` has against it; nothing, where it parses."""
    said = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    return said.stderr


def changes_of(resource: Resource) -> Iterator[Change]:
    """Made from nothing, made right in every attribute, made to act, and removed."""
    yield difference(resource, Absent(), None)
    attributes = resource.attributes()
    other = Present(attributes={name: _otherwise(value) for name, value in attributes.items()})
    yield difference(resource, other, None)
    for impact in set(resource.triggers().values()):
        pending = Manifest().begun("c", [(resource, impact)]).entries[resource.address]
        yield difference(resource, Present(attributes=attributes), pending)


def _otherwise(value: Any) -> Any:
    if isinstance(value, tuple):
        return (*value, "more")
    return "otherwise" if isinstance(value, str) else None


def removal_of(resource: Resource) -> Change:
    revived = type(resource).revive(resource.hosts, resource.name, dict(resource.recall()))
    return removed(revived, Present(attributes={}))


def all_steps(resource: Resource) -> list[Step]:
    made = [step for change in changes_of(resource) for step in change.steps()]
    return [*made, *removal_of(resource).steps()] if resource.observed_in_plan else made


def batches(samples: Mapping[str, list[Resource]], kind: str) -> list[list[Resource]]:
    """The samples as a host is asked about them: all of one host together."""
    found: dict[tuple[str, ...], list[Resource]] = {}
    for resource in samples.get(kind, []):
        found.setdefault((*resource.hosts, *_cluster(resource)), []).append(resource)
    return list(found.values())


def first_batch(samples: Mapping[str, list[Resource]], kind: str) -> list[Resource]:
    found = batches(samples, kind)
    return found[0] if found else pytest.skip(f"no shape uses {kind}")


def _cluster(resource: Resource) -> tuple[str, ...]:
    server = getattr(resource, "server", None)
    return (server.data,) if server else ()


@pytest.mark.parametrize("kind", KINDS)
def test_some_shape_of_a_cluster_uses_the_type(kind: str, samples: Any) -> None:
    assert kind in samples, f"no file under tests/golden/shapes leads to a {kind}: add one"


@pytest.mark.parametrize("kind", KINDS)
def test_the_type_says_what_it_is(kind: str) -> None:
    assert registry.kinds()[kind].__doc__
    assert registry.kinds()[kind].kind == kind
    assert re.fullmatch("[a-z_]+", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_is_host_kind_and_name_on_one_line(kind: str, samples: Any) -> None:
    for resource in samples.get(kind, []):
        assert ADDRESS.fullmatch(resource.address), resource.address
        host = resource.address.partition("/")[0]
        assert host == (resource.hosts[0] if len(resource.hosts) == 1 else "cluster")


@pytest.mark.parametrize("kind", KINDS)
def test_two_resources_of_a_cluster_have_two_addresses(kind: str, seven: Any) -> None:
    addresses = [r.address for r in seven.resources if r.kind == kind]
    assert len(addresses) == len(set(addresses))


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_a_probe_is_shell_that_parses(kind: str, samples: Any) -> None:
    for wanted in batches(samples, kind):
        probe = registry.kinds()[kind].probe(wanted)
        assert probe.strip()
        assert not sh_accepts(probe + "\n"), probe


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_asks_the_same_twice(kind: str, samples: Any) -> None:
    for wanted in batches(samples, kind):
        assert registry.kinds()[kind].probe(wanted) == registry.kinds()[kind].probe(wanted)


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_a_probe_ends_neither_the_script_nor_its_shell(kind: str, samples: Any) -> None:
    """It is one of many in one script: whatever it does, what stands behind it runs."""
    for wanted in batches(samples, kind)[:3]:
        probe = registry.kinds()[kind].probe(wanted)
        text = f"PATH=/nonexistent\n{probe}\nprintf '\\nbehind\\n'\n"
        said = subprocess.run(
            ["/bin/sh", "-s"], input=text, capture_output=True, text=True, check=False
        )
        assert said.stdout.endswith("\nbehind\n"), said.stderr


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_where_nothing_can_run_nothing_is_known(kind: str, samples: Any) -> None:
    """A host whose programs cannot be started has said nothing, neither «there» nor «absent»."""
    excused = {"nftables": "no nft is no table", "etcd_member": "asks the shell alone"}
    excused |= dict.fromkeys(
        ("database", "role", "extension", "patroni_config", "postgresql", "etcd_members"),
        "no data directory is no database: asks the shell alone",
    )
    if kind in excused:
        pytest.skip(excused[kind])
    for wanted in batches(samples, kind)[:3]:
        text = f"PATH=/nonexistent\n{registry.kinds()[kind].probe(wanted)}\n"
        said = subprocess.run(
            ["/bin/sh", "-s"], input=text, capture_output=True, text=True, check=False
        )
        assert_unknown(kind, wanted, said.stdout)


def assert_unknown(kind: str, wanted: list[Resource], output: str) -> None:
    found = registry.kinds()[kind].parse(wanted, output)
    for resource in wanted:
        said = found.get(resource.name, Unknown(""))
        assert isinstance(said, Unknown), f"{resource.address}: {said} from {output!r}"


@pytest.mark.parametrize("kind", LOOKED_AT)
@pytest.mark.parametrize("output", GARBAGE)
def test_where_nothing_was_said_nothing_is_known(kind: str, output: str, samples: Any) -> None:
    for wanted in batches(samples, kind):
        assert_unknown(kind, wanted, output)


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_no_noise_is_taken_for_an_answer(kind: str, samples: Any) -> None:
    """Answers are of small letters, and Hypothesis knows the words that are in the code.

    But one: `{}` is a configuration of Patroni that somebody has emptied.
    """
    wanted = first_batch(samples, kind)

    @settings(max_examples=40, deadline=None)
    @given(st.text(st.characters(exclude_characters=f"{ascii_lowercase}{{}}")))
    def noise(output: str) -> None:
        assert_unknown(kind, wanted, output)

    noise()


WORDS = (
    "looked",
    "role primary",
    "role replica",
    "role absent",
    "role down",
    "absent",
    "there",
    "present",
    "unknown",
    "writable",
    "settled",
    "item app/pg_trgm",
    "\ncertificate /etc/patroni/tls/server.crt\n",
    "-----BEGIN CERTIFICATE-----",
    "-----END CERTIFICATE-----",
    "LoadState=loaded",
    "ActiveState=active",
    "/proc/sys/vm/swappiness",
    "0755 root root directory",
    "stat: cannot statx '/etc': No such file or directory",
    "0" * 64,
    "|",
    ":",
    "=",
    ", ",
    " ",
    "  ",
    "\n",
    "\n\n",
    "{}",
    "[]",
    "null",
    "1",
    '{"ttl": 30}',
    '{"postgresql": {"parameters": null}}',
    "/etc",
)


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_no_half_answer_is_an_exception(kind: str, samples: Any) -> None:
    """Answers that were cut, mixed, or printed by another version of a program."""
    wanted = first_batch(samples, kind)
    names = tuple(r.name for r in wanted) + tuple(
        str(path) for r in wanted if (path := getattr(r, "key_path", None))
    )

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from(WORDS + names), max_size=12))
    def half(words: list[str]) -> None:
        found = registry.kinds()[kind].parse(wanted, "".join(words))
        for said in found.values():
            assert isinstance(said, Present | Absent | Unknown)

    half()


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_are_digested_and_shown_as_json(kind: str, samples: Any) -> None:
    for resource in samples.get(kind, []):
        for value in resource.attributes().values():
            assert re.fullmatch("[0-9a-f]{16}", digest(value))
            json.dumps(shown(value))


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_what_is_as_wanted_is_no_difference(kind: str, samples: Any) -> None:
    for resource in samples.get(kind, []):
        there = Present(attributes=resource.attributes())
        for known in (None, entry(resource)):
            assert difference(resource, there, known).action is Action.NONE, resource.address


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_what_is_absent_is_made_and_what_is_unknown_is_neither(kind: str, samples: Any) -> None:
    for resource in samples.get(kind, []):
        assert difference(resource, Absent(), None).action is Action.CREATE
        assert difference(resource, Unknown("no"), None).action is Action.DECIDE
        assert removed(resource, Unknown("no")).action is Action.DECIDE


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_each_attribute_that_is_otherwise_is_a_change_of_it(kind: str, samples: Any) -> None:
    for resource in samples.get(kind, [])[:20]:
        for name, value in resource.attributes().items():
            if not resource.differs(name, value, _otherwise(value)):
                assert (kind, name, value) == ("package", "version", "any")
                continue
            observed = Present(attributes={**resource.attributes(), name: _otherwise(value)})
            change = difference(resource, observed, entry(resource))
            assert change.action is Action.UPDATE
            assert [item.name for item in change.attributes] == [name]


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_a_change_has_steps(kind: str, samples: Any) -> None:
    for resource in samples.get(kind, []):
        made, right, *_ = changes_of(resource)
        assert list(made.steps()) or kind in NOTHING_TO_MAKE, resource.address
        assert right.action is Action.NONE or list(right.steps()), resource.address


@pytest.mark.parametrize("kind", KINDS)
def test_steps_compile_to_shell_that_parses(kind: str, samples: Any) -> None:
    seen: set[str] = set()
    for resource in samples.get(kind, []):
        if resource.name in seen:
            continue
        seen.add(resource.name)
        piece = Piece(label="x", steps=all_steps(resource), diagnose=resource.diagnose())
        text = Script(host=resource.hosts[0], pieces=[piece], tail="").text()
        assert not sh_accepts(text), resource.address


@pytest.mark.parametrize("kind", KINDS)
def test_merged_changes_carry_out_each_change_once(kind: str, samples: Any) -> None:
    for wanted in batches(samples, kind):
        changes = [difference(resource, Absent(), None) for resource in wanted]
        changes += [removal_of(resource) for resource in wanted if resource.observed_in_plan]
        merged = registry.kinds()[kind].merge(changes)
        carried = [change for part, _ in merged for change in part]
        assert sorted(map(id, carried)) == sorted(map(id, changes))
        for part, _ in merged:
            assert len({change.action is Action.DELETE for change in part}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_remembers_enough_to_look_and_remove(kind: str, samples: Any) -> None:
    probes: list[str] = []
    for resource in samples.get(kind, []):
        if not resource.observed_in_plan:
            continue
        known = load(dump(Manifest().settled("c", [resource]))).entries[resource.address]
        revived = registry.kinds()[known.kind].revive(known.hosts, known.name, known.recall)
        assert revived.address == resource.address
        probes.append(revived.probe([revived]))
        assert isinstance(revived.parse([revived], ""), Mapping)
        assert all(isinstance(step, Step) for step in revived.removal())
    assert not sh_accepts("\n".join([*probes, ""]))


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_the_manifest_finds_no_drift_in_what_was_applied(kind: str, samples: Any) -> None:
    for resource in samples.get(kind, []):
        known = load(dump(Manifest().settled("c", [resource]))).entries[resource.address]
        assert not drifted(known, Present(attributes=resource.attributes()))
        assert drifted(known, Absent()) == set(resource.attributes())


def visible(step: Step) -> str:
    """All of a step but what travels on stdin: argv, scripts, paths."""
    match step:
        case Run():
            return " ".join(step.argv)
        case Shell():
            return step.script
        case Put():
            return " ".join((step.path, step.mode, step.owner, step.group, *step.check))
        case Await():
            return f"{step.what} {step.condition}"


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_visible(kind: str, samples: Any, all_secrets: Any) -> None:
    """Not in argv, in a probe, in a repr, in an attribute, in a diff's text, in a manifest."""
    shows: list[str] = []
    for resource in samples.get(kind, []):
        changes = list(changes_of(resource))
        steps = all_steps(resource)
        shows += [visible(step) for step in steps] + [repr(step) for step in steps]
        shows += [repr(resource), str(resource.attributes()), resource.text() or ""]
        shows += [repr(change) for change in changes]
        shows += [dump(Manifest().settled("c", [resource])), resource.diagnose()]
        shows += [resource.text_probe(), str(resource.recall())]
    shows += [registry.kinds()[kind].probe(wanted) for wanted in batches(samples, kind)]
    shown_text = "\n".join(shows)
    assert len(all_secrets) > 30
    assert [what for what, text in all_secrets.items() if text in shown_text] == []


def test_the_search_for_secrets_finds_them_where_they_belong(
    samples: Any, all_secrets: Any
) -> None:
    """The law above would hold for secrets that nobody uses: these are used, on stdin alone."""
    stdin = b""
    for kind in KINDS:
        for resource in samples.get(kind, []):
            for step in all_steps(resource):
                stdin += getattr(step, "stdin", b"") + getattr(step, "content", b"")
    used = {what for what, text in all_secrets.items() if text.encode() in stdin}
    assert {what.partition(" ")[2].split()[0] for what in used} == {"password", "key", "verifier"}
    assert any(what.endswith("password superuser") for what in used)
