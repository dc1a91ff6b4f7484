"""kill -9 of `archive`, `vacuum`, `backup` and `adopt` at random moments: the ledger is the old or the new one, whole.

The moments are seeded by the time, and the seed is printed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage.archive import DAY
from storage.ledger import Ledger
from storage.records import Sign
from storage.signing import Signer
from storage.verify import verify
from tests.peers.skips import ROOT
from tests.peers.waiting import let_pass
from tests.unit.storage_samples import NOW, job

SIGNER = Signer.new()
OLD, LATE = 4_000, 500
MOMENTS = 10
READ_BESIDE = ("ledger.db-wal", "ledger.db-shm")
LATER = NOW + 30 * DAY

CHILD = """
import sys
from pathlib import Path
from storage import adopting, archive, backup, keeping
from storage.signing import Signer
from storage.verify import verify
what, ledger, other, now, key = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
signer = Signer.from_pem(key.encode())
print("begin", flush=True)
if what == "archive":
    archive.archive(ledger, other, now - 10 * archive.DAY, now, signer, "root")
elif what == "vacuum":
    keeping.vacuum(ledger, now)
elif what == "backup":
    backup.backup(ledger, other, "b1", "", lambda done, of: None)
else:
    adopting.adopt(ledger, other, now, lambda path: str(verify(path).wrong or ""))
print("end", flush=True)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of a month, closed."""
    path = tmp_path_factory.mktemp("model") / "ledger.db"
    ledger = Ledger.open(path, NOW, SIGNER)
    ledger.commit([*(job(number, outbox=None) for number in range(OLD)), Sign(NOW)])
    ledger.commit([*(job(OLD + number, at=LATER, outbox=None) for number in range(LATE)), Sign(LATER)])
    ledger.close()
    return path


def copied(model: Path, folder: Path) -> Path:
    """A copy of the model in a folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return Path(shutil.copyfile(model, folder / "ledger.db"))


def child(what: str, ledger: Path, other: Path) -> subprocess.Popen[str]:
    """Begin it; what stands before the work is done when this returns."""
    given = [what, str(ledger), str(other), str(LATER), SIGNER.pem().decode()]
    begun = subprocess.Popen([sys.executable, "-c", CHILD, *given], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert begun.stdout is not None
    assert begun.stdout.readline() == "begin\n"
    return begun


def moments(what: str, model: Path, folder: Path) -> Iterator[tuple[Path, Path, bool]]:
    """After each kill: the ledger, the other file, and whether the work had come to its end. The kills are spread over
    the time that it takes.
    """
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    taken = 0.0
    for number in range(MOMENTS + 1):
        ledger = copied(model, folder)
        other = folder / "other.db"
        if what == "adopt":
            shutil.copyfile(model, other)
            ledger.unlink()
            Ledger.open(ledger, NOW, SIGNER).close()
        began = time.monotonic()
        with child(what, ledger, other) as begun:
            if number:
                let_pass(dice.uniform(0, taken))
                begun.send_signal(signal.SIGKILL)
            assert begun.stdout is not None
            ended = "end" in begun.stdout.read()
        if not number:
            assert ended, f"{what} did not succeed"
            taken = time.monotonic() - began
        yield ledger, other, ended


def started(path: Path) -> int:
    """Start on the ledger, as an appliance does; then it must verify and nothing half made may be left. Its entries."""
    Ledger.open(path, LATER, SIGNER).close()
    report = verify(path)
    assert report.wrong is None
    assert {each.name for each in path.parent.glob("ledger.db*")} <= {"ledger.db", "ledger.db.lock", *READ_BESIDE}
    return report.entries


def test_an_archiving_killed_at_any_moment(model: Path, tmp_path: Path) -> None:
    for path, archive, ended in moments("archive", model, tmp_path / "box"):
        entries = started(path)
        assert entries in (OLD + LATE, LATE + 1)
        assert not ended or entries == LATE + 1
        if entries == LATE + 1:
            assert verify(archive).wrong is None
            assert verify(archive).entries == OLD


def test_a_vacuum_killed_at_any_moment(model: Path, tmp_path: Path) -> None:
    for path, _, _ in moments("vacuum", model, tmp_path / "box"):
        assert started(path) == OLD + LATE


def test_a_backup_killed_at_any_moment(model: Path, tmp_path: Path) -> None:
    for path, backup, ended in moments("backup", model, tmp_path / "box"):
        assert started(path) == OLD + LATE
        assert backup.exists() or not ended
        if backup.exists():
            assert verify(backup).entries == OLD + LATE


def test_an_adoption_killed_at_any_moment(model: Path, tmp_path: Path) -> None:
    for path, source, ended in moments("adopt", model, tmp_path / "box"):
        Ledger.open(path, LATER, SIGNER).close()
        with closing(sqlite3.connect(path)) as book:
            entries = book.execute("SELECT count(*) FROM entries").fetchone()[0]
        assert entries in (0, OLD + LATE)
        assert not ended or entries
        assert verify(path).wrong is None
        assert source.read_bytes() == model.read_bytes()
        assert not os.path.exists(path.with_name("ledger.db.adopting"))
