"""Job numbers that are known for ever: by a device's own number and by what was said under it.

Both known: a repeat. The number known, with another content only: a conflict, which is kept and known from then on
too. Digests are random, so they are written as in `repeats.py`: first to a table without an index, held in memory
whole, and from there in sorted crowds into the one with an index. Nothing here is ever deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from storage.proof import clean
from storage.records import Record
from storage.rows import Rows, Target, to_look_up

_RECENT = 2_048
_NUMBERS = Target("recent_job_numbers", ("mark", "content", "seq"))
_COLUMNS = "mark, content, seq"

Name = tuple[bytes, bytes]
"""Digests of a job's number and of its content, 16 bytes each."""

Contents = dict[bytes, int]
"""What was said under one number: digests of contents, each with the entry that said it."""


def name_of(record: Record) -> Name:
    """What a record that is known for ever is known by. Raises ValueError or TypeError for impossible keys."""
    number, content = record.repeat_keys
    mark = blake2b(clean(record.repeat_scope).encode() + b"\0" + number, digest_size=16).digest()
    return mark, blake2b(content, digest_size=16).digest()


@dataclass(slots=True)
class Numbers:
    """What one batch knows: the contents of its records' numbers, as stored and as the batch itself adds them."""

    known: dict[bytes, Contents]
    new: list[tuple[bytes, bytes, int]] = field(default_factory=list)

    def find(self, name: Name) -> tuple[int | None, bool]:
        """The entry that a record repeats, None if it is no repeat; and whether it is a conflict."""
        contents = self.known.get(name[0])
        if contents is None:
            return None, False
        earlier = contents.get(name[1])
        return earlier, earlier is None

    def add(self, name: Name, seq: int) -> None:
        """A record is kept as entry `seq`."""
        mark, content = name
        self.known.setdefault(mark, {})[content] = seq
        self.new.append((mark, content, seq))


class JobNumbers:
    """The stored side: tables `recent_job_numbers`, in memory whole, and `job_numbers`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._recent: dict[bytes, Contents] = {}
        self._held = 0
        self.forget()

    def recognise(self, names: Iterable[Name]) -> Numbers:
        """Everything that is stored about these names' numbers."""
        marks = list({mark for mark, _ in names})
        known: dict[bytes, Contents] = {}
        for places, some in to_look_up(marks):
            query = f"SELECT {_COLUMNS} FROM job_numbers WHERE mark IN ({places})"
            _gather(known, self._connection.execute(query, some))
        for mark in marks:
            recent = self._recent.get(mark)
            if recent is not None:
                known.setdefault(mark, {}).update(recent)
        return Numbers(known)

    def write(self, numbers: Numbers, cursor: sqlite3.Cursor) -> None:
        """Write what a batch adds, within its transaction."""
        if not numbers.new:
            return
        rows = Rows(_NUMBERS)
        for row in numbers.new:
            rows.add(row)
        rows.write(cursor)
        if self._crowded(numbers):
            cursor.execute(
                f"INSERT INTO job_numbers ({_COLUMNS}) SELECT {_COLUMNS} FROM recent_job_numbers ORDER BY mark, number"
            )
            cursor.execute("DELETE FROM recent_job_numbers")

    def adopt(self, numbers: Numbers) -> None:
        """The batch of these numbers was committed."""
        if self._crowded(numbers):
            self._recent.clear()
            self._held = 0
        else:
            self._held += len(numbers.new)
            _gather(self._recent, numbers.new)

    def forget(self) -> None:
        """Read what is in memory anew from the file."""
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM recent_job_numbers ORDER BY number").fetchall()
        self._recent, self._held = {}, len(rows)
        _gather(self._recent, rows)

    def _crowded(self, numbers: Numbers) -> bool:
        return self._held + len(numbers.new) > _RECENT


def _gather(into: dict[bytes, Contents], rows: Iterable[Sequence[object]]) -> None:
    for mark, content, seq in rows:
        into.setdefault(mark, {})[content] = seq  # type: ignore[arg-type,index,assignment]
