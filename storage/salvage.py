"""Recovering a damaged ledger: what can be read goes into a new file, and the damaged one is set aside, never deleted.

Each table is read from both ends up to the first row that fails, then row by row in between, so that one bad page
costs its own rows and no others. `replacing.py` has how the one takes the other's place. A damaged chain is not
repaired: the walk along it will name the gap, which is the truth.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from storage import copies, replacing, schema, schema_2, times

_MAGIC = b"SQLite format 3\0"
_MOST_BYTES = 1 << 40
_PROBES = 200_000
_PROBES_BEYOND = 50_000
_PAGE = 500
_KEYED = {"devices": "device", "cards": "card", "lives": "scope", "memory": "key", "totals": "name"}

Row = tuple[Any, ...]


def salvage(path: Path, now: int, cause: str, build: Callable[[Path], sqlite3.Connection]) -> str:
    """Recover `path` into a new file in its place. `build` makes an empty ledger. Returns the line for App.Log.

    Raises sqlite3.Error or OSError if the new file cannot be written; the damaged one stands untouched then.
    """
    fresh = replacing.to_build(path, replacing.SALVAGED)
    _fill_up(path)
    with closing(build(fresh)) as target:
        kept, lost = _copy_all(path, target)
    aside = replacing.put_in_place(path, replacing.SALVAGED, times.compact(now))
    missing = f"; unreadable: {', '.join(lost)}" if lost else ""
    return (
        f"the ledger was damaged ({cause}); {kept} entries were recovered into a new one{missing}; "
        f"the damaged file is kept as {aside}: copy it away and look at the disk"
    )


def _fill_up(path: Path) -> None:
    """Give a file that was cut short the length that its header says: SQLite reads nothing at all of it otherwise."""
    with path.open("rb") as stream:
        header = stream.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        return
    # A page size of 65,536 is written as 1.
    size = int.from_bytes(header[16:18], "big")
    octets = (65_536 if size == 1 else size) * int.from_bytes(header[28:32], "big")
    if path.stat().st_size < octets <= _MOST_BYTES:
        os.truncate(path, octets)


def _copy_all(path: Path, target: sqlite3.Connection) -> tuple[int, list[str]]:
    lost = []
    source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    with closing(source):
        target.execute("BEGIN")
        there = _tables(source)
        for table in [*schema.EVIDENCE, *schema.WORKING]:
            if table == "outbox_counts" or (there and table not in there):
                continue
            if not _copy_table(source, target, table):
                lost.append(table)
        if copies.TABLE in there:
            with suppress(sqlite3.DatabaseError):
                copies.mark(target, copies.said_by(source))
        _recount(target)
        target.execute("COMMIT")
    kept: int = target.execute("SELECT count(*) FROM entries").fetchone()[0]
    return kept, lost


def _tables(source: sqlite3.Connection) -> set[str]:
    """The tables that the file says it has, fewer in an older one; empty if it cannot say."""
    try:
        return {name for (name,) in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return set()


def _recount(target: sqlite3.Connection) -> None:
    target.execute(schema_2.FILL_MODES)
    target.execute("INSERT OR REPLACE INTO totals VALUES ('jobs', (SELECT count(*) FROM jobs))")


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
