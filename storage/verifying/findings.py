"""How what is wrong travels: the first thing found ends the search."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from storage import proof
from storage.errors import primary_code

_NOT_ITS_FAULT = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
_LONGEST = 40
Unreadable = (sqlite3.Error, UnicodeDecodeError)
"""What reading a file may raise that was altered at random."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something is wrong. `where`: "entry 7", "row 7 of jobs", "checkpoint 3", "the file"; `what`: one line."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Broken(Exception):
    """Something is wrong at the entry `seq`."""

    def __init__(self, seq: int, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.seq = seq
        self.wrong = Wrong(where, what)


def damage(error: sqlite3.Error | UnicodeDecodeError) -> str:
    """What such an error says of the file; "": nothing. Never what is in it, which may be personal."""
    if isinstance(error, UnicodeDecodeError) or not primary_code(error):
        return "it is damaged: a text is no UTF-8"
    if primary_code(error) in _NOT_ITS_FAULT:
        return ""
    return f"it is damaged, or was copied only in part ({' '.join(str(error).split())})"


def short(value: object) -> str:
    """A value from the file, for one line."""
    if value is None:
        return "missing"
    text = value if isinstance(value, str) else str(value)
    text = "".join(letter if letter.isprintable() else proof.REPLACEMENT for letter in text)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f'"{text}"' if isinstance(value, str) else text
