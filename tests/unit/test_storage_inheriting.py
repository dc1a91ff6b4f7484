"""A ledger from elsewhere: put in place, recognised at the next start, and nothing of it sent unnamed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage import adopting, copies, database, migrations, replacing
from storage.adopting import Adopted, CannotAdopt, adopt
from storage.backup import backup
from storage.checkpoints import Checkpoint
from storage.errors import CannotStore, LedgerBroken, LedgerInUse, LedgerMissing, LedgerTooNew, StorageError
from storage.inheriting import settle_origin
from storage.ledger import Ledger
from storage.records import Delivery, OutboxState, Sign
from storage.signing import Signer
from storage.verify import verify
from storage.witness import Mark, mark_of, pair_of
from tests.unit.storage_samples import NOW, job

OLD, NEW = Signer.new(), Signer.new()
FORGETFUL = ("print",)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The ledger of the box that is there now: a new one."""
    (tmp_path / "box").mkdir()
    return tmp_path / "box" / "ledger.db"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An old disk's ledger: a record for each of two servers waits, one was refused, one is in flight."""
    (tmp_path / "disk").mkdir()
    path = tmp_path / "disk" / "ledger.db"
    ledger = Ledger.open(path, NOW, OLD)
    settle_origin(ledger, OLD, None, FORGETFUL, NOW)
    ledger.commit([job(1), job(2, upstream="print"), job(3), job(4, outbox=OutboxState.SENT), Sign(NOW)])
    ledger.commit([Delivery(NOW, 3, "hq", "refused", OutboxState.REJECTED, 2), Sign(NOW)])
    ledger.close()
    return path


def adopted(box: Path, source: Path, **how: Any) -> Adopted:
    return adopt(box, source, NOW, lambda path: str(verify(path).wrong or ""), **how)


def started(path: Path, signer: Signer = NEW, last_known: Mark | None = None) -> list[str]:
    """What a start says, as the service makes it."""
    ledger = Ledger.open(path, NOW + 1, signer)
    words = settle_origin(ledger, signer, last_known, FORGETFUL, NOW + 1)
    ledger.settle_sent(NOW + 1, FORGETFUL)
    ledger.commit([Sign(NOW + 1)])
    ledger.close()
    return words


def newest(path: Path) -> Mark:
    """What the last line of the box's `checkpoints.log` says."""
    mark = mark_of(last_checkpoint(path), "checkpoints.log")
    assert mark is not None
    return mark


def last_checkpoint(path: Path) -> Checkpoint:
    return Checkpoint(*rows(path, "SELECT * FROM checkpoints ORDER BY number DESC LIMIT 1")[0])


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as book:
        return book.execute(query).fetchall()


def states(path: Path) -> dict[int, str]:
    return dict(rows(path, "SELECT seq, state FROM outbox ORDER BY seq"))


def notes(path: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(data) for (data,) in rows(path, f"SELECT data FROM notes WHERE note = '{kind}' ORDER BY seq")]


def go_on(path: Path, signer: Signer = OLD) -> None:
    """The box goes on after a copy was taken: what waited is delivered, and more is kept."""
    ledger = Ledger.open(path, NOW, signer)
    ledger.commit([Delivery(NOW, 1, "hq", "delivered", None, 1), Delivery(NOW, 2, "print", "delivered", None, 1)])
    ledger.commit([job(50), Sign(NOW)])
    ledger.close()


def test_a_ledger_that_simply_goes_on_says_nothing(disk: Path) -> None:
    before = rows(disk, "SELECT count(*) FROM notes")
    assert started(disk, OLD, newest(disk)) == []
    assert rows(disk, "SELECT count(*) FROM notes") == before
    assert states(disk) == {1: "waiting", 2: "waiting", 3: "rejected", 4: "waiting"}


