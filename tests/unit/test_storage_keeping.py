"""Checking, repairing and vacuuming the ledger's file."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from storage import database, keeping, replacing, space
from storage.errors import CannotStore, LedgerBroken, LedgerInUse, LedgerMissing, LedgerTooNew, StorageError, translated
from storage.ledger import Ledger
from storage.records import Delivery, Remember, Sign
from storage.signing import Signer
from storage.verify import verify
from tests.unit.storage_samples import NOW, job

SIGNER = Signer.new()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of 400 jobs, 300 of which wait."""
    made = tmp_path / "ledger.db"
    ledger = Ledger.open(made, NOW, SIGNER)
    ledger.commit([job(number) for number in range(400)])
    ledger.commit([Delivery(NOW, seq, "hq", "delivered", None, 1) for seq in range(1, 101)])
    ledger.commit([Sign(NOW)])
    ledger.close()
    return made


def by_hand(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


def wrong(path: Path) -> dict[str, str]:
    return {each.what: each.words for each in keeping.check(path) if each.wrong}


def repaired(path: Path) -> list[str]:
    """What a repair did, all of which it could put right."""
    done = keeping.repair(path, NOW)
    assert not any(each.lost for each in done)
    with closing(sqlite3.connect(path)) as other:
        lines = other.execute("SELECT text FROM app_log ORDER BY seq").fetchall()
    assert [each.words for each in done] == [text for (text,) in lines][-len(done) :]
    return [each.words for each in done]


def damage(path: Path, page: int) -> None:
    content = bytearray(path.read_bytes())
    content[page * 4096 : (page + 1) * 4096] = random.Random(page).randbytes(4096)
    path.write_bytes(content)


def figures(path: Path) -> tuple[int, int]:
    """Entries, without those of App.Log, and records in the outbox."""
    with closing(sqlite3.connect(path)) as other:
        found: tuple[int, int] = other.execute(
            "SELECT (SELECT count(*) FROM entries WHERE kind <> 'app-log'), (SELECT count(*) FROM outbox)"
        ).fetchone()
    return found


def figures_of_outbox(path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute("SELECT count(*) FROM outbox").fetchone()[0])


def leaf_of(path: Path, table: str) -> int:
    """A leaf page of a table in its middle, counted from 0."""
    asked = ["sqlite3", os.fspath(path), f"SELECT pageno - 1 FROM dbstat WHERE name = '{table}' AND pagetype = 'leaf'"]
    pages = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return int(pages[len(pages) // 2])


def test_a_sound_ledger_has_nothing_wrong_and_repair_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    assert wrong(path) == {}
    assert [each.what for each in keeping.check(path)] == [
        "pages",
        "schema",
        "outbox",
        "totals",
        "chain",
        "signatures",
        "room",
    ]
    assert keeping.repair(path, NOW) == []
    assert path.read_bytes() == before


def test_check_works_beside_a_running_appliance_and_repair_does_not(path: Path) -> None:
    ledger = Ledger.open(path, NOW, SIGNER)
    ledger.commit([job(1_000)])
    found = {each.what: each.words for each in keeping.check(path)}
    assert found["outbox"] == "301 records, as counted"
    assert found["signatures"] == "signed through entry 500, 1 after it not yet"
    for what in (keeping.repair, keeping.vacuum):
        with pytest.raises(LedgerInUse, match=r"the appliance runs .*; stop it first"):
            what(path, NOW)
    ledger.close()


def test_wrong_counts_are_found_and_counted_anew(path: Path) -> None:
    by_hand(path, "UPDATE outbox_counts SET records = 7", "UPDATE totals SET value = 1")
    assert wrong(path) == {
        "outbox": "300 records, but its counts say otherwise",
        "totals": "400 jobs, but the total says 1",
    }
    assert repaired(path) == [
        "the counts of the outbox were wrong and are right now",
        "the total of jobs was 1 and is 400 now",
    ]
    assert wrong(path) == {}


def test_guards_that_were_taken_out_altered_or_added_are_found_and_put_right(path: Path) -> None:
    by_hand(
        path,
        "DROP TRIGGER jobs_no_update",
        "DROP TRIGGER entries_no_delete",
        "CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT 1; END",
        "CREATE TRIGGER quietly AFTER INSERT ON jobs BEGIN DELETE FROM outbox WHERE seq = NEW.seq; END",
        "DROP VIEW jobs_by_day",
        "DROP INDEX outbox_queue",
    )
    named = wrong(path)["schema"]
    for name in ("trigger jobs_no_update", "trigger entries_no_delete", "trigger quietly", "view jobs_by_day"):
        assert name in named
    assert len(repaired(path)) == 2
    assert wrong(path) == {}
    assert verify(path).ok
    with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match="written once"):
        other.execute("DELETE FROM entries")


def test_a_table_that_is_gone_is_named(path: Path) -> None:
    by_hand(path, "DROP TABLE meters")
    assert "table meters" in wrong(path)["schema"]


def test_tables_that_are_gone_are_filled_from_the_entries(path: Path) -> None:
    head = verify(path).head
    by_hand(path, "DROP TABLE outbox", "DROP TABLE jobs", "DROP TABLE deliveries")
    lines = repaired(path)
    assert "400 rows of jobs were written anew from the entries" in lines
    assert "300 records put back into the outbox, and counted as sent until the next start" in lines
    assert wrong(path) == {}
    assert figures(path) == (500, 300)
    report = verify(path)
    assert report.wrong is None
    assert head != report.head  # App.Log


def test_without_the_table_of_the_entries_a_repair_refuses_and_changes_nothing(path: Path) -> None:
    by_hand(path, "DROP TABLE entries")
    with pytest.raises(StorageError, match="the entries is gone; put the newest backup in its place"):
        keeping.repair(path, NOW)
    assert figures_of_outbox(path) == 300


def test_a_record_in_the_outbox_without_an_entry_is_found(path: Path) -> None:
    by_hand(path, "INSERT INTO outbox SELECT 9999, upstream, state, dialect, device, order_key, at, 0, NULL, NULL, "
                  "'', '', '', '' FROM outbox LIMIT 1")  # fmt: skip
    assert wrong(path)["outbox"] == "1 of 301 records have no entry"


def test_a_record_in_the_outbox_whose_entry_is_gone_is_named_and_taken_out(path: Path) -> None:
    by_hand(path, "INSERT INTO outbox SELECT 9999, upstream, state, dialect, device, order_key, at, 0, NULL, NULL, "
                  "'', '', '', '' FROM outbox LIMIT 1")  # fmt: skip
    (cure,) = [each.cure for each in keeping.check(path) if each.wrong]
    assert "locum ledger repair" in cure
    (done,) = keeping.repair(path, NOW)
    assert done.lost
    assert done.words == (
        "1 record in the outbox of 'hq' (waiting) lost the entry, cannot be sent any more and is taken out: 9999"
    )
    assert wrong(path) == {}


def test_a_changed_end_of_the_chain_and_a_cut_one_are_found(path: Path) -> None:
    by_hand(path, "DROP TRIGGER entries_no_update", "UPDATE entries SET body = body || ' ' WHERE seq = 450")
    assert wrong(path)["chain"] == "entry 450 was changed, or what follows it"
    by_hand(path, "DROP TRIGGER entries_no_delete", "DELETE FROM entries WHERE seq > 440")
    assert wrong(path)["signatures"] == "entry 500 is signed, but the last one is 440"


def test_a_damaged_page_is_found_and_repair_recovers_the_rest(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        signed = other.execute("SELECT * FROM checkpoints").fetchall()
    assert signed
    damage(path, leaf_of(path, "jobs"))
    assert list(wrong(path)) == ["pages"]
    (line,) = repaired(path)
    assert "500 entries were recovered into a new one; unreadable: jobs; written anew from the entries: " in line
    assert path.with_name("ledger.db.damaged-20261122T101503Z").exists()
    assert wrong(path) == {}
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT * FROM checkpoints").fetchall() == signed


def test_a_repair_does_not_begin_a_new_ledger_where_nothing_can_be_read(path: Path) -> None:
    """The first page says where each table begins. A start begins anew, for there are records to be kept."""
    for first_page in (bytes(4096), random.Random(0).randbytes(4096)):
        content = first_page + path.read_bytes()[4096:]
        path.write_bytes(content)
        with pytest.raises(StorageError, match=r"nothing of .* could be read .*; put the newest backup") as told:
            keeping.repair(path, NOW)
        assert "\n" not in str(told.value)
        assert path.read_bytes() == content
        assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]
    Ledger.open(path, NOW, SIGNER).close()


@pytest.mark.parametrize("octets", [20, 100])
def test_a_header_that_is_destroyed_is_written_anew_and_nothing_is_lost(path: Path, octets: int) -> None:
    content = bytes(octets) + path.read_bytes()[octets:]
    path.write_bytes(content)
    (line,) = repaired(path)
    assert "500 entries were recovered into a new one; its header was destroyed and written anew; the damaged" in line
    assert wrong(path) == {}
    assert verify(path).ok
    assert figures(path) == (500, 300)


def test_vacuum_gives_back_what_nothing_uses_and_changes_nothing_else(path: Path) -> None:
    ledger = Ledger.open(path, NOW, SIGNER)
    ledger.commit([Remember(f"key {number}", "x" * 500) for number in range(2_000)])
    ledger.close()
    by_hand(path, "DELETE FROM memory")
    head = verify(path).head
    path.chmod(0o600)
    before, after = keeping.vacuum(path, NOW)
    assert after < before - 500_000
    assert database.bytes_on_disk(path) == after
    assert path.stat().st_mode & 0o777 == 0o600
    assert verify(path).head == head
    assert wrong(path) == {}
    assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]


def test_a_vacuum_without_room_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "measured", lambda folder: (1_000_000_000, 100_000))
    before = path.read_bytes()
    with pytest.raises(CannotStore, match=r"0\.1 MB free, .* MB are needed"):
        keeping.vacuum(path, NOW)
    assert path.read_bytes() == before


