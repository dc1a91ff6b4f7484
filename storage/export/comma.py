"""CSV (RFC 4180): a directory with a file for each subject, UTF-8 with a byte order mark, commas, lines end in CR LF.

The mark is there because Excel takes a file without it for the machine's old code page; other tools know it. Each time
stands twice, in UTC and, under the same name with `_local`, as a clock in the zone showed it, with its offset. A cell
of text that a spreadsheet would take for a formula gets an apostrophe in front, and the last column, `altered`, names
the columns in which that was done: without the apostrophe they are what the ledger says. NULL is an empty cell.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.export.output import EVERY, Tell, Written, private
from storage.export.subjects import Column, Kind, LocalTimes, Row, Source, Table, tables

_WIDE = "\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
FORMULA = (*"=+-@\t\r\n", *_WIDE)
"""With one of these a spreadsheet takes a text for a formula, or for the beginning of one."""
LOCAL = "_local"
ALTERED = "altered"
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def write(source: Source, target: Path, tell: Tell) -> Written:
    """Make the directory `target` with its files. Raises OSError, sqlite3.Error."""
    target.mkdir(mode=0o700)
    local = LocalTimes(source.zone)
    counts, altered, before = {}, 0, 0
    for table in tables(source):
        rows, cells = _write_table(table, target / f"{table.subject.name}.csv", local, tell, before)
        counts[table.subject.name] = rows
        altered += cells
        before += rows
    return Written(counts, altered)


def _write_table(table: Table, path: Path, local: LocalTimes, tell: Tell, before: int) -> tuple[int, int]:
    heads = [head for column in table.columns for head in _heads(column)]
    cells_of = _cells(table.columns, local)
    count = altered = 0
    with private(path) as file:
        file.write(_MARK)
        writer = csv.writer(file)
        writer.writerow([*heads, ALTERED])
        for count, row in enumerate(table.rows(), 1):
            cells, names = cells_of(row)
            altered += len(names)
            cells.append(" ".join(names))
            writer.writerow(cells)
            if not count % EVERY:
                tell(before + count)
    return count, altered


def _heads(column: Column) -> list[str]:
    return [column.name, column.name + LOCAL] if column.kind is Kind.TIME else [column.name]


def _cells(columns: list[Column], local: LocalTimes) -> Callable[[Row], tuple[list[Any], list[str]]]:
    kinds = [(column.kind, column.name) for column in columns]

    def cells_of(row: Row) -> tuple[list[Any], list[str]]:
        cells: list[Any] = []
        names = []
        for (kind, name), value in zip(kinds, row, strict=True):
            if isinstance(value, str) and value.startswith(FORMULA):
                names.append(name)
                value = f"'{value}"
            cells.append(value)
            if kind is Kind.TIME:
                cells.append(local.text(value))
        return cells, names

    return cells_of
