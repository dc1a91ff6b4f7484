"""Metadata for Datasette: what each table and column of a SQLite export is, read from the comments in its schema.

`datasette DEST -m DEST.datasette.json` shows them. Columns of views are those of the tables they come from. Units are
said in the descriptions and not as `units`, which Datasette gave up in its version 1.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from storage.export.copy import ANEW, WORKED_OUT
from storage.export.subjects import SUBJECTS

_COLUMN = re.compile(r"^\s*(\w+) (?:TEXT|INTEGER|BLOB)\b[^\n]*?(?:-- (.*)|/\* (.*?) \*/.*)?$", re.MULTILINE)
_ADDED = re.compile(r", (\w+) (?:TEXT|INTEGER)[^,\n]*?/\* (.*?) \*/")
_HEAD = re.compile(r"^CREATE TABLE \w+ \( -- (.*)$", re.MULTILINE)

TABLES = {
    "entries": "Everything that happened, in order, chained by hashes. It holds no personal data.",
    "personal": "What leads from an entry to a person. No row: there is nothing, or it was erased.",
    "checkpoints": "Signatures over the chain of entries.",
    "outbox": "Records that the server had not taken when the export was made. A queue, no evidence.",
    "outbox_counts": "How many records the outbox has.",
    "totals": "Sums.",
    "devices": "Devices that were heard.",
    "cards": "Card memory: the server's own word on cards.",
    "export_info": "What this file is, and what was left out of it.",
    "jobs_full": "Jobs with the person, and where the record stands in the outbox.",
    "jobs_counted": "Jobs as they count: without the records that a later one of the same job replaces.",
    "logins_full": "Logins with the person.",
    "records": "Jobs and accounting records in one list.",
    "jobs_by_card": "Jobs and pages of each card.",
    "jobs_by_user": "Jobs and pages of each user.",
    "jobs_by_device": "Jobs and pages of each device.",
    "jobs_by_day": "Jobs and pages of each day (UTC) and kind.",
    "outage_contents": "Everything that happened within each outage.",
    "records_not_taken": "Records that the server had not taken, with what they are.",
    "maybe_forwarded_twice": "Records that the server may have twice.",
    "in_doubt": "Records of which nobody knows whether the server has them.",
    "unknown_cards": "Cards that nobody has.",
    "readings": "Readings of page meters that count, in order, with what each went up by.",
    "checkpoints_full": "Checkpoints with what they say in columns.",
    "erasures": "When personal data was deleted.",
    "exports": "Which copies of the ledger were made.",
    "by_hand": "What people did.",
    **{subject.relation: subject.says for subject in SUBJECTS},
}
_COLUMNS = {
    "seq": "number of the entry in `entries`",
    "id": "UUID of the entry",
    "at": "when it happened, by Locum's clock (ISO 8601, UTC)",
    "device": "copier or terminal, as it names itself",
    "client": "address it came from",
    "dialect": "wire protocol",
    "upstream": "the server it is for",
    "card": "card number as it was read; empty: none",
    "user": "user name; empty: none",
    "document": "name of the document",
    "account": "account that the user chose",
    "session": "session, as the device or Locum marks it",
    "pages": "impressions (pages)",
    "color_pages": "of these in colour (pages)",
    "sheets": "sheets of paper (sheets)",
    "copies": "copies",
    "first": "the first time (ISO 8601, UTC)",
    "last": "the last time (ISO 8601, UTC)",
    "jobs": "number of jobs",
    "recorded_at": "when it happened (ISO 8601, UTC)",
    "started_at": "the device's own time of the beginning (ISO 8601, UTC)",
    "ended_at": "the device's own time of the end (ISO 8601, UTC)",
    "who": "who did it by hand",
    "reason": "why, in words",
    "value": "what it showed (pages)",
    "size": "bytes that came (bytes)",
    "boot_ms": "time since the kernel's boot (milliseconds)",
    "outbox": "the record's state in the outbox; NULL: it has left",
    "day": "day (UTC)",
}


def write(export: Path, name: str, about: Mapping[str, str], target: Path) -> None:
    """Make the metadata `target` of a SQLite export; `name`: how it will be called, without its ending. Raises OSError,
    sqlite3.Error.
    """
    with closing(sqlite3.connect(export)) as connection:
        tables = {
            table: _described(table, sql or "", [row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
            for table, sql in connection.execute(
                "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
            ).fetchall()
        }
    told = {
        "title": "Ledger of Locum",
        "description": f"{about['what']}, {about['period']}. Filters: {about['filters']}. Names: {about['names']}.",
        "databases": {name: {"tables": tables}},
    }
    target.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _described(table: str, sql: str, columns: list[str]) -> dict[str, Any]:
    said = {name: one or other for name, one, other in _COLUMN.findall(sql) if one or other} | dict(_ADDED.findall(sql))
    known = {column: text for column in columns if (text := said.get(column) or _COLUMNS.get(column))}
    found: dict[str, Any] = {"columns": known}
    origin = table.removesuffix(ANEW)
    text = TABLES.get(origin, "")
    if head := _HEAD.search(sql):
        text = text or head[1]
    if origin in WORKED_OUT:
        text += " Worked out when the export was made." if origin == table else " Worked out anew each time; slow."
    if text:
        found["description"] = text.strip()
    if "seq" in columns and table != "entries":
        found["sort_desc"] = "seq"
    return found
