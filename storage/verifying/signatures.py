"""Checkpoints, read beside the entries: numbers, order, links, signatures, and whether they sign what is there.

A ledger that signs makes a checkpoint every 1,000 entries at the latest, so a longer stretch without one means that
some were taken away, or that somebody wrote without the key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from storage.checkpoints import EVERY_ENTRIES, Checkpoint, Said
from storage.signing import installation_of
from storage.verifying.findings import Broken
from storage.verifying.notes import Notes
from storage.verifying.plain import Row, Rows


class Signatures(Rows):
    """The checkpoints of a file, in order. `given`: the public keys that are trusted; empty: the file's own.

    `last`: the newest one checked; `trusted`: the newest one by a trusted key; `keys`: all that signed here.
    """

    def __init__(self, connection: sqlite3.Connection, given: Collection[bytes], notes: Notes) -> None:
        query = "SELECT seq, number, body, signature, public_key FROM checkpoints ORDER BY seq, number"
        super().__init__(connection, "checkpoints", query)
        self._given = given
        self._notes = notes
        self._said: Said | None = None
        self._may_begin_late = False
        self.keys: dict[bytes, None] = {}
        self.count = 0
        self.last: Checkpoint | None = None
        self.trusted: Checkpoint | None = None

    @property
    def hash(self) -> bytes | None:
        """The hash that the newest one signs."""
        return self._said.hash if self._said else None

    def begin(self, first: int, whole: bool) -> None:
        """The first entry is `first`: check those that sign what lies before it. `whole`: none should be missing.

        Raises Broken.
        """
        self._may_begin_late = first > 1 or not whole
        while (row := self.row) is not None and row[0] < first:
            self.advance()
            self._check(row, None)

    def at(self, seq: int, own_hash: bytes) -> None:
        """Everything up to the entry `seq` is sound: check what signs it, and that no signature is overdue.

        Raises Broken.
        """
        while (row := self.row) is not None and row[0] == seq:
            self.advance()
            self._check(row, own_hash)
        signed = self.last.seq if self.last else self._notes.signs_since
        if signed is not None and seq - signed > EVERY_ENTRIES:
            raise Broken(
                signed + 1,
                f"checkpoint {self.last.number + 1 if self.last else 1}",
                f"it is missing: the entries after {signed} are not signed, though every {EVERY_ENTRIES:,} are; "
                "checkpoints were removed, or somebody wrote without the key",
            )

    def rest(self) -> None:
        """Those that sign what comes after the last entry of an export: they must be what was signed. Raises Broken."""
        while (row := self.row) is not None:
            self.advance()
            self._read(row)

    def _read(self, row: Row) -> tuple[Checkpoint, Said]:
        seq, number, body, signature, key = row
        point = Checkpoint(number, seq, body, signature, key)
        said = point.said()
        if said is None:
            raise Broken(seq, f"checkpoint {number}", f"what it says of entry {seq} makes no sense")
        if not point.signed():
            text = f"its signature does not hold: the checkpoint of entry {seq} was changed"
            raise Broken(seq, f"checkpoint {number}", text)
        return point, said

    def _check(self, row: Row, own_hash: bytes | None) -> None:
        point, said = self._read(row)
        seq, number, key = point.seq, point.number, point.public_key
        where = f"checkpoint {number}"
        self._check_order(where, point, said)
        if said.installation != installation_of(key):
            raise Broken(seq, where, "it names another installation than its key's")
        self._check_key(where, point)
        if own_hash is not None and said.hash != own_hash:
            since = self.last.seq + 1 if self.last else 1
            raise Broken(
                since,
                f"entry {seq}",
                f"checkpoint {number} signs another hash: something from entry {since} to {seq} was changed and "
                "hashed anew without the key",
            )
        self.count += 1
        self.last, self._said = point, said
        self.keys[key] = None
        if not self._given or key in self._given:
            self.trusted = point

    def _check_order(self, where: str, point: Checkpoint, said: Said) -> None:
        last = self.last
        if last is None:
            if self._may_begin_late or (point.number == 1 and said.previous is None):
                return
            raise Broken(point.seq, "checkpoint 1", f"it is missing: checkpoint {point.number} is the first")
        if point.number != last.number + 1:
            missing = f"checkpoint {last.number + 1} is missing or out of order"
            raise Broken(point.seq, where, f"it follows checkpoint {last.number}: {missing}")
        if point.seq <= last.seq:
            raise Broken(point.seq, where, f"it signs entry {point.seq}, which checkpoint {last.number} signs too")
        if said.previous != last.digest:
            raise Broken(
                point.seq, where, f"it does not follow checkpoint {last.number}, which was changed or replaced"
            )

    def _check_key(self, where: str, point: Checkpoint) -> None:
        key, introduced = point.public_key, self._notes.keys
        if key in self._given or key in self.keys or not (self.keys or introduced):
            return
        if key not in introduced:
            raise Broken(
                point.seq, where, f"it is signed by another key, {installation_of(key)}, which no entry introduces"
            )
