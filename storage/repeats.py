"""Which record was kept before: by its scope and keys, within 24 hours, within the present life of its device.

A device's life begins anew with a record that `ends_repeats` (RADIUS Accounting-On or -Off): marks of entries before
it count no more. Such a record is itself a repeat only of the very last record of its scope, or else a device that
reboots twice would be thought to have rebooted once. What a batch adds is laid over what is stored and adopted only
after its commit.

Marks are random, so each one written to an index dirties a page of its own: more writing than all the rest of its
record. So they go to a table without an index first, which is held in memory too, and from there into the index in
sorted crowds. What a device numbers for ever has no lives and no end: `job_numbers.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from storage.job_numbers import JobNumbers, Name, Numbers
from storage.proof import clean
from storage.records import Record
from storage.rows import Rows, Target, to_look_up

MEMORY_MS = 24 * 3_600_000
_LIVES_CACHED = 20_000
_PRUNED_AT_ONCE = 2_000
_RECENT = 2_048
_LIVES = Target("lives", ("scope", "began", "latest"), replacing=True)
_MARKS = Target("recent_repeats", ("mark", "seq", "at"))


class Mark(NamedTuple):
    """A record that was kept: its entry and its time."""

    seq: int
    at: int


class Life(NamedTuple):
    """A scope's present life: the entry it began with (0: the first) and the latest record in it."""

    began: int
    latest: int


def scope_of(record: Record) -> str:
    """The record's scope as the file can hold it."""
    return clean(record.repeat_scope)


def marks_of(record: Record) -> list[bytes]:
    """The record's marks: a digest for each key, 16 bytes. Raises TypeError or ValueError for impossible scopes and
    keys.
    """
    scope = scope_of(record).encode() + b"\0"
    return [blake2b(scope + key, digest_size=16).digest() for key in record.repeat_keys]


@dataclass(slots=True)
class Recognition:
    """What one batch knows about repeats: stored marks that its records have, and what the batch itself adds."""

    known: dict[bytes, Mark]
    lives: dict[str, Life]
    numbers: Numbers = field(default_factory=lambda: Numbers({}))
    new_marks: dict[bytes, Mark] = field(default_factory=dict)
    new_lives: dict[str, Life] = field(default_factory=dict)

    def find(self, record: Record, marks: Iterable[bytes]) -> Mark | None:
        """The record that this one repeats."""
        life = self._life(scope_of(record))
        for mark in marks:
            found = self.new_marks.get(mark) or self.known.get(mark)
            if found is None or found.seq < life.began or record.at - found.at > MEMORY_MS:
                continue
            if not record.ends_repeats or found.seq == life.latest:
                return found
        return None

    def add(self, record: Record, marks: Iterable[bytes], seq: int) -> None:
        """The record is kept as entry `seq`."""
        for mark in marks:
            self.new_marks[mark] = Mark(seq, record.at)
        began = seq if record.ends_repeats else self._life(scope_of(record)).began
        self.new_lives[scope_of(record)] = Life(began, seq)

    def _life(self, scope: str) -> Life:
        return self.new_lives.get(scope) or self.lives.get(scope) or Life(0, 0)


class Repeats:
    """The stored side: tables `recent_repeats`, `repeats` and `lives`; the first is in memory whole, lives as they are
    read.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lives: dict[str, Life] = {}
        self._recent: dict[bytes, Mark] = {}
        self._numbers = JobNumbers(connection)
        self.forget()

    def recognise(self, scopes: Iterable[str], marks: Sequence[bytes], names: Sequence[Name] = ()) -> Recognition:
        """Everything that is stored about these scopes, marks and names of job numbers."""
        recent = self._recent
        known = self._indexed([mark for mark in marks if mark not in recent])
        known.update((mark, recent[mark]) for mark in marks if mark in recent)
        return Recognition(known, {scope: self._life(scope) for scope in scopes}, self._numbers.recognise(names))

    def write(self, recognition: Recognition, cursor: sqlite3.Cursor) -> None:
        """Write what a batch adds, within its transaction."""
        self._numbers.write(recognition.numbers, cursor)
        if recognition.new_lives:
            lives = Rows(_LIVES)
            for scope, life in recognition.new_lives.items():
                lives.add((scope, *life))
            lives.write(cursor)
        if not recognition.new_marks:
            return
        marks = Rows(_MARKS)
        for mark, kept in recognition.new_marks.items():
            marks.add((mark, *kept))
        marks.write(cursor)
        if self._crowded(recognition):
            cursor.execute(
                "REPLACE INTO repeats (mark, seq, at) SELECT mark, seq, at FROM recent_repeats ORDER BY mark, number"
            )
            cursor.execute("DELETE FROM recent_repeats")

    def adopt(self, recognition: Recognition) -> None:
        """The batch of this recognition was committed."""
        self._numbers.adopt(recognition.numbers)
        if self._crowded(recognition):
            self._recent.clear()
        else:
            self._recent.update(recognition.new_marks)
        if len(self._lives) > _LIVES_CACHED:
            self._lives.clear()
        self._lives.update(recognition.new_lives)

    def forget(self) -> None:
        """Read everything anew from the file."""
        self._numbers.forget()
        self._lives.clear()
        rows = self._connection.execute("SELECT mark, seq, at FROM recent_repeats ORDER BY number")
        self._recent = {mark: Mark(seq, at) for mark, seq, at in rows}

    def prune(self, now: int) -> None:
        """Delete some of the marks older than 24 hours."""
        self._connection.execute(
            "DELETE FROM repeats WHERE number IN (SELECT number FROM repeats ORDER BY number LIMIT ?) AND at < ?",
            (_PRUNED_AT_ONCE, now - MEMORY_MS),
        )

    def _crowded(self, recognition: Recognition) -> bool:
        return len(self._recent) + len(recognition.new_marks) > _RECENT

    def _indexed(self, marks: Sequence[bytes]) -> dict[bytes, Mark]:
        found: dict[bytes, Mark] = {}
        for places, asked in to_look_up(marks):
            query = f"SELECT mark, seq, at FROM repeats WHERE mark IN ({places})"
            found.update((mark, Mark(seq, at)) for mark, seq, at in self._connection.execute(query, asked))
        return found

    def _life(self, scope: str) -> Life:
        life = self._lives.get(scope)
        if life is None:
            row = self._connection.execute("SELECT began, latest FROM lives WHERE scope = ?", (scope,)).fetchone()
            life = self._lives[scope] = Life(*row) if row else Life(0, 0)
        return life