def test_a_vacuum_that_was_cut_off_is_completed_or_was_never(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> Path:
        raise OSError("power cut")

    head = verify(path).head
    for name in ("sync", "swap"):
        with monkeypatch.context() as patched:
            patched.setattr(replacing, name, cut)
            with pytest.raises(CannotStore):
                keeping.vacuum(path, NOW)
        ledger = Ledger.open(path, NOW, SIGNER)
        assert ledger.words == (("a vacuum of the ledger that was interrupted is complete",) if name == "swap" else ())
        assert ledger.head[1].hex() == head
        ledger.close()
        assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]


def test_what_is_no_ledger_is_said_in_a_line(tmp_path: Path, path: Path) -> None:
    text, empty, other = tmp_path / "text", tmp_path / "empty", tmp_path / "other.db"
    text.write_text("no ledger" * 100)
    empty.touch()
    by_hand(other, "CREATE TABLE addresses (name)")
    for file in (text, empty, other):
        with pytest.raises(LedgerBroken) as caught:
            keeping.check(file)
        assert "\n" not in str(caught.value)
    for what in (lambda path: keeping.check(path), lambda path: keeping.repair(path, NOW)):
        with pytest.raises(LedgerMissing, match="there is no ledger"):
            what(tmp_path / "nowhere")
        with pytest.raises(LedgerBroken, match=r"is empty; put the newest backup in its place \(locum ledger adopt\)"):
            what(empty)
    by_hand(path, "PRAGMA user_version = 99")
    with pytest.raises(LedgerTooNew):
        keeping.check(path)


