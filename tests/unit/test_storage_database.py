"""Opening the file: new, older, newer, foreign, in use, damaged; and what a cut leaves behind."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storage import database, migrations, proof, replacing
from storage.errors import (
    CannotStore,
    LedgerBroken,
    LedgerInUse,
    LedgerMissing,
    LedgerTooNew,
    LedgerTooOld,
    StorageError,
)
from storage.ledger import Ledger
from storage.records import Remember
from tests.unit.storage_samples import NOW, job, login

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def filled(path: Path, jobs: int = 50) -> None:
    ledger = Ledger.open(path, NOW)
    ledger.commit([job(number) for number in range(jobs)])
    ledger.close()


def walked(path: Path) -> proof.ChainReport:
    with database.reading(path) as reader:
        return proof.walk(reader)


def test_a_new_ledger_belongs_to_its_owner_alone_and_says_what_it_is(path: Path) -> None:
    filled(path, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("PRAGMA user_version").fetchone() == (migrations.CURRENT,)
        assert [row[2] for row in other.execute("SELECT * FROM _sqlite_migrations")] == [
            "001 first_ledger",
            "002 unlocking_and_drills",
            "003 proof_and_meters",
            "004 traps",
        ]


def test_a_commit_waits_for_stable_storage(path: Path) -> None:
    ledger = Ledger.open(path, NOW)
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    ledger.close()


def test_a_start_that_migrates_nothing_does_not_load_sqlite_utils(path: Path) -> None:
    filled(path)
    script = (
        "import sys; from pathlib import Path; from storage.ledger import Ledger; "
        f"Ledger.open(Path({os.fspath(path)!r}), 0).close(); sys.exit('sqlite_utils' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_a_second_locum_on_the_same_ledger_is_refused_and_the_first_unharmed(path: Path) -> None:
    first = Ledger.open(path, NOW)
    with pytest.raises(LedgerInUse, match="another Locum"):
        Ledger.open(path, NOW)
    first.commit([job(1)])
    first.close()
    Ledger.open(path, NOW).close()


def test_a_newer_ledger_is_refused_and_not_touched(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {migrations.CURRENT + 1}")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = path.read_bytes()
    for opening in (lambda: Ledger.open(path, NOW), lambda: database.open_reader(path)):
        with pytest.raises(LedgerTooNew, match="install the newer Locum"):
            opening()
    assert path.read_bytes() == before


def test_an_older_ledger_is_copied_then_migrated(path: Path) -> None:
    filled(path)

    def another(database: object) -> None:
        database.execute("CREATE TABLE something (a INTEGER) STRICT")  # type: ignore[attr-defined]

    opened = database.open_writer(path, NOW, (*migrations.STEPS, another))
    now = migrations.CURRENT
    copy = path.with_name(f"ledger.db.schema-{now}-20261122T101503Z")
    assert opened.words == (f"the ledger was migrated from schema {now} to {now + 1}; as it was it is kept as {copy}",)
    assert migrations.version(opened.connection) == now + 1
    opened.connection.close()
    os.close(opened.lock)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert walked(copy).entries == 50


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(path: Path) -> None:
    filled(path)

    def bad(database: object) -> None:
        database.execute("DROP TABLE jobs")  # type: ignore[attr-defined]
        database.execute("nonsense")  # type: ignore[attr-defined]

    with pytest.raises(StorageError):
        database.open_writer(path, NOW, (*migrations.STEPS, bad))
    filled(path, 0)
    assert walked(path).ok


def test_a_reader_says_what_is_missing_or_too_old(path: Path) -> None:
    with pytest.raises(LedgerMissing, match="locum run"):
        database.open_reader(path)
    sqlite3.connect(path).close()
    with pytest.raises(LedgerTooOld, match="locum run"):
        database.open_reader(path)


def test_another_programs_file_is_refused_and_not_touched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE addresses (name)")
    before = path.read_bytes()
    with pytest.raises(LedgerBroken, match="another program"):
        Ledger.open(path, NOW)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CannotStore, match="No such file") as caught:
        Ledger.open(tmp_path / "nowhere" / "ledger.db", NOW)
    assert "\n" not in str(caught.value)


def damage(path: Path, places: list[int], size: int = 4096) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place * 4096 : place * 4096 + size] = random.Random(place).randbytes(size)
    path.write_bytes(content)


def page_of(path: Path, table: str) -> list[int]:
    """Leaf pages of a table, counted from 0."""
    asked = ["sqlite3", os.fspath(path), f"SELECT pageno - 1 FROM dbstat WHERE name = '{table}' AND pagetype = 'leaf'"]
    return [int(line) for line in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()]


def test_a_damaged_ledger_is_set_aside_and_what_can_be_read_is_recovered(path: Path) -> None:
    filled(path, 400)
    pages = page_of(path, "entries")
    damage(path, [pages[len(pages) // 2]])
    broken = path.read_bytes()
    ledger = Ledger.open(path, NOW)
    word, lost = ledger.words
    aside = path.with_name("ledger.db.damaged-20261122T101503Z")
    assert "were recovered" in word
    assert "unreadable: entries" in word
    assert str(aside) in word
    assert aside.read_bytes() == broken
    ledger.commit([job(9_999)])
    ledger.close()
    with database.reading(path) as reader:
        kept = reader.execute("SELECT count(*), max(seq) FROM entries").fetchone()
        assert 380 <= kept[0] < 401
        assert kept[1] == 401
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (401,)
        assert reader.execute("SELECT sum(records) FROM outbox_counts").fetchone() == (kept[0],)
        assert lost.startswith(f"{401 - kept[0]} records in the outbox of 'hq' (waiting) lost the entry")
        assert reader.execute("SELECT value FROM totals WHERE name = 'jobs'").fetchone() == (401,)
    report = walked(path)
    assert not report.ok
    assert "missing" in str(report.first_bad)


def test_the_numbers_of_unreadable_entries_are_not_given_again(path: Path) -> None:
    filled(path, 400)
    damage(path, page_of(path, "entries")[-1:])
    ledger = Ledger.open(path, NOW)
    ledger.commit([job(9_999)])
    assert ledger.head[0] == 401
    ledger.close()


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_ledger_of_which_nothing_can_be_read_still_lets_the_appliance_start(path: Path, place: int) -> None:
    filled(path)
    damage(path, [place] if place else [0, 1, 2])
    ledger = Ledger.open(path, NOW)
    assert "entries were recovered" in ledger.words[0]
    assert all("50 records" in lost for lost in ledger.words[1:])
    ledger.commit([job(1_000)])
    ledger.close()
    assert path.with_name("ledger.db.damaged-20261122T101503Z").exists()


def test_a_ledger_cut_short_is_recovered(path: Path) -> None:
    filled(path, 400)
    os.truncate(path, path.stat().st_size * 2 // 3 // 4096 * 4096)
    ledger = Ledger.open(path, NOW)
    assert "entries were recovered" in ledger.words[0]
    ledger.commit([job(1_000)])
    ledger.close()
    with database.reading(path) as reader:
        gone = "SELECT count(*) FROM outbox WHERE seq NOT IN (SELECT seq FROM entries)"
        assert reader.execute(gone).fetchone() == (0,)


def test_a_changed_entry_at_the_end_is_noticed_at_start(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TRIGGER entries_no_update")
        other.execute("UPDATE entries SET body = replace(body, '12', '13') WHERE seq = 50")
        other.commit()
    ledger = Ledger.open(path, NOW)
    assert "entry 50 does not fit its hash" in ledger.words[0]
    ledger.commit([job(51)])
    ledger.close()
    assert "entry 50 was changed" in str(walked(path).first_bad)


def test_a_recovery_that_was_cut_off_is_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    damage(path, [0])

    def cut(path: Path, kind: replacing.Kind, stamp: str) -> Path:
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "swap", cut)
        with pytest.raises(CannotStore):
            Ledger.open(path, NOW)
    ledger = Ledger.open(path, NOW + 60_000)
    assert ledger.words == (
        "a recovery of the ledger that was interrupted is complete; "
        f"the damaged file is kept as {path.with_name('ledger.db.damaged-20261122T101503Z')}",
    )
    ledger.close()


def test_a_large_ledger_does_not_hold_up_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 3_000)
    monkeypatch.setattr(database, "CHECK_SECONDS", -1.0)
    Ledger.open(path, NOW).close()


CHILD = """
import sys
from pathlib import Path
from storage.answers import Stored
from storage.ledger import Ledger
from tests.unit.storage_samples import NOW, job
ledger = Ledger.open(Path(sys.argv[1]), NOW)
number = ledger.head[0]
while True:
    outcomes = ledger.commit([job(number + place) for place in range(7)])
    number += 7
    print(*[o.seq for o in outcomes if isinstance(o, Stored)], flush=True)
