"""Archives: what goes, what stays, that both prove themselves, and what is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from storage import archive, copies, database, keeping, replacing
from storage.answers import Repeat, Stored
from storage.archive import DAY, CannotArchive
from storage.archive import archive as close_into
from storage.errors import CannotStore, LedgerInUse
from storage.ledger import Ledger
from storage.places import CannotPlace
from storage.reader import Reader
from storage.records import Delivery, Keepable, Note, OutboxState, Remember, Sign
from storage.signing import Signer
from storage.verify import verify
from tests.peers.disks import SmallDisk
from tests.unit.storage_samples import NOW, job, login, offline_login, step

SIGNER = Signer.new()
LATER = NOW + 30 * DAY
"""When the archiving is done."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "archive" / "2026.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with ExitStack() as endings:
        disk = SmallDisk(tmp_path / "disk", 16 << 20)
        endings.callback(disk.unmount)
        yield disk


def kept(path: Path, *batches: Sequence[Keepable]) -> Ledger:
    """A ledger with these batches, open."""
    path.parent.mkdir(exist_ok=True)
    ledger = Ledger.open(path, NOW, SIGNER)
    for batch in batches:
        assert not any(isinstance(result, Exception) for result in ledger.commit(batch))
    return ledger


def days(path: Path, dest: Path, *, first: int = 0, last: int = 3) -> None:
    """A job a day that was delivered, a login, and a checkpoint at the end of each day; closed."""
    dest.parent.mkdir(exist_ok=True)
    ledger = kept(path)
    for day in range(first, last):
        at = NOW + day * DAY
        ledger.commit([login(at=at), job(day, at=at, key=f"day {day}")])
        ledger.commit([Delivery(at, ledger.head[0], "hq", "delivered", None, 1, user="ada")])
        ledger.commit([Sign(at)])
    ledger.close()


def closed(path: Path, dest: Path, day: float = 2, now: int = LATER) -> archive.Archived:
    return close_into(path, dest, NOW + int(day * DAY), now, SIGNER, "root")


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as book:
        return book.execute(query).fetchall()


def erase(path: Path, seq: int, at: int) -> None:
    """As an erasure does it: the row goes, a note says so."""
    with closing(sqlite3.connect(path, isolation_level=None)) as book:
        book.execute("DELETE FROM personal WHERE seq = ?", (seq,))
    ledger = kept(path, [Note(at, "erased", {"what": "card", "entries": 1}, "root"), Sign(at)])
    ledger.close()


def test_the_archive_and_what_goes_on_prove_themselves_and_each_other(path: Path, dest: Path) -> None:
    days(path, dest)
    before = verify(path)
    done = closed(path, dest)
    assert (done.first, done.through, done.entries, done.erased) == (1, 6, 6, 0)
    assert done.sha256 == sha256(dest.read_bytes()).hexdigest()
    assert dest.stat().st_mode & 0o777 == 0o600
    old, new = verify(dest), verify(path)
    assert (old.wrong, new.wrong) == (None, None)
    assert (old.first, old.last, new.first, new.last) == (1, 6, 7, before.last + 1)
    assert old.signed_through == 6
    assert rows(path, "SELECT hex(prev_hash) FROM entries ORDER BY seq LIMIT 1")[0][0].lower() == old.head
    assert rows(path, "SELECT min(seq) FROM checkpoints") == rows(dest, "SELECT max(seq) FROM checkpoints") == [(6,)]
    (note,) = rows(path, "SELECT who, data FROM notes WHERE note = 'archive'")
    assert note[0] == "root"
    assert json.loads(note[1]) == {
        "to": str(dest),
        "sha256": done.sha256,
        "first": 1,
        "through": 6,
        "hash": old.head,
        "erased": 0,
    }
    assert verify(path).unsigned == 0
    assert [each.words for each in keeping.check(path) if each.wrong] == []
    assert [each.words for each in keeping.check(dest) if each.wrong] == []
    with closing(sqlite3.connect(dest)) as book:
        assert copies.said_by(book)["kind"] == "archive"


def test_all_that_was_kept_is_in_one_of_the_two(path: Path, dest: Path) -> None:
    days(path, dest)
    tables = ("entries", "personal", "jobs", "logins", "deliveries")
    before = {table: rows(path, f"SELECT * FROM {table} ORDER BY seq") for table in tables}
    closed(path, dest)
    for table in tables:
        both = rows(dest, f"SELECT * FROM {table} ORDER BY seq") + rows(path, f"SELECT * FROM {table} ORDER BY seq")
        assert both[: len(before[table])] == before[table]
        assert len(both) - len(before[table]) == (1 if table == "entries" else 0)


