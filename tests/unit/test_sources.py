"""Repositories in cluster.yml: what becomes of them on a host, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from builder.errors import SpecError
from builder.resources.base import Absent, Action, Change, Present
from builder.spec.read import read_spec
from roles.system.sources import AptLists

KEY = base64.b64encode(b"\x99\x01\x0dkey").decode()
SPEC = """
name: orders
hosts: {{e1: {{address: 10.0.0.1, roles: [etcd]}}}}
packages: {{sources: {{own: {{url: "{url}", suite: "{suite}", key: "{key}"}}}}}}
"""


def read(tmp_path: Path, **other: str) -> Any:
    file = tmp_path / "cluster.yml"
    values = {"url": "https://deb.example.org/pg", "suite": "trixie-pgdg", "key": KEY, **other}
    file.write_text(SPEC.format(**values))
    return read_spec(file)


def test_a_source_is_read(tmp_path: Path) -> None:
    assert read(tmp_path).sections["packages"]["sources"]["own"]["components"] == ["main"]


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("url", "ftp://deb.example.org", "a URL such as"),
        ("url", "https://deb.example.org/ [trusted=yes]", "a URL such as"),
        ("suite", "trixie main", "a suite such as"),
        ("key", "-----BEGIN PGP", "a key in base64"),
        ("key", base64.b64encode(b"plain").decode(), "no OpenPGP key"),
        ("key", "A", "no OpenPGP key"),
    ],
)
def test_what_could_not_work_or_would_say_more_is_refused(
    tmp_path: Path, key: str, value: str, why: str
) -> None:
    with pytest.raises(SpecError, match=why):
        read(tmp_path, **{key: value})


@pytest.mark.parametrize(
    "url", ["https://ann:hunter2@deb.example.org/pg", "http://t0ken@a.example"]
)
def test_credentials_in_a_url_are_refused_with_where_they_belong(tmp_path: Path, url: str) -> None:
    with pytest.raises(SpecError, match=r"password .*/etc/apt/auth\.conf\.d/"):
        read(tmp_path, url=url)
    (tmp_path / "cluster.yml").write_text(
        "name: orders\nhosts: {e1: {address: 10.0.0.1, roles: [etcd]}}\n"
        f"packages: {{python_index: '{url}'}}\n"
    )
    with pytest.raises(SpecError, match=r"cluster\.yml:3: .*password .*/root/\.netrc"):
        read_spec(tmp_path / "cluster.yml")


def test_an_at_sign_in_a_path_is_no_credential(tmp_path: Path) -> None:
    read(tmp_path, url="https://deb.example.org/@team/pg")


def test_a_refused_url_is_shown_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"got the text `https://…@deb\.example\.org/%`") as refused:
        read(tmp_path, url="https://ann:hunter2@deb.example.org/%")
    assert "hunter2" not in str(refused.value)


def test_lists_are_fetched_anew_when_a_source_has_changed() -> None:
    lists = AptLists(hosts=("e1",), name="apt", sources="new")
    old = "0123456789abcdef"
    assert AptLists.parse([lists], f"lists {old}\n")["apt"] == Present(attributes={"sources": old})
    assert AptLists.parse([lists], "lists \n")["apt"] == Absent()
    change = Change(resource=lists, action=Action.CREATE, observed=Absent())
    (step,) = lists.steps(change)
    assert "Error-Mode=any" in str(step), "a source that fails is a failure"
