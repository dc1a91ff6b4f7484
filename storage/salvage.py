"""Recovering a damaged ledger: what can be read goes into a new file, and the damaged one is set aside, never deleted.

Each table is read from both ends up to the first row that fails, then row by row in between, so that one bad page
costs its own rows and no others. Without a header SQLite reads nothing: one that is destroyed is written anew, with
what all our ledgers have in it. Plain rows and the outbox are then built anew from the entries (`rebuilding.py`), and
`replacing.py` has how the one file takes the other's place. A damaged chain is not repaired: the walk along it will
name the gap, which is the truth. Where the first page is gone as a whole nothing can be read, for it says where each
table begins.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import copies, mending, migrations, rebuilding, replacing, schema, schema_2, times
from storage.errors import StorageError

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_PAGE_BYTES = 4096
_MOST_BYTES = 1 << 40
_PROBES = 200_000
_PROBES_BEYOND = 50_000
_PAGE = 500
_KEYED = {"devices": "device", "cards": "card", "lives": "scope", "memory": "key", "totals": "name"}

Row = tuple[Any, ...]
Build = Callable[[Path], sqlite3.Connection]


class NothingRead(StorageError):
    """No entry of a damaged ledger could be read. The file stands as it was."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Lines for App.Log: `words` say what was done, `lost` which records that waited may be lost, or cannot be sent."""

    words: str
    lost: tuple[str, ...] = ()


@dataclass(slots=True)
class _Read:
    """What a recovery found: how many entries, tables that could not be read as a whole, rows that were written anew by
    table, records that were put back into the outbox, and lines about what is lost.
    """

    entries: int
    unreadable: list[str]
    rewritten: dict[str, int]
    put_back: int
    lost: list[str]


def salvage(path: Path, now: int, cause: str, build: Build, *, begin_anew: bool) -> Recovered:
    """Recover `path` into a new file in its place. `build` makes an empty ledger. If no entry can be read, a new ledger
    begins there with `begin_anew`; else it is refused.

    Raises NothingRead, or sqlite3.Error or OSError if the new file cannot be written; the damaged one stands then.
    """
    fresh = replacing.to_build(path, replacing.SALVAGED)
    with closing(build(fresh)) as target:
        before = _header_anew(path, fresh)
        _fill_up(path)
        found = _copy_all(path, target)
    if not found.entries and "entries" in found.unreadable:
        _put_back(path, before)
        if not begin_anew:
            replacing.discard(fresh)
            raise NothingRead(
                f"nothing of the ledger {path} could be read ({cause}); put the newest backup in its place: "
                "locum ledger adopt BACKUP --anyway"
            )
        before = b""
    aside = replacing.put_in_place(path, replacing.SALVAGED, times.compact(now))
    missing = f"; unreadable: {', '.join(found.unreadable)}" if found.unreadable else ""
    header = "; its header was destroyed and written anew" if before else ""
    return Recovered(
        f"the ledger was damaged ({cause}); {found.entries} entries were recovered into a new one{missing}{header}"
        f"{_made_anew(found)}; the damaged file is kept as {aside}: copy it away and look at the disk",
        tuple(found.lost),
    )


def _made_anew(found: _Read) -> str:
    rows = [f"{number} rows of {table}" for table, number in found.rewritten.items()]
    words = f"; written anew from the entries: {', '.join(rows)}" if rows else ""
    if found.put_back:
        words += (
            f"; {rebuilding.records(found.put_back)} put back into the outbox, and counted as sent until the next "
            "start, as nobody knows what was on its way"
        )
    return words


