"""Writing many rows in few statements.

Rows go in with one `INSERT ... VALUES (...), (...), ...` of 64, 32, 16, ... rows. The reason is Python's interpreter
lock: the sqlite3 module lets go of it and takes it again once a statement, and beside a busy reactor each taking may
wait for 5 ms. One statement for many rows also costs less than many statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, TypeVar

_Key = TypeVar("_Key")
_SIZES = (64, 32, 16, 8, 4, 2, 1)
_ASKED_AT_ONCE = 1_024


class Target:
    """A table to write rows into, with the statements for it.

    `columns` may be worked out by SQL `expressions`, each with one `?`; `otherwise` is the ON CONFLICT clause;
    `replacing` deletes the row that is in the way.
    """

    __slots__ = ("statements", "width")

    def __init__(
        self,
        table: str,
        columns: Sequence[str],
        expressions: Sequence[str] | None = None,
        otherwise: str = "",
        replacing: bool = False,
    ) -> None:
        head = f"{'REPLACE' if replacing else 'INSERT'} INTO {table} ({', '.join(columns)}) VALUES "
        row = f"({', '.join(expressions or '?' * len(columns))})"
        self.width = len(columns)
        self.statements = {size: f"{head}{', '.join([row] * size)} {otherwise}" for size in _SIZES}


class Rows:
    """Rows on their way into one table, gathered flat and written together."""

    __slots__ = ("_target", "_values", "add")

    def __init__(self, target: Target) -> None:
        self._target = target
        self._values: list[Any] = []
        self.add = self._values.extend
        """Gather one row, or several flat."""

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Write and forget the gathered rows. Raises sqlite3.Error, or what Python's binding raises for impossible
        values.
        """
        values, width = self._values, self._target.width
        if not values:
            return
        place, left = 0, len(values) // width
        for size in _SIZES:
            while left >= size:
                end = place + size * width
                cursor.execute(self._target.statements[size], values[place:end])
                place, left = end, left - size
        values.clear()


def plain_text(member: StrEnum) -> str:
    """The text of a member as an exact `str`: the sqlite3 module takes three times as long to bind a subclass."""
    text: str = member._value_
    return text


def in_chunks(keys: Sequence[_Key]) -> list[tuple[str, Sequence[_Key]]]:
    """The keys in pieces, each with the list of placeholders for `IN (...)`."""
    pieces = []
    place, left = 0, len(keys)
    for size in _SIZES:
        while left >= size:
            pieces.append((", ".join("?" * size), keys[place : place + size]))
            place, left = place + size, left - size
    return pieces


def to_look_up(keys: Sequence[_Key]) -> list[tuple[str, Sequence[_Key]]]:
    """As `in_chunks`, for queries that may be asked for a key twice: in as few pieces as can be, each filled up to a
    power of two with its last key, so that few statements are prepared.
    """
    pieces: list[tuple[str, Sequence[_Key]]] = []
    for start in range(0, len(keys), _ASKED_AT_ONCE):
        asked = list(keys[start : start + _ASKED_AT_ONCE])
        width = 1 << (len(asked) - 1).bit_length()
        asked += asked[-1:] * (width - len(asked))
        pieces.append((",".join("?" * width), asked))
    return pieces
