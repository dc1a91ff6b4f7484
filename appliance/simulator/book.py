"""The server's own book: what it was sent and what it did with it, in a SQLite file that anybody can ask.

`rows.py` has the tables. `jobs` is the job log of all faces and `jobs_twice` names what stands there more than once;
`records` holds every RADIUS record, twice if it came twice. WAL with `synchronous=FULL`: when `write` returns, all of
it is on stable storage.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from appliance.simulator.rows import (
    BOOK_VERSION,
    INSERT,
    SCHEMA,
    TABLES,
    ConfigValue,
    DecidedLogin,
    LoggedJob,
    Record,
    Row,
    UserRow,
    columns,
)

__all__ = ["BOOK_NAME", "Book", "BookError", "DecidedLogin", "LoggedJob", "Record", "jobs_in", "records_in", "rows_in"]

BOOK_NAME = "book.db"
LONGEST_WAIT = 2.0
"""Seconds for which the writer waits while somebody else holds the file."""

AnyRow = TypeVar("AnyRow", bound=Row)

_VALUES: dict[type[Row], Any] = {kind: attrgetter(*(field.name for field in fields(kind))) for kind in TABLES}


class BookError(Exception):
    """The book cannot be used. The text is one line: what, where, what to do."""


class Book:
    """The book in a directory, for one server at a time; its methods may be called from any one thread at a time."""

    def __init__(self, directory: Path) -> None:
        """Raises BookError if the directory cannot be used or another server has it."""
        self.directory = directory
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
        sorted_out: defaultdict[type[Row], list[Row]] = defaultdict(list)
        for row in rows:
            sorted_out[type(row)].append(row)
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for kind, statement in INSERT.items():
                if kind in sorted_out:
                    self._connection.executemany(statement, map(_VALUES[kind], _latest(sorted_out[kind])))

    def rows(self, kind: type[AnyRow]) -> list[AnyRow]:
        """The rows of a kind in the order of writing."""
        return _rows(self._connection, kind)

    def close(self) -> None:
        """Close the file and let another server have it."""
        self._connection.close()
        os.close(self._lock)


def _latest(rows: list[Row]) -> Sequence[Row]:
    """Of users and configuration values that stand there more than once, the latest is enough."""
    first = rows[0]
    if isinstance(first, UserRow):
        return list({row.username: row for row in rows if isinstance(row, UserRow)}.values())
    if isinstance(first, ConfigValue):
        return list({row.name: row for row in rows if isinstance(row, ConfigValue)}.values())
    return rows


def _rows(connection: sqlite3.Connection, kind: type[AnyRow], last: int | None = None) -> list[AnyRow]:
    order = "ORDER BY rowid" if last is None else f"ORDER BY rowid DESC LIMIT {int(last)}"
    # A type variable with a bound that is a union does not pass for a key of that union.
    made: Any = kind
    return [made(*row) for row in connection.execute(f"SELECT {columns(made)} FROM {TABLES[made]} {order}")]


def _open(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=LONGEST_WAIT, isolation_level=None, check_same_thread=False)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        used = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if used and version != BOOK_VERSION:
            raise sqlite3.DatabaseError(f"its version is {version} instead of {BOOK_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {BOOK_VERSION}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def rows_in(directory: Path, kind: type[AnyRow], *, last: int | None = None) -> list[AnyRow]:
    """The rows of a kind in the order of writing; with `last`, so many, newest first. Raises BookError."""
    with _reading(directory) as connection:
        return _rows(connection, kind, last)


def records_in(directory: Path) -> list[Record]:
    """Every RADIUS record in the book, in the order in which they came. Raises BookError."""
    return rows_in(directory, Record)


def jobs_in(directory: Path) -> list[LoggedJob]:
    """The whole job log, in the order in which they came. Raises BookError."""
    return rows_in(directory, LoggedJob)


@contextmanager
def _reading(directory: Path) -> Iterator[sqlite3.Connection]:
    path = directory / BOOK_NAME
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise BookError(f"{path}: cannot be read ({error})") from None
