"""What was deleted is looked for where no row is any more: in the unused parts of pages, on free pages, in the WAL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from storage.remnants import Remnants, remnants

CARD = "04A2B3C4D5"


def filled(path: Path, secure: str, size: int = 4096) -> sqlite3.Connection:
    """A table of 400 rows, each with a number of its own and every 40th with the card, deleted again but one."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {size}")
    connection.execute(f"PRAGMA secure_delete = {secure}").fetchall()
    connection.execute("CREATE TABLE rows (seq INTEGER PRIMARY KEY, card TEXT)")
    connection.execute("BEGIN")
    rows = [(seq, CARD if seq % 40 == 0 else f"{seq:010}" + "x" * 90) for seq in range(1, 401)]
    connection.executemany("INSERT INTO rows VALUES (?, ?)", rows)
    connection.execute("DELETE FROM rows WHERE card = ? AND seq > 40", (CARD,))
    connection.execute("COMMIT")
    return connection


@pytest.mark.parametrize("size", [512, 4096, 65536])
def test_deleted_rows_that_were_not_overwritten_are_found_and_those_that_stand_are_not(
    tmp_path: Path, size: int
) -> None:
    filled(tmp_path / "off.db", "OFF", size).close()
    assert remnants(tmp_path / "off.db", CARD) == Remnants(9, 0)
    filled(tmp_path / "on.db", "ON", size).close()
    assert remnants(tmp_path / "on.db", CARD) == Remnants(0, 0)


def test_free_pages_are_looked_at(tmp_path: Path) -> None:
    with filled(tmp_path / "a.db", "FAST") as connection:
        connection.execute("DELETE FROM rows WHERE seq > 20")
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] > 5
    assert remnants(tmp_path / "a.db", f"{300:010}").unused == 1


def test_letters_of_any_case(tmp_path: Path) -> None:
    filled(tmp_path / "a.db", "OFF").close()
    assert remnants(tmp_path / "a.db", CARD.lower()).unused == 9


def test_the_wal_is_looked_at(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE rows (card TEXT)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert remnants(tmp_path / "a.db", CARD) == Remnants(0, 0)
    connection.execute("INSERT INTO rows VALUES (?)", (CARD,))
    assert remnants(tmp_path / "a.db", CARD) == Remnants(0, 1)
    connection.close()


def test_what_is_no_ledger_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"")
    with pytest.raises(ValueError, match="no SQLite file"):
        remnants(tmp_path / "a.db", CARD)
    with pytest.raises(ValueError, match="no text"):
        remnants(tmp_path / "a.db", "")
    with pytest.raises(FileNotFoundError):
        remnants(tmp_path / "b.db", CARD)