def _header_anew(path: Path, sample: Path) -> bytes:
    """Give a file whose header is destroyed the one that a new ledger has; what stood there, b"" if it was no such
    case.
    """
    octets = path.stat().st_size
    with path.open("r+b") as stream:
        before = stream.read(_HEADER)
        # https://www.sqlite.org/fileformat.html#the_database_header: the three fractions are fixed.
        if octets < _PAGE_BYTES or (before.startswith(_MAGIC) and before[21:24] == b"\x40\x20\x20"):
            return b""
        header = bytearray(sample.read_bytes()[:_HEADER])
        header[18:20] = b"\x02\x02" if _wal_of(path) else b"\x01\x01"
        header[28:32] = (octets // _PAGE_BYTES).to_bytes(4, "big")
        header[32:40] = bytes(8)
        stream.seek(0)
        stream.write(header)
    return before


def _put_back(path: Path, header: bytes) -> None:
    if header:
        with path.open("r+b") as stream:
            stream.write(header)


def _wal_of(path: Path) -> bool:
    try:
        return path.with_name(path.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _fill_up(path: Path) -> None:
    """Give a file that was cut short the length that its header says: SQLite reads nothing at all of it otherwise."""
    with path.open("rb") as stream:
        header = stream.read(_HEADER)
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        return
    # A page size of 65,536 is written as 1.
    size = int.from_bytes(header[16:18], "big")
    octets = (65_536 if size == 1 else size) * int.from_bytes(header[28:32], "big")
    if path.stat().st_size < octets <= _MOST_BYTES:
        os.truncate(path, octets)


def _copy_all(path: Path, target: sqlite3.Connection) -> _Read:
    unreadable = []
    source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    with closing(source):
        # So that a description of the tables that is damaged in part is of use in part.
        with suppress(sqlite3.DatabaseError):
            source.execute("PRAGMA writable_schema = 1")
        target.execute("BEGIN")
        there = _tables(source)
        for table in [*schema.EVIDENCE, *schema.WORKING]:
            if table == "outbox_counts" or (there and table not in there and _is_older(source)):
                continue
            if not _copy_table(source, target, table) or (table == "outbox" and not _as_counted(source, target)):
                unreadable.append(table)
        if copies.TABLE in there:
            with suppress(sqlite3.DatabaseError):
                copies.mark(target, copies.said_by(source))
    kept: int = target.execute("SELECT count(*) FROM entries").fetchone()[0]
    found = _built_anew(target, kept, unreadable)
    target.execute("COMMIT")
    return found


def _as_counted(source: sqlite3.Connection, target: sqlite3.Connection) -> bool:
    """Whether as many records were read as the outbox's own counts say: damage may hide a row without an error."""
    try:
        kept = source.execute(mending.KEPT_COUNTS).fetchall()
    except sqlite3.DatabaseError:
        return False
    return kept == target.execute(mending.COUNTED).fetchall()


def _built_anew(target: sqlite3.Connection, kept: int, unreadable: list[str]) -> _Read:
    rewritten = {table: rebuilding.plain_rows(target, table) for table in unreadable}
    if rebuilding.untrue(target) and "outbox" not in unreadable:
        unreadable.append("outbox")
    put_back, lost = 0, rebuilding.without_entry(target)
    if "outbox" in unreadable:
        put_back, unknown = rebuilding.outbox(target)
        lost += unknown
        lost += rebuilding.perhaps_waiting(target)
    if "personal" in unreadable:
        lost += rebuilding.without_bytes(target)
    target.execute(schema_2.FILL_MODES)
    target.execute("INSERT OR REPLACE INTO totals VALUES ('jobs', (SELECT count(*) FROM jobs))")
    return _Read(kept, unreadable, {table: rows for table, rows in rewritten.items() if rows}, put_back, lost)


def _is_older(source: sqlite3.Connection) -> bool:
    """Whether an older Locum wrote the file, which had fewer tables."""
    try:
        return migrations.version(source) < migrations.CURRENT
    except sqlite3.DatabaseError:
        return False


def _tables(source: sqlite3.Connection) -> set[str]:
    """The tables that the file says it has, fewer in an older one; empty if it cannot say."""
    try:
        return {name for (name,) in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return set()


def _copy_table(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> bool:
    """Copy what can be read; whether all of it could."""
    reader = _Keyed(source, table, _KEYED[table]) if table in _KEYED else _Numbered(source, table)
    try:
        columns = [column[0] for column in source.execute(f"SELECT * FROM {table} LIMIT 0").description]
    except sqlite3.DatabaseError:
        return False
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    refused = 0
    for row in reader.rows():
        try:
            target.execute(insert, row)
        except sqlite3.IntegrityError:
            refused += 1
    return reader.whole and not refused


class _Keyed:
    """Rows of a small table with a text key: forward up to the first that fails, then backward."""

    def __init__(self, source: sqlite3.Connection, table: str, key: str) -> None:
        self._source, self._table, self._key = source, table, key
        self.whole = True

    def rows(self) -> Iterator[Row]:
        for direction in ("ASC", "DESC"):
            try:
                yield from self._source.execute(f"SELECT * FROM {self._table} ORDER BY {self._key} {direction}")
                return
            except sqlite3.DatabaseError:
                self.whole = False


class _Numbered:
    """Rows of a table with a whole number as its key, which is its first column."""

    def __init__(self, source: sqlite3.Connection, table: str) -> None:
        self._source, self._table = source, table
        self.whole = True

    def rows(self) -> Iterator[Row]:
        last = 0
        for row in self._run(">", "ASC", 0):
            last = row[0]
            yield row
        if self.whole:
            return
        first = None
        for row in self._run("<", "DESC", 2**62):
            first = row[0]
            if first <= last:
                return
            yield row
        end = last + _PROBES_BEYOND if first is None else min(first, last + _PROBES)
        for number in range(last + 1, end):
            yield from self._probe(number)

    def _run(self, comparison: str, direction: str, start: int) -> Iterator[Row]:
        query = f"SELECT * FROM {self._table} WHERE rowid {comparison} ? ORDER BY rowid {direction} LIMIT {_PAGE}"
        place = start
        while True:
            try:
                page: list[Row] = []
                for row in self._source.execute(query, (place,)):
                    page.append(row)
            except sqlite3.DatabaseError:
                self.whole = False
                yield from page
                return
            yield from page
            if len(page) < _PAGE:
                return
            place = page[-1][0]

    def _probe(self, number: int) -> list[Row]:
        try:
            return self._source.execute(f"SELECT * FROM {self._table} WHERE rowid = ?", (number,)).fetchall()
        except sqlite3.DatabaseError:
            return []
