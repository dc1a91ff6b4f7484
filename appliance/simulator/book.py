"""The server's own book: what it was sent, in a SQLite file that anybody can ask.

`records` holds every accounting record, `logins` every login that the server decided. A record that came twice stands
there twice, as in the log of any RADIUS server; the view `jobs_twice` names such jobs. WAL with `synchronous=FULL`:
when `write` returns, all of it is on stable storage.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path

BOOK_NAME = "book.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
  number INTEGER PRIMARY KEY, -- in the order in which they came
  received_at TEXT NOT NULL, -- ISO 8601, UTC
  event TEXT NOT NULL, -- start, interim, stop, on, off, other
  user TEXT NOT NULL, -- whose card it is; empty: nobody's
  card TEXT NOT NULL, -- User-Name
  device TEXT NOT NULL,
  session TEXT NOT NULL,
  job_number TEXT, -- the device's own; NULL: no job, as in the columns that follow
  kind TEXT, -- copy, print, scan, fax
  pages INTEGER,
  record_id TEXT NOT NULL, -- Locum-Record-Id; empty: there was none
  delay INTEGER NOT NULL -- Acct-Delay-Time in seconds
) STRICT;
CREATE INDEX IF NOT EXISTS records_job ON records(device, job_number);
CREATE TABLE IF NOT EXISTS logins (
  number INTEGER PRIMARY KEY,
  received_at TEXT NOT NULL,
  user TEXT NOT NULL, -- empty: unknown card
  card TEXT NOT NULL,
  device TEXT NOT NULL,
  outcome TEXT NOT NULL, -- granted, refused
  words TEXT NOT NULL -- what the person was told
) STRICT;
CREATE VIEW IF NOT EXISTS jobs_twice AS
  SELECT device, job_number, count(*) AS times, min(received_at) AS first, max(received_at) AS last
  FROM records WHERE job_number IS NOT NULL GROUP BY device, job_number HAVING count(*) > 1;
"""


class BookError(Exception):
    """The book cannot be used. The text is one line: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """One accounting record, in the order of the table's columns; None: it is no job."""

    received_at: str
    event: str
    user: str
    card: str
    device: str
    session: str
    job_number: str | None
    kind: str | None
    pages: int | None
    record_id: str
    delay: int


@dataclass(frozen=True, slots=True)
class DecidedLogin:
    """One login that the server decided; `outcome` is granted or refused."""

    received_at: str
    user: str
    card: str
    device: str
    outcome: str
    words: str


Row = Record | DecidedLogin

_TABLES: dict[type[Row], str] = {Record: "records", DecidedLogin: "logins"}


def _columns(kind: type[Row]) -> str:
    return ", ".join(field.name for field in fields(kind))


_INSERT = {
    kind: f"INSERT INTO {table} ({_columns(kind)}) VALUES ({', '.join('?' * len(fields(kind)))})"
    for kind, table in _TABLES.items()
}


class Book:
    """The book in a directory, for one server at a time; `write` and `close` may be called from any one thread."""

    def __init__(self, directory: Path) -> None:
        """Raises BookError if the directory cannot be used or another server has it."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise BookError(
                f"{directory}: cannot be used ({error.strerror}); name another directory with --dir"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._connection = _open(directory / BOOK_NAME)
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise BookError(
                    f"{directory}: another server runs on it; end that one, or give --dir another"
                ) from None
            raise BookError(
                f"{directory / BOOK_NAME}: is no book ({error}); move it away or give --dir another"
            ) from None

    def write(self, rows: Sequence[Row]) -> None:
        """Write all of them down, in order, or none. Raises sqlite3.Error."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for kind, statement in _INSERT.items():
                self._connection.executemany(statement, [astuple(row) for row in rows if isinstance(row, kind)])

    def close(self) -> None:
        """Close the file and let another server have it."""
        self._connection.close()
        os.close(self._lock)


def _open(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def records_in(directory: Path) -> list[Record]:
    """Every record in the book, in the order in which they came. Raises BookError."""
    path = directory / BOOK_NAME
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return [
                Record(*row) for row in connection.execute(f"SELECT {_columns(Record)} FROM records ORDER BY number")
            ]
    except sqlite3.Error as error:
        raise BookError(f"{path}: cannot be read ({error})") from None
