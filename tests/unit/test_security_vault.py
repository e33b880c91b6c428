"""Where the secrets file is, whose it is, and how it changes its form without being lost."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from builder.errors import SecretsError
from builder.security.store import SecretStore, open_store


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return tmp_path / "cluster.yml"


def plain(spec: Path) -> Path:
    return spec.with_suffix(".secrets.yml")


def encrypted(spec: Path) -> Path:
    return spec.with_suffix(".secrets.age")


def recipients(spec: Path) -> Path:
    return spec.with_suffix(".secrets.recipients")


def saved(spec: Path, name: str = "a") -> SecretStore:
    store = open_store(spec, "orders")
    store.password(name)
    store.save()
    return store


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """My recipient; my identity is where it is looked for."""
    return identity(tmp_path / "mine", monkeypatch)


def identity(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import pyrage

    made = pyrage.x25519.Identity.generate()
    file.write_text(f"{made}\n")
    monkeypatch.setenv("PGHA_AGE_IDENTITY", str(file))
    return str(made.to_public())


# ── plain and encrypted ─────────────────────────────────────────────────────────────────────────
def test_listing_recipients_keeps_the_secrets_and_takes_the_plain_file_away(
    spec: Path, mine: str
) -> None:
    before = saved(spec).password("a")
    recipients(spec).write_text(mine)
    store = open_store(spec, "orders")
    assert store.password("a") == before
    assert plain(spec).exists()  # looking changes nothing
    store.save()
    assert encrypted(spec).exists()
    assert not plain(spec).exists()
    assert open_store(spec, "orders").password("a") == before


def test_removing_the_list_keeps_the_secrets(spec: Path, mine: str) -> None:
    recipients(spec).write_text(mine)
    before = saved(spec).password("a")
    recipients(spec).unlink()
    store = open_store(spec, "orders")
    assert store.password("a") == before
    store.save()
    assert plain(spec).stat().st_mode & 0o077 == 0
    assert not encrypted(spec).exists()


def test_an_empty_list_does_not_mean_everybody(spec: Path, mine: str) -> None:
    recipients(spec).write_text(mine)
    saved(spec)
    recipients(spec).write_text("# nobody yet\n")
    with pytest.raises(SecretsError, match="lists nobody"):
        open_store(spec, "orders")


def test_a_list_that_cannot_be_read_does_not_mean_nobody(spec: Path, mine: str) -> None:
    recipients(spec).write_bytes(f"{mine} # J\xf6rg\n".encode("latin-1"))
    with pytest.raises(SecretsError, match=f"{recipients(spec)} cannot be read: .*not UTF-8"):
        saved(spec)
    recipients(spec).unlink()
    recipients(spec).mkdir()
    with pytest.raises(SecretsError, match="cannot be read: Is a directory"):
        saved(spec)
    assert not plain(spec).exists()


def test_a_change_of_form_that_was_killed_is_finished(spec: Path, mine: str) -> None:
    """After the new file is there, with what is new in it, and before the old one is gone."""
    before = saved(spec).password("a")
    old = plain(spec).read_bytes()
    recipients(spec).write_text(mine)
    saved(spec, "b")
    plain(spec).write_bytes(old)
    plain(spec).chmod(0o600)
    again = open_store(spec, "orders")
    assert again.password("a") == before
    again.save()
    assert not plain(spec).exists()
    assert open_store(spec, "orders").password("a") == before


def test_two_files_that_differ_are_refused(spec: Path, mine: str) -> None:
    saved(spec)
    copy = plain(spec).read_bytes()
    recipients(spec).write_text(mine)
    saved(spec, "b")
    plain(spec).write_bytes(copy.replace(b"a:", b"c:"))
    plain(spec).chmod(0o600)
    with pytest.raises(SecretsError, match="different secrets"):
        open_store(spec, "orders")


def test_a_list_that_changes_encrypts_anew(
    spec: Path, mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipients(spec).write_text(mine)
    before = saved(spec).password("a")
    theirs = identity(tmp_path / "theirs", monkeypatch)
    monkeypatch.setenv("PGHA_AGE_IDENTITY", str(tmp_path / "mine"))
    recipients(spec).write_text(f"{mine}\n{theirs}\n")
    open_store(spec, "orders").save()
    monkeypatch.setenv("PGHA_AGE_IDENTITY", str(tmp_path / "theirs"))
    assert open_store(spec, "orders").password("a") == before
    recipients(spec).write_text(theirs)
    open_store(spec, "orders").save()
    monkeypatch.setenv("PGHA_AGE_IDENTITY", str(tmp_path / "mine"))
    with pytest.raises(SecretsError, match="cannot decrypt"):
        open_store(spec, "orders")


def test_an_ssh_key_is_a_recipient_too(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    (tmp_path / "id").write_bytes(private)
    monkeypatch.setenv("PGHA_AGE_IDENTITY", str(tmp_path / "id"))
    recipients(spec).write_text(f"{public.decode()} me@here\n")
    before = saved(spec).password("a")
    assert open_store(spec, "orders").password("a") == before


@pytest.mark.parametrize(
    "line", ["AGE-SECRET-KEY-1PASTEDBYMISTAKE", "age1nonsense", "somebody@here"]
)
def test_what_is_no_recipient_is_counted_and_not_quoted(line: str, spec: Path, mine: str) -> None:
    recipients(spec).write_text(f"{mine}\n{line}\n")
    with pytest.raises(SecretsError, match="recipient 2") as said:
        saved(spec)
    assert line not in "".join(traceback.format_exception(said.value))
    assert not encrypted(spec).exists()


def test_a_missing_identity_is_named(
    spec: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipients(spec).write_text(mine)
    saved(spec)
    monkeypatch.setenv("PGHA_AGE_IDENTITY", "/nonexistent/age.txt")
    with pytest.raises(SecretsError, match="no identity in /nonexistent"):
        open_store(spec, "orders")


# ── the file and its owner ──────────────────────────────────────────────────────────────────────
def test_a_link_stays_a_link(spec: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    safe.mkdir()
    plain(spec).symlink_to(safe / "orders.yml")
    before = saved(spec).password("a")
    assert plain(spec).is_symlink()
    assert (safe / "orders.yml").stat().st_mode & 0o777 == 0o600
    assert open_store(spec, "orders").password("a") == before


def test_what_lies_where_the_new_file_is_written_is_not_followed(
    spec: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".new.cluster.secrets.yml").symlink_to(victim)
    saved(spec)
    assert victim.read_text() == "untouched"


def test_whatever_lies_around_is_covered_by_one_ignored_name(spec: Path) -> None:
    saved(spec)
    assert all(path.name.endswith(".secrets.yml") for path in spec.parent.iterdir())


def test_a_file_that_cannot_be_read_or_written_is_an_error_with_its_name(spec: Path) -> None:
    plain(spec).mkdir()
    with pytest.raises(SecretsError, match="cannot read"):
        open_store(spec, "orders")
    plain(spec).rmdir()
    with pytest.raises(SecretsError, match="cannot write"):
        open_store(spec.parent / "nowhere" / "cluster.yml", "orders").save()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to somebody else")


@needs_root
def test_root_leaves_the_file_to_whom_it_belongs(spec: Path) -> None:
    saved(spec)
    os.chown(plain(spec), 65534, 65534)
    saved(spec, "b")
    status = plain(spec).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65534, 0o600)


@needs_root
def test_somebody_elses_file_is_refused(spec: Path, tmp_path: Path) -> None:
    """As a user, even where the kernel would let them read it."""
    from builder.security.vault import _refuse_open_file

    saved(spec)
    status = plain(spec).stat()
    child = os.fork()
    if child == 0:
        os.seteuid(65534)
        try:
            _refuse_open_file(plain(spec), status)
        except SecretsError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
