"""From schema version 1 to the present one: a real file of version 1, filled as it was then, and what becomes of it."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage import database, entries, migrations, proof, schema, views
from storage.answers import Repeat, Stored, WaitingRef
from storage.ledger import Ledger
from storage.outbox import Outbox
from storage.records import Delivery, DrillStep, Mode, OutboxState, UnlockStep
from tests.unit.storage_samples import NOW, job, login, mark, step

FIRST = migrations.STEPS[:1]


def insert(book: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    columns = [name for (_, name, *_) in book.execute(f"PRAGMA table_info({table})")]
    chosen = [name for name in columns if name in row]
    book.execute(
        f"INSERT INTO {table} ({', '.join(chosen)}) VALUES ({', '.join('?' * len(chosen))})",
        [row[name] for name in chosen],
    )


def without_new_members(body: str) -> str:
    """An entry's body as version 1 wrote it."""
    said = json.loads(body)
    if said["kind"] == "delivery":
        del said["data"]["unknown_card"]
    return proof.canonical(said).decode()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger of version 1: its tables made by step 1, its rows those of a present ledger, less what was not there."""
    source = tmp_path / "source.db"
    book = Ledger.open(source, NOW)
    book.commit([job(1), login(), mark("start", key="start", mode=Mode.ONLINE), step("failed", "grace"), job(5)])
    book.commit([Delivery(NOW, 1, "hq", "unanswered", OutboxState.WAITING, 1)])
    book.commit([Delivery(NOW, 5, "hq", "delivered", None, 1, user="ada")])
    book.close()
    path = tmp_path / "ledger.db"
    opened = database.open_writer(path, NOW, FIRST)
    tables = [*schema.schema_1.EVIDENCE, *schema.schema_1.WORKING]
    with closing(sqlite3.connect(source)) as present:
        present.row_factory = sqlite3.Row
        rows = {table: [dict(row) for row in present.execute(f"SELECT * FROM {table}")] for table in tables}
    head = proof.GENESIS
    for entry in rows["entries"]:
        entry["body"] = without_new_members(entry["body"])
        entry["prev_hash"], entry["hash"] = head, proof.entry_hash(head, entry["body"].encode())
        head = entry["hash"]
    opened.connection.execute("BEGIN")
    for table in tables:
        for row in rows[table] if table != "outbox_counts" else []:
            insert(opened.connection, table, row)
    opened.connection.execute("COMMIT")
    opened.connection.close()
    os.close(opened.lock)
    return path


def shape(path: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(path)) as book:
        query = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name"
        return [row for row in book.execute(query).fetchall() if not row[1].startswith("_sqlite")]


def rows_that_differ_from_their_entries(path: Path) -> list[tuple[str, int, str]]:
    """The rule by which a plain row is checked: a column says what the entry's data says under its name, and NULL where
    the data has no such member.
    """
    wrong = []
    with database.reading(path) as reader:
        reader.row_factory = sqlite3.Row
        said = {row["seq"]: json.loads(row["body"]) for row in reader.execute("SELECT seq, body FROM entries")}
        for plain in entries.PLAIN:
            for row in reader.execute(f"SELECT * FROM {plain.table}"):
                data = said[row["seq"]]["data"]
                names = set(row.keys()) - {"seq", "id", "at", "record_id"}
                wrong += [(plain.table, row["seq"], name) for name in names if row[name] != data.get(name)]
    return wrong


def test_a_ledger_of_version_1_is_copied_then_migrated_and_everything_is_still_there(old: Path) -> None:
    ledger = Ledger.open(old, NOW)
    copy = old.with_name("ledger.db.schema-1-20261122T101503Z")
    assert ledger.words == (f"the ledger was migrated from schema 1 to 4; as it was it is kept as {copy}",)
    assert ledger.head[0] == 7
    ledger.commit([UnlockStep(NOW, "d", "hq", "unlocked", "once"), DrillStep(NOW, "*", "start", NOW + 5, "t", "root")])
    assert isinstance(ledger.commit([job(5)])[0], Repeat)
    ledger.close()
    with database.reading(old) as reader:
        assert proof.walk(reader) == proof.ChainReport(9, True, None)
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (2,)
        assert next(iter(Outbox(reader).waiting("hq"))) == WaitingRef(1, "KM-A4F-000123/s1", 0)
        for name in views.VIEWS:
            reader.execute(f"SELECT * FROM {name}").fetchall()
    with closing(sqlite3.connect(copy)) as before:
        assert migrations.version(before) == 1
        assert (
            "unknown_card"
            not in before.execute("SELECT sql FROM sqlite_schema WHERE name = 'deliveries'").fetchone()[0]
        )


def test_a_migrated_ledger_and_a_fresh_one_have_the_same_schema(old: Path, tmp_path: Path) -> None:
    Ledger.open(old, NOW).close()
    fresh = tmp_path / "fresh.db"
    Ledger.open(fresh, NOW).close()
    assert shape(old) == shape(fresh)


def test_version_1_is_what_step_1_makes_and_nothing_newer(old: Path) -> None:
    names = {name for kind, name, _ in shape(old) if kind in ("table", "view")}
    assert names == {*schema.schema_1.EVIDENCE, *schema.schema_1.WORKING, *views.OF_VERSION_1}


def test_rows_of_version_1_can_still_be_checked_against_their_entries(old: Path) -> None:
    ledger = Ledger.open(old, NOW)
    ledger.commit(
        [Delivery(NOW, 1, "hq", "delivered", None, 2, unknown_card=True), Delivery(NOW, 3, "hq", "x", None, 1)]
    )
    ledger.close()
    with database.reading(old) as reader:
        assert [row[0] for row in reader.execute("SELECT unknown_card FROM deliveries ORDER BY seq")] == [
            None,
            None,
            1,
            0,
        ]
    assert rows_that_differ_from_their_entries(old) == []


def test_a_row_of_version_1_that_was_altered_in_the_new_column_is_found(old: Path) -> None:
    Ledger.open(old, NOW).close()
    with closing(sqlite3.connect(old)) as other:
        other.execute("DROP TRIGGER deliveries_no_update")
        other.execute("UPDATE deliveries SET unknown_card = 1")
        other.commit()
    assert {name for _, _, name in rows_that_differ_from_their_entries(old)} == {"unknown_card"}


def test_records_that_waited_through_the_migration_know_their_mode(old: Path) -> None:
    Ledger.open(old, NOW).close()
    with database.reading(old) as reader:
        assert reader.execute("SELECT seq, mode FROM outbox ORDER BY seq").fetchall() == [(1, "offline"), (3, "online")]


def test_new_evidence_tables_are_guarded_too(old: Path) -> None:
    ledger = Ledger.open(old, NOW)
    ledger.commit([UnlockStep(NOW, "d", "hq", "unlocked"), DrillStep(NOW, "*", "start", NOW, "", "root")])
    ledger.close()
    with closing(sqlite3.connect(old)) as other:
        for table in ("unlocks", "drills"):
            for statement in (f"UPDATE {table} SET device = ''", f"DELETE FROM {table}"):
                with pytest.raises(sqlite3.IntegrityError, match="written once"):
                    other.execute(statement)


def test_a_damaged_ledger_of_version_1_is_recovered_into_the_present_schema(old: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(old)) as book:
        page = book.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'lives'").fetchone()[0]
        book.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = bytearray(old.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    old.write_bytes(content)
    ledger = Ledger.open(old, NOW)
    assert len(ledger.words) == 1
    assert "7 entries were recovered" in ledger.words[0]
    assert "unreadable: lives;" in ledger.words[0]
    assert isinstance(ledger.commit([job(9)])[0], Stored)
    ledger.close()
    with database.reading(old) as reader:
        assert migrations.version(reader) == migrations.CURRENT
        assert reader.execute("SELECT seq, mode FROM outbox ORDER BY seq").fetchall()[:2] == [
            (1, "offline"),
            (3, "online"),
        ]
        assert proof.walk(reader).ok