def test_an_old_disks_ledger_goes_on_under_the_new_boxs_key(box: Path, disk: Path) -> None:
    """It is the last state: what waits is sent; what was in flight is settled as after any kill."""
    source = disk.read_bytes()
    done = adopted(box, disk)
    assert (done.entries, done.records, done.aside, done.words) == (5, 4, None, ())
    assert disk.read_bytes() == source
    assert box.stat().st_mode & 0o777 == 0o600
    (line,) = started(box)
    assert OLD.installation in line
    assert states(box) == {1: "waiting", 2: "waiting", 3: "rejected", 4: "waiting"}
    assert rows(box, "SELECT seq FROM maybe_forwarded_twice") == [(4,)]
    (note,) = notes(box, "adopted")
    assert (note["from"], note["installation"], note["through"]) == (OLD.installation, NEW.installation, 5)
    report = verify(box)
    assert (report.wrong, report.unsigned) == (None, 0)
    assert newest(box).key == NEW.public_key
    assert started(box, NEW, newest(box)) == [], "said once"


def test_what_lies_in_the_wal_of_a_box_that_was_cut_off_is_adopted(box: Path, disk: Path) -> None:
    ledger = Ledger.open(disk, NOW, OLD)
    ledger.commit([Sign(NOW)])
    ledger.commit([job(60)])
    cut = disk.parent.with_name("cut")
    shutil.copytree(disk.parent, cut)
    ledger.close()
    assert (cut / "ledger.db-wal").stat().st_size
    evidence = [cut / "ledger.db", cut / "ledger.db-wal"]
    before = [each.read_bytes() for each in evidence]
    assert adopted(box, cut / "ledger.db").records == 5
    assert [each.read_bytes() for each in evidence] == before
    assert 6 in states(box)


@pytest.mark.parametrize("left", ["a WAL and its index", "an index alone", "the file alone"])
def test_nothing_on_the_old_disk_is_touched(box: Path, disk: Path, left: str) -> None:
    ledger = Ledger.open(disk, NOW, OLD)
    ledger.commit([Sign(NOW)])
    old = disk.parent.with_name("old disk")
    shutil.copytree(disk.parent, old)
    ledger.close()
    if left != "a WAL and its index":
        shutil.copy(disk, old / disk.name)
        (old / "ledger.db-wal").unlink()
    if left == "the file alone":
        (old / "ledger.db-shm").unlink()

    def seen() -> dict[str, tuple[int, int, int, bytes]]:
        files = [*old.iterdir(), old]
        return {
            each.name: (each.stat().st_ino, each.stat().st_mtime_ns, each.stat().st_ctime_ns, content(each))
            for each in files
        }

    before = seen()
    adopted(box, old / disk.name)
    assert seen() == before
    (old / disk.name).write_bytes(b"SQLite format 3\0 and no more")
    before = seen()
    with pytest.raises(StorageError, match=str(old)):
        adopted(box.with_name("other.db"), old / disk.name)
    assert seen() == before


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_of_a_backup_what_waited_may_have_been_delivered_since(box: Path, disk: Path) -> None:
    """In doubt for a server that cannot recognise a repeat, named for one that can, refused ones too."""
    copy = disk.with_name("backup.db")
    backup(disk, copy, "b1", "", lambda done, of: None)
    go_on(disk)
    done = adopted(box, copy)
    assert started(box) != []
    assert states(box) == {1: "waiting", 2: "in_doubt", 3: "rejected", 4: "waiting"}
    assert rows(box, "SELECT seq FROM maybe_forwarded_twice ORDER BY seq") == [(1,), (2,), (3,), (4,)]
    (note,) = notes(box, "restored")
    assert (note["backup"], note["through"], note["waiting"]) == ("b1", done.entries, 3)
    assert rows(box, "SELECT count(*) FROM sqlite_schema WHERE name = 'export_info'") == [(0,)]
    assert verify(box).wrong is None
    ledger = Ledger.open(box, NOW, NEW)
    ledger.close()
    assert started(box, NEW, newest(box)) == [], "settled once"
    assert len(notes(box, "restored")) == 1


def test_a_backup_that_was_copied_over_the_ledger_by_hand_is_recognised(disk: Path) -> None:
    backup(disk, disk.with_name("backup.db"), "b1", "", lambda done, of: None)
    go_on(disk)
    known = newest(disk)
    shutil.copyfile(disk.with_name("backup.db"), disk)
    (line,) = started(disk, OLD, known)
    assert "it is a backup" in line
    assert states(disk)[2] == "in_doubt"
    assert started(disk, OLD, known) == [], "the checkpoint that it lacks is settled"