def test_the_ledger_that_goes_on_works_as_before(path: Path, dest: Path) -> None:
    """Numbers go on, a job number that comes again is known, cards and devices are remembered."""
    dest.parent.mkdir()
    numbered = job(1, for_ever=True, repeat_keys=(b"n" * 32, b"c" * 32), outbox=None)
    ledger = kept(path, [login(), numbered, Remember("claim:hq", "x")], [Sign(NOW)], [job(2, at=NOW + 20 * DAY)])
    ledger.close()
    done = closed(path, dest)
    ledger = kept(path)
    again, stored = ledger.commit([numbered, job(3, at=LATER, key="three")])
    assert isinstance(again, Repeat)
    assert again.seq == 2
    assert isinstance(stored, Stored)
    assert stored.seq == done.through + 3, "the job that stayed, the note, this one"
    ledger.close()
    assert rows(path, "SELECT value FROM memory WHERE key = 'claim:hq'") == [("x",)]
    assert rows(path, "SELECT card FROM cards") == [("04A2B3",)]
    assert rows(path, "SELECT seq FROM outbox ORDER BY seq") == [(3,), (5,)]
    with database.reading(path) as connection:
        assert Reader(path, connection).figures().jobs == 2


def test_when_everything_is_old_enough_only_the_note_is_left(path: Path, dest: Path) -> None:
    days(path, dest)
    done = closed(path, dest, 20)
    assert done.through == 9
    assert rows(path, "SELECT seq, kind FROM entries") == [(10, "note")]
    assert verify(path).ok
    ledger = kept(path, [job(99, at=LATER)])
    ledger.close()
    assert verify(path).ok


def test_archive_after_archive(path: Path, dest: Path) -> None:
    days(path, dest, last=8)
    second = dest.with_name("second.db")
    first = closed(path, dest, 2)
    done = closed(path, second, 5)
    assert (done.first, done.through) == (first.through + 1, 15)
    assert [verify(each).wrong for each in (dest, second, path)] == [None] * 3


def test_erasures_add_up_in_both_files_whenever_they_were_noted(path: Path, dest: Path) -> None:
    """Noted before the cut, of an entry that goes; noted after it, of one that goes and of one that stays."""
    days(path, dest)
    erase(path, 1, NOW + 3 * DAY)
    days(path, dest, first=4, last=6)
    erase(path, 2, NOW + 7 * DAY)
    erase(path, 11, NOW + 7 * DAY)
    assert verify(path).ok
    done = closed(path, dest, 3.5)
    assert done.erased == 1
    assert rows(dest, "SELECT value FROM export_info WHERE key = 'erased'") == [("1",)]
    assert [verify(each).wrong for each in (dest, path)] == [None] * 2
    erase(path, 12, NOW + 40 * DAY)
    assert verify(path).ok
    with closing(sqlite3.connect(path, isolation_level=None)) as book:
        book.execute("DELETE FROM personal WHERE seq = (SELECT min(seq) FROM personal)")
    assert not verify(path).ok


def test_erasures_add_up_over_several_archives_in_any_order(path: Path, dest: Path) -> None:
    """The second archive ends before the first one was made, and tells of erasures in the first."""
    days(path, dest)
    erase(path, 1, NOW + 4 * DAY)
    days(path, dest, first=5, last=8)
    first = closed(path, dest, 2)
    erase(path, 17, LATER + DAY)
    assert verify(path).wrong is None
    second = closed(path, dest.with_name("second.db"), 6, LATER + 3 * DAY)
    third = closed(path, dest.with_name("third.db"), 32, LATER + 5 * DAY)
    assert (first.erased, second.erased, third.erased) == (1, -1, 1)
    for each in (dest, dest.with_name("second.db"), dest.with_name("third.db"), path):
        assert verify(each).wrong is None, each


def test_what_waits_from_before_is_not_archived(path: Path, dest: Path) -> None:
    dest.parent.mkdir()
    ledger = kept(path, [job(1)], [Delivery(NOW, 1, "hq", "unanswered", OutboxState.IN_DOUBT, 1)], [Sign(NOW)])
    ledger.close()
    before = path.read_bytes()
    with pytest.raises(CannotArchive, match="1 records from before then are in the outbox, the oldest of 2026"):
        closed(path, dest)
    assert path.read_bytes() == before
    assert not dest.exists()


def test_an_outage_that_goes_on_is_not_cut(path: Path, dest: Path) -> None:
    dest.parent.mkdir()
    steps = [step("failed", "grace"), step("offline", "offline", at=NOW + 1)]
    kept(path, steps, [Sign(NOW)]).close()
    with pytest.raises(CannotArchive, match="an outage of 'hq' from before then is not over"):
        closed(path, dest)
    kept(path, [step("recovered", "recovering", at=NOW + DAY), step("drained", "online", at=NOW + DAY)]).close()
    closed(path, dest)
    assert rows(path, "SELECT step FROM outage_events ORDER BY seq") == [("recovered",), ("drained",)]


