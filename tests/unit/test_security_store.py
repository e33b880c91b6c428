"""The secrets file: readable by its owner alone, never half-written, the same for all who ask."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from builder.errors import SecretsError
from builder.role import Secrets
from builder.security.store import SecretStore, open_store
from builder.security.vault import Vault


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return tmp_path / "cluster.yml"


def file_of(spec: Path) -> Path:
    return spec.with_suffix(".secrets.yml")


def saved(spec: Path, *names: str) -> SecretStore:
    store = open_store(spec, "orders")
    for name in names:
        store.password(name)
    store.save()
    return store


def everything(store: Secrets) -> list[str]:
    return [
        store.password("a").reveal(),
        store.authority("cluster").key_pem.reveal(),
        store.authority("cluster").certificate_pem.decode(),
        store.leaf_key("pg1", "server").reveal(),
        store.salt("a").hex(),
    ]


# ── the same name is the same secret ────────────────────────────────────────────────────────────
def test_what_was_saved_is_there_again(spec: Path) -> None:
    store = open_store(spec, "orders")
    before = everything(store)
    store.save()
    assert everything(store) == everything(open_store(spec, "orders")) == before


def test_what_was_not_saved_leaves_no_file(spec: Path) -> None:
    everything(open_store(spec, "orders"))
    assert list(spec.parent.iterdir()) == []


def test_another_cluster_has_other_secrets(tmp_path: Path) -> None:
    one, other = (everything(open_store(tmp_path / n / "c.yml", "o")) for n in ("x", "y"))
    assert not set(one) & set(other)


def test_an_id_lasts_as_long_as_its_cluster(tmp_path: Path) -> None:
    """Also where its authorities are rotated, and its seed is replaced."""
    path = tmp_path / "c.yml"
    first = open_store(path, "o")
    everything(first)
    first.save()
    open_store(path, "o").announce()
    seeded = open_store(tmp_path / "other.yml", "o")
    assert first.id != seeded.id
    rotating = open_store(path, "o")
    rotating.rotate(lambda content: {**content, "leaf_seed": "eHh4" * 10 + "eHg="})
    assert open_store(path, "o").id == rotating.id == first.id


def test_copies_of_a_file_from_before_there_were_ids_get_the_same(tmp_path: Path) -> None:
    open_store(tmp_path / "a.yml", "o").save()
    known = yaml.safe_load((tmp_path / "a.secrets.yml").read_text())
    old = yaml.safe_dump({name: what for name, what in known.items() if name != "id"})
    for name in ("one", "other"):
        file = tmp_path / f"{name}.secrets.yml"
        file.touch(mode=0o600)
        file.write_text(old)
    one, other = (open_store(tmp_path / f"{name}.yml", "o") for name in ("one", "other"))
    assert one.id == other.id
    one.save()
    assert yaml.safe_load((tmp_path / "one.secrets.yml").read_text())["id"] == one.id


def test_a_password_is_long_and_needs_no_quoting_anywhere(spec: Path) -> None:
    store = open_store(spec, "orders")
    texts = {store.password(f"p{n}").reveal() for n in range(50)}
    assert len(texts) == 50
    assert all(len(text) == 32 and text.isascii() and text.isalnum() for text in texts)


def test_saving_again_writes_nothing(spec: Path) -> None:
    store = saved(spec, "a")
    before = file_of(spec).stat().st_ino
    store.save()
    open_store(spec, "orders").save()
    assert file_of(spec).stat().st_ino == before


def test_a_salt_differs_by_name_and_by_password(spec: Path, tmp_path: Path) -> None:
    store = open_store(spec, "orders")
    assert len({store.salt(name) for name in "abc"}) == 3
    assert all(len(store.salt(name)) == 16 for name in "abc")


# ── the file ────────────────────────────────────────────────────────────────────────────────────
def test_the_file_is_its_owners_alone_whatever_the_umask(spec: Path) -> None:
    before = os.umask(0)
    try:
        saved(spec, "a")
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in spec.parent.iterdir()}
    assert set(modes.values()) == {"0o600"}, modes


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601, 0o660])
def test_a_file_that_others_may_read_is_refused(mode: int, spec: Path) -> None:
    saved(spec, "a")
    file_of(spec).chmod(mode)
    with pytest.raises(SecretsError, match="can be read by others"):
        open_store(spec, "orders")


@pytest.mark.parametrize(
    "text", ["", "[]", "version: 1", "a: [", "\x00", "version: 2\nleaf_seed: x\n", "just: words"]
)
def test_a_damaged_file_is_refused_and_stays(text: str, spec: Path) -> None:
    """Never replaced by new secrets: those would lock a running cluster's owner out."""
    file_of(spec).write_text(text)
    file_of(spec).chmod(0o600)
    with pytest.raises(SecretsError):
        open_store(spec, "orders")
    assert file_of(spec).read_text() == text


