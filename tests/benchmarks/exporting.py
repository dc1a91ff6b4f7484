"""Exports of a long ledger: how fast, with how much memory, and how quickly the SQLite export answers.

LOCUM_BENCH_ENTRIES makes the ledger of another length than a million. Beside the SQLite export stands SQLite's own
`VACUUM INTO`, which copies without indexes of ours, choice or manifest.
"""

from __future__ import annotations

import math
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from storage.export.making import FORMATS
from storage.signing import Signer
from tests.benchmarks import history
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure
from tests.peers.skips import ROOT

MOST_MEMORY, SLOWEST_VIEW = 150, 50
ROWS, ROUNDS = 100, 5

_EXPORT = """import resource, sys, time
from pathlib import Path
from tests.unit.storage_exports import exported
began = time.perf_counter()
made = exported(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], pseudonymise=sys.argv[4] == "1")
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def _exported(source: Path, target: Path, format: str, pseudonymise: bool = False) -> tuple[float, float]:
    """Seconds and the peak of resident memory in MB, of a process of its own."""
    command = [sys.executable, "-c", _EXPORT, str(source), str(target), format, str(int(pseudonymise))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak / 1e6


def _vacuumed(source: Path, target: Path) -> float:
    with closing(sqlite3.connect(source)) as book:
        began = time.perf_counter()
        book.execute("VACUUM INTO ?", (str(target),))
        taken = time.perf_counter() - began
    target.unlink()
    return taken


def _questions(book: sqlite3.Connection) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The usual views, a screen of each, and the usual look-ups."""
    kept = "type = 'view' AND name NOT LIKE '%/_anew' ESCAPE '/'"
    worked_out = "type = 'table' AND EXISTS (SELECT 1 FROM sqlite_schema v WHERE v.name = t.name || '_anew')"
    for (name,) in book.execute(f"SELECT name FROM sqlite_schema t WHERE ({kept}) OR ({worked_out})").fetchall():
        yield name, f"SELECT * FROM {name} LIMIT {ROWS}", ()
    (card,) = book.execute("SELECT card FROM personal WHERE card <> '' LIMIT 1 OFFSET 5000").fetchone()
    (device,) = book.execute("SELECT device FROM jobs LIMIT 1").fetchone()
    (day,) = book.execute("SELECT max(substr(at, 1, 10)) FROM jobs").fetchone()
    yield "jobs of a card", "SELECT * FROM jobs_full WHERE card = ?", (card,)
    yield "logins of a card", "SELECT * FROM logins_full WHERE card = ?", (card,)
    yield "jobs of a device", "SELECT * FROM jobs_full WHERE device = ?", (device,)
    yield "jobs of a day", "SELECT * FROM jobs_full WHERE at BETWEEN ? AND ? || '~'", (day, day)
    yield "logins of a day", "SELECT * FROM logins_full WHERE at BETWEEN ? AND ? || '~'", (day, day)


def _slowest(export: Path) -> tuple[float, str]:
    """Milliseconds of the slowest of these questions, and which it is."""
    found = []
    with closing(sqlite3.connect(f"file:{export}?mode=ro", uri=True)) as book:
        for name, question, given in _questions(book):
            times = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                book.execute(question, given).fetchall()
                times.append(time.perf_counter() - began)
            found.append((statistics.median(times) * 1000, name))
    return max(found)


def exporting(bench: Bench) -> Sequence[Figure]:
    """Every format, a pseudonymised one, and what the SQLite export answers."""
    entries = history.entries_wanted()
    source = bench.folder / "ledger.db"
    history.make(source, entries, Signer.new())
    figures, peaks = [], {}
    for format in FORMATS:
        target = bench.folder / f"out.{format}"
        seconds, peaks[format] = _exported(source, target, format)
        beside = entries / _vacuumed(source, bench.folder / "vacuumed") if format == "sqlite" else math.nan
        figures.append(
            Figure(
                f"export {entries:,} entries as {format}",
                "/s",
                entries / seconds,
                beside=beside,
                beside_is="" if math.isnan(beside) else "VACUUM INTO",
                note=f"{seconds:.0f} s",
            )
        )
        if format == "sqlite":
            slowest, name = _slowest(target)
        elif target.is_file():
            target.unlink()
    seconds, peaks["pseudonymised"] = _exported(source, bench.folder / "hidden.db", "sqlite", True)
    figures.append(Figure("the same as sqlite with pseudonyms", "/s", entries / seconds, note=f"{seconds:.0f} s"))
    most = max(peaks, key=lambda format: peaks[format])
    figures.append(Figure("export, peak memory", "MB", peaks[most], MOST_MEMORY, lower=True, note=f"of {most}"))
    figures.append(
        Figure(
            "slowest usual view or look-up",
            "ms",
            slowest,
            SLOWEST_VIEW,
            lower=True,
            note=f"{name}, {ROWS} rows of views",
        )
    )
    return figures