def test_an_open_session_is_not_archived(path: Path, dest: Path) -> None:
    dest.parent.mkdir()
    kept(path, [offline_login("5e55", expires_at=LATER - DAY + 1)], [Sign(NOW)]).close()
    with pytest.raises(CannotArchive, match="a session from before then is open"):
        closed(path, dest)
    closed(path, dest, now=LATER + 1)


def test_the_last_day_stays_and_nothing_goes_without_a_checkpoint_from_before(path: Path, dest: Path) -> None:
    days(path, dest)
    with pytest.raises(CannotArchive, match="the last 24 hours stay"):
        closed(path, dest, 1.5, NOW + 2 * DAY)
    with pytest.raises(CannotArchive, match="no checkpoint from before 2026-11-22T10:15:03"):
        closed(path, dest, 0)
    closed(path, dest)
    with pytest.raises(CannotArchive, match="no checkpoint from before"):
        closed(path, dest.with_name("again"))


def test_a_place_that_will_not_do_and_a_ledger_at_work_are_refused(path: Path, dest: Path) -> None:
    days(path, dest)
    with pytest.raises(CannotPlace, match="there is no folder"):
        closed(path, path.parent / "nowhere" / "a.db")
    dest.touch()
    with pytest.raises(CannotPlace, match="is there already"):
        closed(path, dest)
    dest.unlink()
    ledger = kept(path)
    with pytest.raises(LedgerInUse):
        closed(path, dest)
    ledger.close()


def test_another_program_that_reads_is_named(path: Path, dest: Path) -> None:
    days(path, dest)
    kept(path, [job(77)]).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM entries").fetchone()
        ledger = Ledger.open(path, NOW, SIGNER)
        ledger.commit([login(at=LATER)])
        ledger.close()
        with pytest.raises(CannotStore, match="another program reads the ledger"):
            closed(path, dest)
    assert not dest.exists()
    assert verify(path).ok


@pytest.mark.parametrize("part", ["_write_archive", "_write_rest", "_append"])
def test_a_failure_leaves_the_ledger_as_it_was_and_no_archive(
    path: Path, dest: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    days(path, dest)
    before = verify(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(archive, part, full)
        with pytest.raises(CannotStore, match="No space left"):
            closed(path, dest)
    assert verify(path) == before
    assert list(dest.parent.iterdir()) == []
    assert sorted(each.name for each in path.parent.iterdir()) == ["archive", "ledger.db", "ledger.db.lock"]


def test_an_archiving_that_was_cut_off_is_completed_at_the_next_start(
    path: Path, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days(path, dest)

    def cut(*_: object) -> Path:
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "swap", cut)
        with pytest.raises(CannotStore):
            closed(path, dest)
    assert verify(path).first == 1
    ledger = Ledger.open(path, LATER, SIGNER)
    assert ledger.words == ("an archiving of the ledger that was interrupted is complete",)
    ledger.close()
    assert verify(path).first == 7
    assert verify(path).ok
    assert verify(dest).ok


def test_an_archive_of_a_try_that_was_cut_off_is_told_from_one_that_is_done(
    path: Path, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 after the archive had its name: first before the ledger goes on without what it holds, then after."""
    days(path, dest)
    whole = path.with_name("whole.db")
    shutil.copy(path, whole)
    closed(path, dest)
    with pytest.raises(CannotArchive, match="is the archive of this ledger through entry 6, whole"):
        closed(path, dest)
    shutil.copy(whole, path)
    with pytest.raises(CannotArchive, match="the ledger still has all of it; delete that file"):
        archive.refuse(path, dest)
    with monkeypatch.context() as patched:
        patched.setattr(replacing, "swap", lambda path, kind, stamp: path)
        closed(path, dest.with_name("cut off.db"))
    assert verify(path).first == 1
    with pytest.raises(CannotArchive, match="the ledger goes on from there; keep it"):
        archive.refuse(path, dest.with_name("cut off.db"))
    assert verify(path).first == 7


def test_another_disk_needs_room_for_the_archive_alone(path: Path, small_disk: SmallDisk) -> None:
    days(path, path.parent / "x" / "y", last=8)
    book = kept(path, [job(number, at=NOW + 9 * DAY, key=f"big {number}") for number in range(4_000)])
    book.close()
    small_disk.fill(path.stat().st_size // 2)
    dest = small_disk.at / "2026.db"
    assert closed(path, dest, 5).through > 1
    assert verify(dest).ok
    assert verify(path).ok


def test_an_archive_that_runs_out_of_room_leaves_nothing(
    path: Path, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    days(path, path.parent / "x" / "y")
    small_disk.fill(50_000)
    # Others fill the disk between the look and the writing.
    monkeypatch.setattr(replacing, "demand_room", lambda folder, octets: None)
    with pytest.raises(CannotPlace, match="the disk is full"):
        closed(path, small_disk.at / "2026.db")
    assert [each.name for each in small_disk.at.iterdir()] == ["ballast"]
    assert verify(path).first == 1