def test_a_plain_copy_put_back_is_recognised_by_what_the_box_signed_since(disk: Path) -> None:
    copy = disk.with_name("copy.db")
    shutil.copyfile(disk, copy)
    go_on(disk)
    known = newest(disk)
    shutil.copyfile(copy, disk)
    (line,) = started(disk, OLD, known)
    assert f"entry {known.seq} is known from checkpoints.log, and it ends at 5" in line
    assert states(disk) == {1: "waiting", 2: "in_doubt", 3: "rejected", 4: "waiting"}
    assert notes(disk, "adopted") == []


def test_a_copy_that_has_grown_as_long_as_the_ledger_was_is_recognised_too(disk: Path) -> None:
    copy = disk.with_name("copy.db")
    shutil.copyfile(disk, copy)
    go_on(disk)
    known = newest(disk)
    shutil.copyfile(copy, disk)
    ledger = Ledger.open(disk, NOW, OLD)
    ledger.commit([job(number) for number in range(100, 120)])
    ledger.close()
    (line,) = started(disk, OLD, known)
    assert f"entry {known.seq} is another one than checkpoints.log says" in line


def test_a_copy_that_no_checkpoint_is_newer_than_is_recognised_by_the_head_that_the_box_noted(disk: Path) -> None:
    """Nothing was signed since: the box was killed."""
    copy = disk.with_name("copy.db")
    shutil.copyfile(disk, copy)
    ledger = Ledger.open(disk, NOW, OLD)
    ledger.commit([Delivery(NOW, 2, "print", "delivered", None, 1)])
    seq, head = ledger.head
    ledger.close()
    shutil.copyfile(copy, disk)
    (line,) = started(disk, OLD, pair_of(f"{seq}:{head.hex()}", "ledger.head"))
    assert f"entry {seq} is known from ledger.head, and it ends at 5" in line
    assert states(disk)[2] == "in_doubt"


def test_what_was_kept_where_an_older_copy_goes_on_is_known_to_have_been_given_up(box: Path, disk: Path) -> None:
    """Also the very first entry of it, in whose place the new box notes where the ledger comes from."""
    copy = disk.with_name("backup.db")
    backup(disk, copy, "b1", "", lambda done, of: None)
    ledger = Ledger.open(disk, NOW, OLD)
    ledger.commit([job(70), Sign(NOW)])
    ledger.close()
    adopted(box, copy)
    started(box)
    wrong = verify(box, None, [last_checkpoint(disk).line]).wrong
    assert wrong is not None
    assert "an older copy, through entry 5, was put back" in wrong.what


def test_what_was_signed_before_an_older_copy_was_put_back_is_not_taken_for_news_again(disk: Path) -> None:
    """`ledger.head` is written anew while the old lines stay in checkpoints.log: the last of these is the newest."""
    copy = disk.with_name("copy.db")
    shutil.copyfile(disk, copy)
    go_on(disk)
    signed_then = newest(disk)
    ledger = Ledger.open(disk, NOW, OLD)
    ledger.commit([job(80)])
    known = pair_of(f"{ledger.head[0]}:{ledger.head[1].hex()}", "ledger.head")
    ledger.close()
    shutil.copyfile(copy, disk)
    ledger = Ledger.open(disk, NOW, OLD)
    assert settle_origin(ledger, OLD, known, FORGETFUL, NOW) != []
    ledger.close()
    now_last = newest(disk)
    assert now_last.hash != signed_then.hash, "what is signed last is of the ledger that goes on"
    assert started(disk, OLD, now_last) == []


