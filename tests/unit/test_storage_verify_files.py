"""Verify reads any copy as it lies there, says in one line why it cannot, and knows what a partial file leaves out."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import copies, database, migrations, proof, schema_1
from storage.errors import LedgerBroken, LedgerMissing, LedgerTooNew
from storage.ledger import Ledger
from storage.records import Delivery, Note, Sign
from storage.signing import Signer
from storage.verify import verify
from storage.verifying.opening import CannotVerify
from tests.peers.disks import SmallDisk
from tests.peers.skips import need_root
from tests.unit.storage_samples import NOW, job, login, mark, step
from tests.unit.tampering import copied, key_note, make, tamper

SIGNER = Signer.new()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sample") / "ledger.db", SIGNER)


@pytest.fixture
def ledger(sample: Path, tmp_path: Path) -> Path:
    return copied(sample, tmp_path)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that even root cannot write to, once it is sealed."""
    disk = SmallDisk(tmp_path / "medium", 16 << 20)
    try:
        yield disk.at
    finally:
        disk.unmount()


def seal(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, capture_output=True)


def test_nothing_is_left_beside_the_file(ledger: Path) -> None:
    before = {each.name: each.read_bytes() for each in ledger.parent.iterdir()}
    assert verify(ledger).ok
    assert {each.name: each.read_bytes() for each in ledger.parent.iterdir()} == before


def test_a_ledger_at_work_verifies_with_what_is_in_its_wal(tmp_path: Path) -> None:
    book = Ledger.open(tmp_path / "ledger.db", NOW, SIGNER)
    book.commit([key_note(SIGNER), *(job(number) for number in range(50)), Sign(NOW)])
    assert verify(tmp_path / "ledger.db").last == 51
    book.commit([login()])
    assert (tmp_path / "ledger.db-wal").stat().st_size > 0
    assert verify(tmp_path / "ledger.db").last == 52
    book.close()


def disk_of_a_dead_box(tmp_path: Path, folder: Path) -> Path:
    """A ledger whose newest entries are in the WAL only, without the memory file of who had it open."""
    book = Ledger.open(tmp_path / "live.db", NOW, SIGNER)
    book.commit([key_note(SIGNER), job(1)])
    book.checkpoint()
    book.commit([job(2), Sign(NOW)])
    for suffix in ("", "-wal"):
        shutil.copyfile(tmp_path / f"live.db{suffix}", folder / f"ledger.db{suffix}")
    book.close()
    return folder / "ledger.db"


def test_a_wal_beside_a_copy_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    assert verify(disk_of_a_dead_box(tmp_path, tmp_path / "old")).last == 3


def test_a_read_only_medium_will_do(sample: Path, read_only: Path) -> None:
    path = copied(sample, read_only)
    seal(read_only)
    report = verify(path)
    assert (report.wrong, report.last, report.remarks) == (None, 23, ())


def test_a_wal_on_a_read_only_medium_is_not_passed_over(tmp_path: Path, read_only: Path) -> None:
    path = disk_of_a_dead_box(tmp_path, read_only)
    seal(read_only)
    report = verify(path)
    assert (report.wrong, report.last) == (None, 3)
    assert "ledger.db-wal could not be read where it is" in report.remarks[0]


def test_a_path_with_characters_that_mean_something_elsewhere_is_read(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "50% off? #1 & ünïted"
    folder.mkdir()
    assert verify(copied(sample, folder, "a ?b#c.db")).ok


def test_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing, match="there is no file"):
        verify(tmp_path / "nowhere.db")


def test_a_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotVerify, match="is a directory"):
        verify(tmp_path)


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"hello", "no SQLite"), (bytes(9_000), "no SQLite")])
def test_what_is_no_ledger_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(LedgerBroken, match=said):
        verify(tmp_path / "file")


def test_another_programs_file_is_said(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "notes.sqlite")) as book:
        book.execute("CREATE TABLE entries (seq INTEGER PRIMARY KEY, body TEXT)")
        book.execute("PRAGMA user_version = 3")
    with pytest.raises(LedgerBroken, match="but no ledger"):
        verify(tmp_path / "notes.sqlite")


