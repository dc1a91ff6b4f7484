"""Backups: whole, sound, made beside the writer, and recognisable."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from storage import backup as backups
from storage import copies, keeping, space
from storage.backup import backup
from storage.errors import CannotStore, LedgerMissing
from storage.ledger import Ledger
from storage.places import CannotPlace
from storage.records import Sign
from storage.signing import Signer
from storage.verify import verify
from tests.unit.storage_samples import NOW, job

SIGNER = Signer.new()
MADE = "2026-11-23T10:00:00.000Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def backed_up(path: Path, dest: Path) -> str:
    return backup(path, dest, "b1", MADE, lambda done, of: None)


def test_a_backup_is_one_file_that_verifies_and_says_what_it_is(path: Path) -> None:
    ledger = Ledger.open(path, NOW, SIGNER)
    ledger.commit([*(job(number) for number in range(300)), Sign(NOW)])
    dest = path.with_name("copy.db")
    heard: list[tuple[int, int]] = []
    digest = backup(path, dest, "b1", MADE, lambda done, of: heard.append((done, of)))
    assert heard[-1][0] == heard[-1][1]
    assert digest == sha256(dest.read_bytes()).hexdigest()
    assert dest.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(dest)) as book:
        assert book.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        said = copies.said_by(book)
    assert (said["kind"], said["backup"], said["made_at"]) == ("backup", "b1", MADE)
    assert verify(dest).wrong is None
    assert (verify(dest).head, verify(dest).unsigned) == (ledger.head[1].hex(), 0)
    assert [each.words for each in keeping.check(dest) if each.wrong] == []
    assert not dest.with_name("copy.db-wal").exists()
    ledger.close()


def test_a_backup_is_of_one_moment_however_busy_the_writer_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "_PAGES", 5)
    ledger = Ledger.open(path, NOW, SIGNER)
    ledger.commit([job(number) for number in range(500)])
    number = 1_000

    def tell(done: int, of: int) -> None:
        nonlocal number
        number += 1
        ledger.commit([job(number)])

    dest = path.with_name("copy.db")
    before = ledger.head
    backup(path, dest, "b1", MADE, tell)
    assert ledger.head[0] > before[0] + 10
    assert (verify(dest).last, verify(dest).head) == (before[0], before[1].hex())
    assert verify(dest).wrong is None
    ledger.close()


def test_a_place_that_will_not_do_is_refused_and_nothing_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(path, NOW, SIGNER).close()
    folder = path.parent / "backups"
    with pytest.raises(CannotPlace, match="there is no folder"):
        backed_up(path, folder / "copy.db")
    folder.mkdir()
    (folder / "there").touch()
    with pytest.raises(CannotPlace, match="is there already"):
        backed_up(path, folder / "there")
    (folder / "there").unlink()
    with pytest.raises(LedgerMissing):
        backed_up(path.with_name("nowhere"), folder / "copy.db")
    with monkeypatch.context() as patched:
        patched.setattr(space, "measured", lambda folder: (1_000_000_000, 1))
        with pytest.raises(CannotStore, match="are needed; make room"):
            backed_up(path, folder / "copy.db")
    with monkeypatch.context() as patched:
        patched.setattr(keeping, "integrity", lambda connection: "page 3 is wrong")
        with pytest.raises(CannotStore, match="the backup is not sound"):
            backed_up(path, folder / "copy.db")
    assert list(folder.iterdir()) == []


def test_an_interrupted_backup_leaves_nothing(path: Path) -> None:
    Ledger.open(path, NOW, SIGNER).close()

    def interrupted(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup(path, path.with_name("copy.db"), "b1", MADE, interrupted)
    assert [each.name for each in path.parent.glob("copy*")] == []