def test_the_same_old_disk_put_here_twice_is_an_older_copy_the_second_time(box: Path, disk: Path) -> None:
    """It has no checkpoint of this box, but this box has noted the one that it ends with, and more since."""
    heard = [last_checkpoint(disk).digest]
    adopted(box, disk)
    started(box)
    ledger = Ledger.open(box, NOW, NEW)
    settled = [(each, "hq" if each in (1, 3, 4) else "print") for each in states(box)]
    ledger.commit([Delivery(NOW, seq, name, "delivered", None, 1) for seq, name in settled])
    ledger.commit([Sign(NOW)])
    ledger.close()
    known = newest(box)
    adopted(box, disk)
    ledger = Ledger.open(box, NOW, NEW)
    words = settle_origin(ledger, NEW, known, FORGETFUL, NOW, heard)
    ledger.close()
    assert f"entry {known.seq} is known from checkpoints.log" in words[-1]
    assert states(box)[2] == "in_doubt"


def test_a_checkpoint_that_nobody_signed_says_nothing(disk: Path) -> None:
    known = last_checkpoint(disk)
    body = known.body.replace(f'"seq":{known.seq}', '"seq":9999')
    assert mark_of(Checkpoint(0, 9_999, body, known.signature, OLD.public_key), "checkpoints.log") is None


def test_what_this_box_signed_of_its_own_ledger_says_nothing_of_an_adopted_one(box: Path, disk: Path) -> None:
    ledger = Ledger.open(box, NOW, NEW)
    settle_origin(ledger, NEW, None, FORGETFUL, NOW)
    ledger.commit([*(job(number, outbox=None) for number in range(40)), Sign(NOW)])
    ledger.close()
    known = newest(box)
    done = adopted(box, disk)
    assert done.aside is not None
    assert verify(done.aside).last == 40
    (line,) = started(box, NEW, known)
    assert "begun by the installation" in line
    assert started(box, NEW, known) == [], "nor at the next start, if nothing newer could be written"
    assert notes(box, "restored") == []
    assert states(box)[2] == "waiting"


def test_a_copy_that_its_owner_calls_older_or_a_witness_shows_to_be_is_marked(box: Path, disk: Path) -> None:
    copy = disk.with_name("copy.db")
    shutil.copyfile(disk, copy)
    go_on(disk)
    for how in ({"older": True}, {"witness": newest(disk)}):
        done = adopted(box, copy, **how)
        assert done.words == ("it is an older copy; what waits in it is not sent unnamed",)
        started(box)
        assert states(box)[2] == "in_doubt"
        box.unlink()
    assert adopted(box, copy, witness=newest(copy)).words == ()


def test_a_start_that_is_cut_off_while_it_settles_settles_all_at_the_next(
    box: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted(box, disk, older=True)
    ledger = Ledger.open(box, NOW, NEW)
    commit = ledger.commit

    def cut(batch: list[Any]) -> Any:
        if any(isinstance(item, Delivery) for item in batch):
            raise CannotStore("power cut")
        return commit(batch)

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "commit", cut)
        with pytest.raises(CannotStore):
            settle_origin(ledger, NEW, None, FORGETFUL, NOW)
    ledger.close()
    assert states(box)[2] == "waiting"
    assert started(box) != []
    assert states(box)[2] == "in_doubt"


def test_records_that_wait_in_the_boxs_own_ledger_are_not_set_aside(box: Path, disk: Path) -> None:
    ledger = Ledger.open(box, NOW, NEW)
    ledger.commit([job(1)])
    ledger.close()
    before = box.read_bytes()
    with pytest.raises(CannotAdopt, match="1 records are in the outbox of the ledger"):
        adopted(box, disk)
    assert box.read_bytes() == before


def test_a_ledger_here_that_cannot_be_read_is_set_aside_only_when_that_is_asked_for(box: Path, disk: Path) -> None:
    box.write_bytes(b"rubbish " * 1_000)
    with pytest.raises(CannotAdopt, match="the ledger that is here cannot be read"):
        adopted(box, disk)
    aside = adopted(box, disk, anyway=True).aside
    assert aside is not None
    assert aside.read_bytes() == b"rubbish " * 1_000
    assert len(states(box)) == 4


def test_a_ledger_at_work_is_neither_adopted_nor_replaced(box: Path, disk: Path) -> None:
    ledger = Ledger.open(disk, NOW, OLD)
    with pytest.raises(LedgerInUse, match="a Locum works on"):
        adopted(box, disk)
    ledger.close()
    ledger = Ledger.open(box, NOW, NEW)
    with pytest.raises(LedgerInUse):
        adopted(box, disk)
    ledger.close()


