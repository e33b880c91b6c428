"""What a host remembers of us: addresses and digests; enough to remove, to tell drift, to go on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.engine.manifest import Entry, Manifest, drifted, dump, entry, load
from builder.resources.base import Absent, Impact, Present
from builder.resources.file import File
from builder.resources.unit import Unit

words = st.text(max_size=12)
entries = st.builds(
    Entry,
    address=words,
    kind=words,
    name=words,
    hosts=st.lists(words, max_size=3).map(tuple),
    attributes=st.dictionaries(words, words, max_size=3),
    needs=st.lists(words, max_size=3).map(tuple),
    recall=st.dictionaries(words, words, max_size=3),
    pending=st.none() | st.sampled_from(Impact),
)
UNIT = Unit(hosts=("a",), name="u.service", restart_on=("a/file:/f",))


@settings(max_examples=80, deadline=None)
@given(words, words, st.lists(entries, max_size=5))
def test_what_is_written_is_read_again(cluster: str, secrets: str, items: list[Entry]) -> None:
    manifest = Manifest(
        cluster=cluster, secrets=secrets, entries={item.address: item for item in items}
    )
    assert load(dump(manifest)) == manifest


@settings(max_examples=60, deadline=None)
@given(st.lists(entries, max_size=5, unique_by=lambda item: item.address), st.randoms())
def test_the_same_manifest_is_written_the_same(items: list[Entry], random: Any) -> None:
    one = Manifest(entries={item.address: item for item in items})
    random.shuffle(items)
    assert dump(Manifest(entries={item.address: item for item in items})) == dump(one)


def test_one_entry_is_one_line(seven: Any) -> None:
    manifest = seven.manifest("pg1")
    lines = dump(manifest).splitlines()
    assert len(lines) == len(manifest.entries) + 2
    assert json.loads(dump(manifest))["version"] == 1


@pytest.mark.parametrize("text", [
    "{", "[]", "null", '{"version": 2, "entries": []}', '{"entries": []}',
    '{"version": 1, "cluster": "", "entries": [{}]}',
    '{"version": 1, "cluster": "", "entries": ["x"]}',
    '{"version": 1, "cluster": "", "entries": [{"address": "a", "kind": "k", "name": "n", '
    '"hosts": null, "attributes": {}, "needs": []}]}',
    '{"version": 1, "cluster": "", "entries": [{"address": "a", "kind": "k", "name": "n", '
    '"hosts": [], "attributes": {}, "needs": [], "pending": "soon"}]}',
    '{"version": 1, "cluster": ""}', '{"version": 1, "entries": []}',
    '{"version": 1, "cluster": "", "entries": null}',
])  # fmt: skip
def test_what_is_no_manifest_of_ours_is_refused(text: str) -> None:
    """As ValueError, which becomes «cannot read …» of that host; never another exception."""
    with pytest.raises(ValueError):
        load(text)


@pytest.mark.parametrize("text", ["", "\n", "  \n"])
def test_a_host_without_a_manifest_manages_nothing(text: str) -> None:
    assert load(text) == Manifest()


def test_a_beginning_keeps_what_was_applied_last() -> None:
    """So that a later look still tells drift from our own unfinished change."""
    old, new = (File(hosts=("a",), name="/f", content=text) for text in (b"old", b"new"))
    known = Manifest().settled("c", [old])
    begun = known.begun("c", [(new, Impact.NONE)]).entries["a/file:/f"]
    assert begun.attributes == entry(old).attributes
    assert begun.pending is Impact.NONE


def test_what_is_owed_is_never_less_than_before() -> None:
    """Killed twice: the restart of the first apply is not forgotten for a reload of the second."""
    first = Manifest().begun("c", [(UNIT, Impact.RESTART)])
    second = first.begun("c", [(UNIT, Impact.RELOAD)])
    assert second.entries[UNIT.address].pending is Impact.RESTART


def test_what_holds_owes_nothing() -> None:
    begun = Manifest().begun("c", [(UNIT, Impact.RESTART)])
    assert begun.settled("c", [UNIT]).entries[UNIT.address].pending is None


def test_what_is_removed_is_forgotten_alone() -> None:
    other = replace(UNIT, name="o.service")
    kept = Manifest().settled("c", [UNIT, other]).without([UNIT.address])
    assert list(kept.entries) == [other.address]


def test_what_a_unit_acts_for_is_remembered_as_needed() -> None:
    assert entry(UNIT).needs == ("a/file:/f",)


def test_drift_names_the_attributes_that_are_not_as_applied() -> None:
    known = entry(UNIT)
    there = dict(UNIT.attributes())
    assert drifted(known, Present(attributes=there)) == set()
    assert drifted(known, Present(attributes={**there, "state": "stopped"})) == {"state"}
    assert drifted(known, Absent()) == set(there)


def test_no_value_is_kept(seven: Any) -> None:
    """Digests only, and of secrets not even one that a dictionary could be tried against."""
    for host in seven.spec.hosts:
        for record in json.loads(dump(seven.manifest(host)))["entries"]:
            assert all(len(value) == 16 for value in record["attributes"].values())
