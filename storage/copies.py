"""What tells that a file is a ledger, or a part of one, but not the one that Locum works with.

Backups, archives and exports have a table `export_info` of keys and values; a ledger at work has none. Keys that all
have: kind (backup, archive, export), made_at, plain (whole, filtered), personal (whole, filtered, none), pseudonymised
(0, 1).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from storage.witness import Mark

TABLE = "export_info"
_MAKE = f"CREATE TABLE IF NOT EXISTS {TABLE} (key TEXT PRIMARY KEY, value TEXT)"


def said_by(connection: sqlite3.Connection) -> dict[str, str]:
    """What a file says of itself, by key (kind: export, archive, backup); nothing for a ledger itself.

    Raises sqlite3.Error.
    """
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (TABLE,)).fetchone()
    if not there:
        return {}
    rows = connection.execute(f"SELECT key, value FROM {TABLE} WHERE typeof(key) = 'text' AND typeof(value) = 'text'")
    return dict(rows) or {"kind": ""}


def mark(connection: sqlite3.Connection, said: Mapping[str, str]) -> None:
    """Let a file say this of itself. Raises sqlite3.Error."""
    connection.execute(_MAKE)
    connection.executemany(f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?)", said.items())


def beyond(connection: sqlite3.Connection, known: Mark) -> str:
    """Why a ledger is older than an entry that is known of it, or another one, in words; "" if it is neither.

    Raises sqlite3.Error.
    """
    first, last = connection.execute("SELECT min(seq), max(seq) FROM entries").fetchone()
    if (last or 0) < known.seq:
        return f"entry {known.seq} is known from {known.source}, and it ends at {last or 0}"
    if known.seq < (first or 0):
        row = connection.execute("SELECT json_extract(body, '$.hash') FROM checkpoints WHERE seq = ?", (known.seq,))
        found = [bytes.fromhex(text) for (text,) in row.fetchall()]
    else:
        found = [own for (own,) in connection.execute("SELECT hash FROM entries WHERE seq = ?", (known.seq,))]
    if found and known.hash not in found:
        return f"entry {known.seq} is another one than {known.source} says"
    return ""
