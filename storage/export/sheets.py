"""A spreadsheet (Office Open XML, XlsxWriter): a sheet for each subject, and the first says what it is.

Texts are written as texts, never as formulas or links, and numbers as numbers. A time stands twice: as text in UTC, and
under the same name with `_local` as a date of the spreadsheet, without its offset, for dates there have none. What a
cell or a sheet cannot hold is told: a text is cut at 32,767 characters, which the last column, `altered`, says, and
rows beyond 1,048,575 go on in a second sheet. Rows leave the memory as they are written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.worksheet import Worksheet

from storage.export.comma import ALTERED, LOCAL
from storage.export.output import EVERY, Tell, Written
from storage.export.subjects import Column, Kind, LocalTimes, Row, Source, Table, tables

MOST_ROWS = 1_048_575
"""Of a sheet, its head apart."""
LONGEST_TEXT = 32_767
_ABOUT = "About"
_WIDTHS = {"seq": 9, "id": 38, "text": 50, "data": 40, "context": 40, "answer": 30, "reason": 30, "document": 30}
_NARROW, _TIME, _TEXT = 10, 25, 16
_LATEST_DATE = 9_999


def write(source: Source, target: Path, about: dict[str, str], tell: Tell) -> Written:
    """Make the file `target`; its folder also holds what is not yet packed. Raises OSError, sqlite3.Error."""
    book = xlsxwriter.Workbook(
        str(target),
        {
            "constant_memory": True,
            "tmpdir": str(target.parent),
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        },
    )
    made = _Book(book, source, tell)
    for table in tables(source):
        made.write(table)
    made.write_about(about)
    try:
        book.close()
    except FileCreateError as error:
        raise error.args[0] from error
    return Written(made.counts, made.altered)


class _Book:
    def __init__(self, book: xlsxwriter.Workbook, source: Source, tell: Tell) -> None:
        self.counts: dict[str, int] = {}
        self.altered = 0
        self._book, self._tell = book, tell
        self._local = LocalTimes(source.zone)
        self._about = book.add_worksheet(_ABOUT)
        self._bold = book.add_format({"bold": True})
        self._date = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss.000"})

    def write(self, table: Table) -> None:
        """One subject, on as many sheets as it needs."""
        name = table.subject.name
        sheet, place, count = self._begin(name, table.columns), 0, 0
        for count, row in enumerate(table.rows(), 1):
            if place == MOST_ROWS:
                self._end(sheet, table.columns, place)
                sheet, place = self._begin(f"{name} ({(count - 1) // MOST_ROWS + 1})", table.columns), 0
            place += 1
            self._write_row(sheet, place, table.columns, row)
            if not count % EVERY:
                self._tell(sum(self.counts.values()) + count)
        self._end(sheet, table.columns, place)
        self.counts[name] = count

    def write_about(self, about: dict[str, str]) -> None:
        """The first sheet."""
        rows = [*about.items(), *((f"rows: {name}", f"{count:,}") for name, count in self.counts.items())]
        rows.append(("altered cells", f"{self.altered:,}"))
        for place, (what, text) in enumerate(rows):
            self._about.write_string(place, 0, what, self._bold)
            self._about.write_string(place, 1, text[:LONGEST_TEXT])
        self._about.set_column(0, 0, 26)
        self._about.set_column(1, 1, 120)

    def _begin(self, name: str, columns: list[Column]) -> Worksheet:
        sheet = self._book.add_worksheet(name)
        for place, (head, _) in enumerate(_heads(columns)):
            sheet.write_string(0, place, head, self._bold)
        return sheet

    @staticmethod
    def _end(sheet: Worksheet, columns: list[Column], rows: int) -> None:
        heads = _heads(columns)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, rows, len(heads) - 1)
        for place, (_, width) in enumerate(heads):
            sheet.set_column(place, place, width)
        sheet.set_landscape()
        sheet.repeat_rows(0)

    def _write_row(self, sheet: Worksheet, place: int, columns: list[Column], row: Row) -> None:
        at, cut = 0, []
        for column, value in zip(columns, row, strict=True):
            if isinstance(value, str):
                if len(value) > LONGEST_TEXT:
                    value = value[:LONGEST_TEXT]
                    cut.append(column.name)
                if value:
                    sheet.write_string(place, at, value)
            elif value is not None:
                sheet.write_number(place, at, value)
            at += 1
            if column.kind is Kind.TIME:
                self._write_local(sheet, place, at, value)
                at += 1
        if cut:
            sheet.write_string(place, at, " ".join(cut))
            self.altered += len(cut)

    def _write_local(self, sheet: Worksheet, place: int, at: int, value: Any) -> None:
        moment = self._local.moment(value) if value else None
        if moment is not None and 1900 < moment.year <= _LATEST_DATE:
            sheet.write_datetime(place, at, moment.replace(tzinfo=None), self._date)


def _heads(columns: list[Column]) -> list[tuple[str, int]]:
    """The heads of a sheet and how wide their columns are."""
    found = []
    for column in columns:
        width = _WIDTHS.get(column.name, _NARROW if column.kind is Kind.NUMBER else _TEXT)
        if column.kind is Kind.TIME:
            found += [(column.name, _TIME), (column.name + LOCAL, _TIME)]
        else:
            found.append((column.name, width))
    return [*found, (ALTERED, _NARROW)]
