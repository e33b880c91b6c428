"""What a cluster that is gone leaves on this machine."""

from __future__ import annotations

from pathlib import Path

from builder.connection_files import remove_connection_files


def test_the_files_of_a_cluster_that_is_gone_go_and_those_of_another_stay(tmp_path: Path) -> None:
    gone, other = tmp_path / ".pgha" / "orders", tmp_path / ".pgha" / "shop"
    for home in (gone, other):
        home.mkdir(parents=True)
        for name in ("ca.crt", "pgpass", "pg_service.conf"):
            (home / name).touch()
    remove_connection_files(gone)
    assert not gone.exists()
    assert len(list(other.iterdir())) == 3
    remove_connection_files(other)
    assert not (tmp_path / ".pgha").exists()
    remove_connection_files(other)


def test_what_somebody_else_put_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    (tmp_path / "pgpass").touch()
    remove_connection_files(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