"""


def test_what_was_acknowledged_is_there_after_kill_9_and_the_chain_holds(path: Path) -> None:
    chance = random.Random(7)
    acknowledged: set[int] = set()
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, os.fspath(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(chance.randrange(3, 60)):
                acknowledged.update(map(int, child.stdout.readline().split()))
            child.send_signal(signal.SIGKILL)
            acknowledged.update(int(word) for line in child.stdout if line.endswith("\n") for word in line.split())
    assert acknowledged
    ledger = Ledger.open(path, NOW)
    assert ledger.words == ()
    ledger.close()
    with database.reading(path) as reader:
        kept = {seq for (seq,) in reader.execute("SELECT seq FROM jobs")}
        assert proof.walk(reader).ok
        assert reader.execute("SELECT count(*) FROM entries").fetchone() == (len(kept),)
        assert reader.execute("SELECT sum(records) FROM outbox_counts").fetchone() == (len(kept),)
        assert reader.execute("SELECT value FROM totals WHERE name = 'jobs'").fetchone() == (len(kept),)
    assert acknowledged <= kept
    assert len(kept) - len(acknowledged) <= 6 * 7


def test_what_is_no_evidence_is_kept_across_a_restart(path: Path) -> None:
    ledger = Ledger.open(path, NOW)
    ledger.commit([Remember("a", "1"), Remember("a", "2"), login()])
    ledger.close()
    with database.reading(path) as reader:
        assert reader.execute("SELECT key, value FROM memory").fetchall() == [("a", "2")]