def test_a_half_copied_ledger_is_found_damaged(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    assert list(wrong(path)) == ["pages"]


def test_a_copy_on_a_medium_that_may_not_be_written_is_checked_in_its_place(path: Path, tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    medium.mkdir()
    (medium / "ledger.db").write_bytes(path.read_bytes())
    medium.chmod(0o500)
    assert wrong(medium / "ledger.db") == {}
    assert [each.name for each in medium.iterdir()] == ["ledger.db"]
    medium.chmod(0o700)


def test_check_and_vacuum_of_a_damaged_ledger_name_the_same_cure(path: Path) -> None:
    damage(path, leaf_of(path, "jobs"))
    (finding,) = keeping.check(path)
    assert "locum ledger repair" in finding.cure
    with pytest.raises(StorageError, match=r"is damaged .* locum ledger repair"):
        keeping.vacuum(path, NOW)


def test_nothing_without_use_stays_beside_a_damaged_file(path: Path) -> None:
    """Its WAL stays only if there are frames in it."""
    damage(path, leaf_of(path, "jobs"))
    path.with_name("ledger.db-wal").touch()
    path.with_name("ledger.db-shm").write_bytes(bytes(32_768))
    repaired(path)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "ledger.db",
        "ledger.db.damaged-20261122T101503Z",
        "ledger.db.lock",
    ]


def test_a_wal_that_holds_something_stays_with_its_damaged_file(path: Path) -> None:
    ledger = Ledger.open(path, NOW, SIGNER)
    for number in range(1_000, 1_010):
        ledger.commit([job(number)])
    held = {suffix: path.with_name(f"ledger.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    ledger.close()
    page = leaf_of(path, "deliveries")
    for suffix, content in held.items():
        path.with_name(f"ledger.db{suffix}").write_bytes(content)
    damage(path, page)
    repaired(path)
    assert figures(path) == (510, 310)
    assert path.with_name("ledger.db.damaged-20261122T101503Z-wal").read_bytes() == held["-wal"]
    assert not path.with_name("ledger.db.damaged-20261122T101503Z-shm").exists()


def test_on_a_full_disk_an_io_error_is_called_what_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    assert "the disk failed" in str(translated(error, path))
    told = os.statvfs(path)
    full = os.statvfs_result((*told[:4], 0, *told[5:]))
    monkeypatch.setattr(os, "statvfs", lambda folder: full)
    assert "the disk is full; make space there" in str(translated(error, path))
    assert "the disk is full" in str(translated(OSError(28, "No space left on device"), path))
