"""One page of HTML with every table in it, that needs nothing else: no script, no font, no link to anywhere.

Everything from the ledger is escaped. Times are those of the zone, with their offset. UUIDs are left out: `seq` leads
to the entry. Rows are written as they are read, so that its size is limited by the browser alone; what is more than
some ten thousand rows is better filtered.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import IO

from storage.export.output import EVERY, Tell, Written, private
from storage.export.subjects import Column, Kind, LocalTimes, Row, Source, Table, tables

_LEFT_OUT = ("id", "record_id")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
nav span { margin-right: 1rem; white-space: nowrap; }
table { border-collapse: collapse; font-size: 12px; }
th, td { border: 1px solid #8886; padding: .15rem .4rem; text-align: left; vertical-align: top; }
td { max-width: 24rem; overflow-wrap: break-word; }
table.about td { max-width: none; overflow-wrap: anywhere; }
table.about th { position: static; white-space: nowrap; }
th { background: Canvas; position: sticky; top: 0; border-bottom: 2px solid #888; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.t { white-space: nowrap; font-variant-numeric: tabular-nums; }
@page { size: A4 landscape; margin: 10mm; }
@media print {
  body { margin: 0; font-size: 9px; } table { font-size: 7px; } nav { display: none; }
  th { position: static; } thead { display: table-header-group; } td.t { white-space: normal; }
  td, th { padding: 1px 2px; max-width: none; overflow-wrap: anywhere; }
  tr { break-inside: avoid; } h2 { break-after: avoid; }
}
"""


def write(source: Source, target: Path, about: dict[str, str], tell: Tell) -> Written:
    """Make the file `target`. Raises OSError, sqlite3.Error."""
    local = LocalTimes(source.zone)
    all_tables = tables(source)
    counts = {table.subject.name: table.count() for table in all_tables}
    with private(target) as file:
        _write_head(file, about, counts)
        before = 0
        for table in all_tables:
            if counts[table.subject.name]:
                _write_table(file, table, local, tell, before)
            before += counts[table.subject.name]
        file.write("</body>\n</html>\n")
    return Written(counts)


def _write_head(file: IO[str], about: dict[str, str], counts: dict[str, int]) -> None:
    title = escape(f"Ledger of Locum: {about['period']}")
    file.write(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        '<table class="about">\n'
    )
    for what, text in about.items():
        file.write(f"<tr><th>{escape(what)}</th><td>{escape(text)}</td></tr>\n")
    file.write("</table>\n<nav><p>\n")
    for name, count in counts.items():
        link = f'<a href="#{name}">{name}</a>' if count else name
        file.write(f"<span>{link} {count:,}</span>\n")
    file.write("</p></nav>\n")


def _write_table(file: IO[str], table: Table, local: LocalTimes, tell: Tell, before: int) -> None:
    name = table.subject.name
    heads = "".join(f"<th>{escape(column.name)}</th>" for column in table.columns if column.name not in _LEFT_OUT)
    file.write(
        f'<h2 id="{name}">{name}</h2>\n<p>{escape(table.subject.says)}</p>\n'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n"
    )
    for count, row in enumerate(table.rows(), 1):
        file.write(_row(table.columns, row, local))
        if not count % EVERY:
            tell(before + count)
    file.write("</tbody>\n</table>\n")


def _row(columns: list[Column], row: Row, local: LocalTimes) -> str:
    cells = ["<tr>"]
    for column, value in zip(columns, row, strict=True):
        if column.name in _LEFT_OUT:
            continue
        if value is None:
            cells.append("<td></td>")
        elif column.kind is Kind.TIME:
            cells.append(f'<td class="t">{escape(local.text(value) or value)}</td>')
        elif isinstance(value, str):
            cells.append(f"<td>{escape(value)}</td>")
        else:
            cells.append(f'<td class="n">{value}</td>')
    cells.append("</tr>\n")
    return "".join(cells)