def test_a_newer_one_is_refused(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        book.execute(f"PRAGMA user_version = {migrations.CURRENT + 1}")
    with pytest.raises(LedgerTooNew, match="verify it with the newer Locum"):
        verify(ledger)


def test_who_may_not_read_it_is_told_so(sample: Path) -> None:
    need_root()
    with tempfile.TemporaryDirectory(prefix="locum-test-") as folder:
        Path(folder).chmod(0o755)
        path = copied(sample, Path(folder))
        path.chmod(0o600)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                verify(path)
            except CannotVerify as error:
                os._exit(0 if "look at its owner and its mode" in str(error) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_a_half_copied_file_is_wrong(share: float, ledger: Path) -> None:
    content = ledger.read_bytes()
    ledger.write_bytes(content[: int(len(content) * share)])
    assert "was copied only in part" in str(verify(ledger).wrong)


def test_a_damaged_page_is_wrong(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        page, size = book.execute("SELECT rootpage, 4096 FROM sqlite_schema WHERE name = 'entries'").fetchone()
    content = bytearray(ledger.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    ledger.write_bytes(content)
    assert "damaged" in str(verify(ledger).wrong)


def test_a_file_that_changes_while_it_is_read_is_said(ledger: Path) -> None:
    many = Ledger.open(ledger, NOW, SIGNER)
    many.commit([login() for _ in range(2_500)])
    many.close()

    def write(done: int, of: int) -> None:
        with closing(sqlite3.connect(ledger)) as book:
            book.execute("INSERT INTO memory VALUES ('x', 'y')")
            book.commit()

    with pytest.raises(CannotVerify, match="changed while it was read"):
        verify(ledger, progress=write)


def of_version_1(path: Path) -> Path:
    """A ledger as version 1 left it: its tables, a login, a job, a delivery without the member that came later."""
    opened = database.open_writer(path, NOW, migrations.STEPS[:1])
    opened.connection.close()
    os.close(opened.lock)
    source = path.with_name("source.db")
    book = Ledger.open(source, NOW)
    book.commit([login(), job(1), mark("start", key="s"), step("failed", "grace")])
    book.commit([Delivery(NOW, 2, "hq", "delivered", None, 1, user="ada")])
    book.close()
    with closing(sqlite3.connect(path)) as old:
        old.execute("ATTACH ? AS present", (str(source),))
        for table in (*schema_1.EVIDENCE, "outbox"):
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            if table not in ("unlocks", "meters"):
                old.execute(f"INSERT INTO main.{table} SELECT {columns} FROM present.{table}")
        old.commit()

    def shorten(book: sqlite3.Connection) -> None:
        head = proof.GENESIS
        for seq, body in book.execute("SELECT seq, body FROM entries ORDER BY seq").fetchall():
            body = body.replace(',"unknown_card":0', "")
            own = proof.entry_hash(head, body.encode())
            book.execute("UPDATE entries SET body = ?, prev_hash = ?, hash = ? WHERE seq = ?", (body, head, own, seq))
            head = own

    tamper(path, shorten)
    for suffix in ("-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path


def test_an_older_ledger_is_verified_as_it_was(tmp_path: Path) -> None:
    path = of_version_1(tmp_path / "ledger.db")
    report = verify(path)
    assert (report.wrong, report.version, report.entries) == (None, 1, 5)
    assert report.remarks == ("a ledger of schema 1 has no signatures",)
    tamper(path, "UPDATE deliveries SET tries = 2")
    assert verify(path).wrong.where == "row 5 of deliveries"  # type: ignore[union-attr]


def test_a_migrated_ledger_verifies_with_entries_of_every_version(tmp_path: Path) -> None:
    path = of_version_1(tmp_path / "ledger.db")
    book = Ledger.open(path, NOW, SIGNER)
    book.commit([key_note(SIGNER), login(), Sign(NOW)])
    book.close()
    report = verify(path)
    assert (report.wrong, report.version, report.signed_through) == (None, 4, 7)
    tamper(path, "UPDATE deliveries SET unknown_card = 1")
    assert str(verify(path).wrong) == "row 5 of deliveries: unknown_card is 1, entry 5 says missing"


def told(path: Path, **said: str) -> Path:
    with closing(sqlite3.connect(path)) as book:
        copies.mark(book, said)
        book.commit()
    return path


def cut_before(path: Path, first: int) -> None:
    with closing(sqlite3.connect(path)) as book:
        book.execute("DELETE FROM outbox")
        book.commit()
    tamper(path, lambda book: _delete(book, f"seq < {first}", f"seq < {first - 1}"))


def _delete(book: sqlite3.Connection, entries: str, points: str) -> None:
    for table in migrations_tables(book):
        book.execute(f"DELETE FROM {table} WHERE {points if table == 'checkpoints' else entries}")


def migrations_tables(book: sqlite3.Connection) -> list[str]:
    return [*dict.fromkeys((*schema_1.EVIDENCE, "drills", "checkpoints"))]


def test_a_ledger_goes_on_from_its_archive(ledger: Path) -> None:
    book = Ledger.open(ledger, NOW, SIGNER)
    book.commit([Note(NOW, "archive", {"to": "2025.db", "first": 1, "through": 18, "erased": 0}), Sign(NOW)])
    book.close()
    cut_before(ledger, 19)
    report = verify(ledger)
    assert (report.wrong, report.first, report.last, report.checkpoints) == (None, 19, 24, 4)
    assert "entries 1 to 18 are not in this file" in report.remarks[0]
    tamper(ledger, "UPDATE checkpoints SET signature = zeroblob(64) WHERE number = 1")
    assert verify(ledger).wrong.where == "checkpoint 1"  # type: ignore[union-attr]


def test_a_beginning_that_was_cut_off_is_no_archive(ledger: Path) -> None:
    cut_before(ledger, 19)
    assert str(verify(ledger).wrong) == (
        "entry 1: it is missing: the first is 19, and no note says that those before were archived"
    )
    tamper(ledger, lambda book: _delete(book, "seq < 20", "seq < 20"))
    assert "no checkpoint signs the one before that" in str(verify(ledger).wrong)


def test_an_archive_verifies_on_its_own_and_erasures_from_after_it_are_carried(ledger: Path) -> None:
    tamper(ledger, lambda book: _delete(book, "seq > 18", "seq > 18"), "DELETE FROM outbox WHERE seq = 5")
    told(ledger, kind="archive", erased="0")
    report = verify(ledger)
    assert (report.wrong, report.kind, report.last, report.unsigned) == (None, "archive", 18, 0)
    tamper(ledger, "DELETE FROM personal WHERE seq = 4")
    assert verify(ledger).wrong.where == "personal"  # type: ignore[union-attr]
    told(ledger, erased="1")
    assert verify(ledger).ok


def test_erasures_of_entries_that_were_archived_since_are_not_missed_in_the_ledger(ledger: Path) -> None:
    book = Ledger.open(ledger, NOW, SIGNER)
    book.commit([Note(NOW, "erased", {"what": "card", "entries": 3}), Sign(NOW)])
    book.commit([Note(NOW, "archive", {"to": "2025.db", "first": 1, "through": 18, "erased": 2})])
    book.close()
    tamper(ledger, "DELETE FROM personal WHERE seq IN (3, 4, 22)")
    assert verify(ledger).ok
    cut_before(ledger, 19)
    report = verify(ledger)
    assert (report.wrong, report.erased) == (None, 1)


def test_a_backup_is_checked_like_a_ledger_and_says_that_it_is_one(ledger: Path) -> None:
    told(ledger, kind="backup", backup="x")
    report = verify(ledger)
    assert (report.wrong, report.kind, report.remarks) == (None, "backup", ("this file says that it is a backup",))
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("DROP TRIGGER jobs_no_update")
    assert not verify(ledger).ok


def test_a_filtered_export_says_what_it_leaves_out_and_what_is_there_is_checked(ledger: Path) -> None:
    told(ledger, kind="export", plain="filtered", personal="filtered", pseudonymised="0")
    tamper(ledger, "DELETE FROM jobs WHERE seq = 4", "DELETE FROM personal WHERE seq IN (3, 4, 10)")
    report = verify(ledger)
    assert (report.wrong, report.kind, report.erased) == (None, "export", 0)
    assert [remark.split(";")[0] for remark in report.remarks] == [
        "this file says that it is an export",
        "rows of plain tables were left out",
        "rows of personal data were left out, so erasures cannot be counted",
    ]
    tamper(ledger, "UPDATE jobs SET pages = 1 WHERE seq = 5")
    assert verify(ledger).wrong.where == "row 5 of jobs"  # type: ignore[union-attr]


def test_a_body_is_checked_though_its_row_was_left_out(ledger: Path) -> None:
    told(ledger, kind="export", plain="filtered", personal="none", pseudonymised="1")
    tamper(
        ledger, "DELETE FROM personal", "UPDATE entries SET id = 'x' WHERE seq = 4", "DELETE FROM jobs WHERE seq = 4"
    )
    assert str(verify(ledger).wrong).startswith('entry 4: its column id is "x", its body says')


def test_an_export_of_a_stretch_verifies_from_checkpoint_to_checkpoint(ledger: Path) -> None:
    told(ledger, kind="export", plain="filtered", personal="filtered")
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("DELETE FROM outbox")
        book.commit()
    tamper(ledger, lambda book: _delete(book, "seq NOT BETWEEN 19 AND 20", "seq NOT BETWEEN 18 AND 20"))
    report = verify(ledger, SIGNER.public_key)
    assert (report.wrong, report.first, report.last, report.signed_through) == (None, 19, 20, 20)


def test_an_export_may_do_without_guards(ledger: Path) -> None:
    told(ledger, kind="export")
    with closing(sqlite3.connect(ledger)) as book:
        for (name,) in book.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            book.execute(f"DROP TRIGGER {name}")
    assert verify(ledger).ok


def test_a_rebuilt_file_verifies_as_the_original_does(ledger: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(ledger)) as book:
        book.execute("VACUUM INTO ?", (str(tmp_path / "vacuumed.db"),))
    assert verify(tmp_path / "vacuumed.db") == verify(ledger)
