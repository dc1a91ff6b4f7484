"""What the ledger knows of its signatures: the newest, the last of many, the key's own note, the one at closing."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from storage import signed
from storage.checkpoints import EVERY_ENTRIES, Checkpoint
from storage.database import reading
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.records import Keepable, Note, Sign
from storage.signing import Signer

WALL = 1_795_000_000_000


def notes(count: int) -> list[Note]:
    return [Note(WALL, "start", {"number": number}) for number in range(count)]


def work(path: Path, signer: Signer | None, batch: Sequence[Keepable], closed_at: int | None = None) -> list[int]:
    """Open, keep, close; the seqs that are signed afterwards."""
    ledger = Ledger.open(path, WALL, signer)
    ledger.commit(batch)
    ledger.close(closed_at)
    with reading(path) as connection:
        return [each.seq for each in signed.last(connection, 100)]


def test_closing_signs_what_is_new_and_only_that(tmp_path: Path) -> None:
    signer, path = Signer.new(), tmp_path / "ledger.db"
    assert work(path, signer, notes(3), WALL) == [3]
    assert work(path, signer, [], WALL + 1) == [3]
    assert work(path, signer, notes(1), WALL + 2) == [3, 4]
    assert work(path, signer, notes(1)) == [3, 4], "a start that failed signs nothing"
    with reading(path) as connection:
        for each in signed.last(connection, 100):
            assert each.signed()


def test_a_ledger_without_a_key_closes_as_ever(tmp_path: Path) -> None:
    assert work(tmp_path / "ledger.db", None, notes(3), WALL) == []


def test_closing_on_a_disk_that_fails_closes_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, WALL, Signer.new())
    ledger.commit(notes(1))
    ledger._connection.execute("PRAGMA query_only = 1")
    ledger.close(WALL)
    Ledger.open(path, WALL).close()


def test_the_last_checkpoints_come_the_newest_last(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert work(path, Signer.new(), [*notes(EVERY_ENTRIES * 2 + 5), Sign(WALL)]) == [1000, 2000, 2005]
    with reading(path) as connection:
        assert [each.number for each in signed.last(connection, 2)] == [2, 3]
        newest = signed.newest(connection)
        assert isinstance(newest, Checkpoint)
        assert newest.seq == 2005


def test_a_ledger_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    work(path, None, notes(1))
    with reading(path) as connection:
        assert signed.newest(connection) is None
        assert signed.last(connection, 5) == []


def test_a_key_is_noted_once_in_a_ledger(tmp_path: Path) -> None:
    path, first, second = tmp_path / "ledger.db", Signer.new(), Signer.new()
    work(path, first, notes(1))
    for signer, wanted in ((first, 1), (first, 0), (second, 1), (first, 0), (second, 0)):
        with reading(path) as connection:
            fresh = signed.key_notes(connection, signer, WALL)
        assert len(fresh) == wanted
        for note in fresh:
            key = base64.b64encode(signer.public_key).decode()
            assert note == Note(WALL, "key", {"installation": signer.installation, "public_key": key})
        work(path, signer, fresh)


def test_a_file_that_fails_is_an_error_of_ours(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection, pytest.raises(StorageError):
        signed.newest(connection)