def test_what_is_no_whole_ledger_is_not_adopted(box: Path, disk: Path) -> None:
    with closing(sqlite3.connect(disk, isolation_level=None)) as book:
        copies.mark(book, {"kind": "export"})
    with pytest.raises(LedgerBroken, match="is an export, not a whole ledger"):
        adopted(box, disk)
    text = disk.with_name("text")
    text.write_text("no ledger " * 500)
    for anyway in (False, True):
        with pytest.raises(LedgerBroken, match="no SQLite file"):
            adopted(box, text, anyway=anyway)
    with pytest.raises(LedgerMissing, match="there is no file"):
        adopted(box, disk.with_name("nowhere"))
    with pytest.raises(CannotAdopt, match="in its place already"):
        adopted(disk, disk)
    with closing(sqlite3.connect(disk, isolation_level=None)) as book:
        book.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerTooNew):
        adopted(box, disk)
    assert list(box.parent.iterdir()) == [box.with_name("ledger.db.lock")]


def test_a_damaged_or_half_copied_ledger_is_adopted_only_when_that_is_asked_for(box: Path, disk: Path) -> None:
    ledger = Ledger.open(disk, NOW, OLD)
    ledger.commit([job(number) for number in range(100, 500)])
    ledger.close()
    os.truncate(disk, disk.stat().st_size * 2 // 3 // 4096 * 4096)
    broken = disk.read_bytes()
    with pytest.raises(CannotAdopt, match=r"is damaged .*; --anyway adopts what can be read of it"):
        adopted(box, disk)
    assert not box.exists()
    done = adopted(box, disk, anyway=True)
    assert "entries of it could be read" in done.words[0]
    assert disk.read_bytes() == broken
    assert sorted(each.name for each in box.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]
    started(box)


def test_a_ledger_that_does_not_verify_is_adopted_only_when_that_is_asked_for(box: Path, disk: Path) -> None:
    with closing(sqlite3.connect(disk, isolation_level=None)) as book:
        book.execute("DROP TRIGGER jobs_no_update")
        book.execute("UPDATE jobs SET pages = 1 WHERE seq = 1")
    with pytest.raises(CannotAdopt, match=r"does not verify: .*--anyway adopts it all the same"):
        adopted(box, disk)
    assert "it does not verify" in adopted(box, disk, anyway=True).words[0]


def test_an_older_schema_is_adopted_and_migrated_at_the_next_start(box: Path, disk: Path) -> None:
    old = disk.with_name("old.db")
    with closing(sqlite3.connect(old, isolation_level=None)) as book:
        migrations.migrate(book, migrations.STEPS[:2])
    assert adopted(box, old).entries == 0
    assert started(box) == []
    with database.reading(box) as reader:
        assert migrations.version(reader) == migrations.CURRENT


def test_an_old_copy_from_before_there_were_signatures_is_recognised(box: Path, disk: Path) -> None:
    with closing(sqlite3.connect(box, isolation_level=None)) as book:
        migrations.migrate(book, migrations.STEPS[:2])
    known = newest(disk)
    (line,) = started(box, OLD, known)
    assert f"entry {known.seq} is known from checkpoints.log, and it ends at 0" in line


def test_an_adoption_that_was_cut_off_is_completed_at_the_next_start(
    box: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger.open(box, NOW, NEW).close()

    def cut(*_: object) -> Path:
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "swap", cut)
        with pytest.raises(CannotStore):
            adopted(box, disk)
    ledger = Ledger.open(box, NOW, NEW)
    assert "an adoption of a ledger that was interrupted is complete; the ledger before it is kept" in ledger.words[0]
    ledger.close()
    assert len(states(box)) == 4


def test_without_room_nothing_is_adopted(box: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopting.replacing.space, "measured", lambda folder: (1_000_000_000, 1))
    with pytest.raises(CannotStore, match="are needed; make room"):
        adopted(box, disk)
    assert not box.exists()
