"""A secrets file that a hand has touched: taken, or refused by place and never by value."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import SecretsError
from builder.security.content import checked, fresh, merged, new_password
from builder.security.store import open_store

PATH = Path("cluster.secrets.yml")
VALUE = "hunter2 hunter2"


def content(**changes: Any) -> dict[str, Any]:
    return {**fresh(), **changes}


def refused(broken: dict[str, Any]) -> str:
    with pytest.raises(SecretsError) as said:
        checked(broken, PATH)
    return "".join(traceback.format_exception(said.value))


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (content(passwords={"app": VALUE}), "passwords.app"),
        (content(passwords={"app": 12345678}), "passwords.app"),
        (content(passwords={"app": "12345678"}), "passwords.app"),
        (content(passwords={"app": "0x12345678"}), "passwords.app"),
        (content(passwords={"app": "short"}), "passwords.app"),
        (content(passwords={"app": "pässwörter"}), "passwords.app"),
        (content(passwords={"app": "line\nline\n"}), "passwords.app"),
        (content(passwords={"app": None}), "passwords.app"),
        (content(passwords=[VALUE]), "passwords"),
        (content(authorities={"etcd": VALUE}), "authorities.etcd"),
        (content(authorities={"etcd": [VALUE]}), "authorities.etcd"),
        (content(authorities={"etcd": {"key": VALUE}}), "authorities.etcd"),
        (content(authorities={"etcd": None}), "authorities.etcd"),
        (content(generations={"etcd": VALUE}), "generations.etcd"),
        (content(generations={"etcd": 0}), "generations.etcd"),
        (content(generations={"etcd": True}), "generations.etcd"),
        (content(leaf_seed=VALUE), "leaf_seed"),
        (content(leaf_seed=base64.b64encode(b"x" * 31).decode()), "leaf_seed"),
        (content(version=2), "version"),
    ],
)
def test_what_is_broken_is_named_and_not_quoted(broken: dict[str, Any], place: str) -> None:
    said = refused(broken)
    assert place in said
    assert VALUE not in said


def test_a_password_of_ones_own_is_taken() -> None:
    assert checked(content(passwords={"app": "a_word_of_my_own_1"}), PATH)


def test_a_generated_password_passes_its_own_check_and_yaml_reads_it_as_it_is() -> None:
    for _ in range(200):
        text = new_password()
        assert checked(content(passwords={"app": text}), PATH)
        assert yaml.safe_load(f"password: {text}") == {"password": text}


Names = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9))


@given(there=Names, ours=Names)
def test_merging_loses_nothing_and_what_is_there_counts(
    there: dict[str, int], ours: dict[str, int]
) -> None:
    base = fresh()
    found = merged({**base, "passwords": there}, {**base, "passwords": ours}, PATH)["passwords"]
    assert found.keys() == there.keys() | ours.keys()
    assert all(found[name] == there.get(name, ours.get(name)) for name in found)


@pytest.mark.parametrize("change", [{"leaf_seed": "x"}, {"generations": {"etcd": 2}}])
def test_keys_that_no_longer_follow_from_the_file_are_not_merged(change: dict[str, Any]) -> None:
    base = fresh()
    with pytest.raises(SecretsError, match="somebody else"):
        merged({**base, **change}, base, PATH)


# ── through the store ───────────────────────────────────────────────────────────────────────────
def edit(spec: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = spec.with_suffix(".secrets.yml")
    document = yaml.safe_load(file.read_text())
    change(document)
    file.write_text(yaml.safe_dump(document))


def test_saving_says_whether_what_was_handed_out_still_holds(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yml"
    assert open_store(spec, "orders").save()
    first, second = open_store(spec, "orders"), open_store(spec, "orders")
    handed_out = second.password("a")
    first.password("a")
    second.password("b")
    assert first.save()
    assert not second.save()
    assert second.password("a") == first.password("a") != handed_out
    assert second.save()


def test_another_generation_is_another_key_of_that_purpose_alone(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yml"
    store = open_store(spec, "orders")
    store.save()
    edit(spec, lambda document: document["generations"].update({"etcd-peer": 2}))
    later = open_store(spec, "orders")
    assert later.leaf_key("e1", "etcd-peer") != store.leaf_key("e1", "etcd-peer")
    assert later.leaf_key("e1", "etcd-server") == store.leaf_key("e1", "etcd-server")


def test_a_password_that_was_taken_out_is_made_anew_and_its_salt_too(tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yml"
    store = open_store(spec, "orders")
    before = store.password("app"), store.salt("app")
    store.save()
    edit(spec, lambda document: document["passwords"].pop("app"))
    later = open_store(spec, "orders")
    assert later.password("app") != before[0]
    assert later.salt("app") != before[1]


@pytest.mark.parametrize("part", ["certificate", "key"])
def test_an_authority_whose_halves_do_not_match_is_refused(part: str, tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yml"
    store = open_store(spec, "orders")
    store.authority("one"), store.authority("two")
    store.save()

    def swap(document: dict[str, Any]) -> None:
        document["authorities"]["one"][part] = document["authorities"]["two"][part]

    edit(spec, swap)
    with pytest.raises(SecretsError, match=r"authorities\.one"):
        open_store(spec, "orders").authority("one")