def test_no_error_quotes_the_file(spec: Path) -> None:
    secret = saved(spec, "a").password("a").reveal()
    text = file_of(spec).read_text()
    file_of(spec).write_text(text.replace("version: 1", "version: ]["))
    with pytest.raises(SecretsError) as said:
        open_store(spec, "orders")
    whole = "".join(traceback.format_exception(said.value))
    assert secret not in whole
    assert "][" not in whole


# ── killed at any point ─────────────────────────────────────────────────────────────────────────
def die(status: int) -> NoReturn:
    os._exit(status)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            die(7)
        die(0)
    return os.waitpid(child, 0)[1]


def killed_at(number: int, work: Callable[[], object]) -> int:
    """As `in_child`, and the kernel ends it at its `number`-th contact with the outside."""

    def counted() -> None:
        seen = itertools.count(1)

        def hook(event: str, _: object) -> None:
            outside = event != "os.kill" and event.startswith(("open", "os.", "fcntl"))
            if outside and next(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()

    return in_child(counted)


def interruptions(work: Callable[[], object]) -> Iterator[int]:
    """Kill `work` at its first, second, … contact, until it comes through."""
    for number in range(1, 200):
        status = killed_at(number, work)
        yield number
        if status == 0:
            return
        assert os.WIFSIGNALED(status), "it failed by itself"
    raise AssertionError("it never came through")


def test_a_save_that_is_killed_leaves_the_old_or_the_new(spec: Path) -> None:
    old = saved(spec, "a").password("a").reveal()

    def add() -> None:
        saved(spec, "b")

    points = 0
    for _ in interruptions(add):
        points += 1
        there = open_store(spec, "orders")
        assert there.password("a").reveal() == old
        assert file_of(spec).stat().st_mode & 0o077 == 0
    assert points > 5, "the hook did not see the save"
    assert "b" in Vault.beside(spec).read()["passwords"]  # type: ignore[index]


def test_a_first_save_that_is_killed_leaves_nothing_or_all(spec: Path) -> None:
    for _ in interruptions(lambda: saved(spec, "a")):
        content = Vault.beside(spec).read()
        assert content is None or "a" in content["passwords"]
        file_of(spec).unlink(missing_ok=True)


# ── two at once ─────────────────────────────────────────────────────────────────────────────────
def at_once(work: Callable[[int], None], count: int = 2) -> list[int]:
    """Run `work` in `count` processes that start together; their exit statuses."""
    reader, writer = os.pipe()
    children = []
    for number in range(count):
        if (child := os.fork()) == 0:
            os.close(writer)
            os.read(reader, 1)  # until the parent lets go
            try:
                work(number)
            except SecretsError:
                die(3)
            except BaseException:
                die(7)
            die(0)
        children.append(child)
    os.close(reader)
    os.close(writer)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_two_processes_that_save_at_once_end_with_the_same_secrets(spec: Path) -> None:
    saved(spec)
    for turn in range(5):

        def work(number: int, turn: int = turn) -> None:
            store = open_store(spec, "orders")
            store.password(f"shared{turn}")
            store.password(f"own{turn}-{number}")
            store.authority(f"ca{turn}")
            store.save()
            final = [store.password(f"shared{turn}"), store.authority(f"ca{turn}").key_pem]
            text = "\n".join(secret.reveal() for secret in final)
            (spec.parent / f"seen{number}").write_text(text)

        assert at_once(work) == [0, 0]
        there = open_store(spec, "orders")
        expected = there.password(f"shared{turn}").reveal()
        seen = {(spec.parent / f"seen{number}").read_text() for number in (0, 1)}
        assert len(seen) == 1
        assert seen.pop().startswith(expected)
        kept = Vault.beside(spec).read()
        assert kept
        assert {f"own{turn}-{number}" for number in (0, 1)} <= kept["passwords"].keys()


def test_of_two_that_make_the_file_at_once_one_wins_and_the_other_is_told(spec: Path) -> None:
    for _ in range(5):
        file_of(spec).unlink(missing_ok=True)

        def work(number: int) -> None:
            store = open_store(spec, "orders")
            store.password("a")
            store.save()
            (spec.parent / f"won{number}").write_text(store.password("a").reveal())

        for number in (0, 1):
            (spec.parent / f"won{number}").unlink(missing_ok=True)
        statuses = at_once(work)
        assert set(statuses) <= {0, 3}
        assert 0 in statuses
        there = open_store(spec, "orders").password("a").reveal()
        for number, status in enumerate(statuses):
            if status == 0:
                assert (spec.parent / f"won{number}").read_text() == there


# ── encrypted ───────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def identity(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An age identity, and a spec whose secrets are encrypted to it."""
    import pyrage

    made = pyrage.x25519.Identity.generate()
    file = tmp_path / "identity"
    file.write_text(f"# made for a test\n{made}\n")
    recipients = spec.with_suffix(".secrets.recipients")
    recipients.write_text(f"# who may read\n\n{made.to_public()}\n")
    monkeypatch.setenv("PGHA_AGE_IDENTITY", str(file))
    return file


def test_an_encrypted_file_is_read_again_by_its_recipient(spec: Path, identity: Path) -> None:
    store = open_store(spec, "orders")
    before = everything(store)
    store.save()
    assert not file_of(spec).exists()
    assert everything(open_store(spec, "orders")) == before


def test_an_encrypted_file_shows_nothing(spec: Path, identity: Path) -> None:
    store = saved(spec, "a")
    raw = spec.with_suffix(".secrets.age").read_bytes()
    assert raw.startswith(b"age-encryption.org")
    for secret in store.values():
        assert secret.reveal().encode() not in raw
    assert b"passwords" not in raw


def test_nobody_else_can_read_an_encrypted_file(spec: Path, identity: Path) -> None:
    import pyrage

    secret = saved(spec, "a").password("a").reveal()
    identity.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    with pytest.raises(SecretsError, match="cannot decrypt") as said:
        open_store(spec, "orders")
    assert secret not in "".join(traceback.format_exception(said.value))


@pytest.mark.parametrize("text", ["", "no identity\n", "AGE-SECRET-KEY-1NONSENSE\n"])
def test_what_is_no_identity_is_an_error_with_advice(text: str, spec: Path, identity: Path) -> None:
    saved(spec, "a")
    identity.write_text(text)
    with pytest.raises(SecretsError, match="identity"):
        open_store(spec, "orders")


def test_a_store_does_not_print_what_it_holds(spec: Path) -> None:
    store = saved(spec, "a")
    shown = f"{store!r} {store} {Vault.beside(spec)!r}"
    assert [s for s in store.values() if s.reveal() in shown] == []


def test_secrets_that_no_host_knows_yet_are_not_rotated(tmp_path: Path) -> None:
    """A user who was added to cluster.yml and not applied: whose password would be changed?"""
    store = open_store(tmp_path / "cluster.yml", "orders")
    store.password("user-app")
    store.save()
    store.password("user-new")
    with pytest.raises(SecretsError, match="does not hold user-new yet"):
        store.rotate(lambda content: content)
