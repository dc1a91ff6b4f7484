"""The walk along the chain, with plain rows, personal rows, checkpoints and witnesses beside it.

One pass in order of the entries' numbers, so memory does not grow with the file, and what is found first is what is
wrong first. How much of it was sound is counted on the way.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Collection
from hashlib import sha256

from storage import entries, proof
from storage.verifying.findings import Broken, Unreadable, damage
from storage.verifying.notes import Notes
from storage.verifying.outstanding import RECORDS, Outstanding
from storage.verifying.plain import PersonalRows, PlainRows, Rows, commitment_in, differences
from storage.verifying.shape import Kind, Shape
from storage.verifying.signatures import Signatures
from storage.verifying.watching import Watch

_PROGRESS_EVERY = 2_000
_DOMAIN = b"locum-entry-1"

Progress = Callable[[int, int], None]
"""Is told how many entries were checked, of how many."""


class Walk:
    """`first`: number of the first entry; `count`: so many are sound; `head`: the hash of the last of these; `held`: so
    many have their personal data; `missing`: the numbers of those that had.
    """

    def __init__(
        self, book: sqlite3.Connection, kind: Kind, given: Collection[bytes], watch: Watch, progress: Progress | None
    ) -> None:
        self.book = book
        self.kind = kind
        self.given = given
        self.watch = watch
        self.notes = Notes()
        self.signatures: Signatures | None = None
        self.first = self.count = self.held = 0
        self.missing = array("q")
        self.outstanding = Outstanding()
        self.head = proof.GENESIS
        self._progress = progress

    @property
    def last(self) -> int:
        """Number of the last sound entry, 0: none."""
        return self.first + self.count - 1 if self.count else 0

    @property
    def noted(self) -> int:
        """Of how many entries the personal data was erased, as the notes say that were read so far.

        An entry may have been erased by a note after it and then gone into an archive, whose note says how many were.
        """
        gone = sum(each.erased for each in self.notes.archived if each.through < self.first)
        return sum(each.entries for each in self.notes.erasures) - gone + self.kind.erased

    @property
    def keys(self) -> set[bytes]:
        """Public keys that have to do with this ledger."""
        signed = self.signatures.keys if self.signatures is not None else {}
        return {*self.given, *signed, *self.notes.keys}

    def run(self, shape: Shape) -> None:
        """Check every entry and every row of the evidence tables. Raises Broken for the first that is wrong."""
        plain = {
            each.kind: PlainRows(self.book, each, shape.names(each.table))
            for each in entries.PLAIN
            if each.table in shape.tables
        }
        personal = PersonalRows(self.book)
        if "checkpoints" in shape.tables:
            self.signatures = Signatures(self.book, self.given, self.notes)
        beside = [*plain.values(), personal]
        try:
            self._walk(plain, personal)
        except Broken as found:
            self._refuse_unclaimed(beside, min(found.seq, self.last + 1))
            raise
        self._refuse_unclaimed(beside)

    def _walk(self, plain: dict[str, PlainRows], personal: PersonalRows) -> None:
        whole = self.kind.personal == "whole"
        last = self.book.execute("SELECT max(seq) FROM entries").fetchone()[0] or 0
        rows = self.book.execute(
            "SELECT seq, id, kind, recorded_at, CAST(body AS BLOB), prev_hash, hash FROM entries ORDER BY seq"
        )
        head, watched, outstanding = proof.GENESIS, self.watch.seqs, self.outstanding
        tried = plain["delivery"].picker("record", "state")
        expected: int | None = None
        try:
            for seq, identifier, kind, at, body, prev_hash, own_hash in rows:
                if seq != expected:
                    head = self._begin(seq, expected)
                if prev_hash != head:
                    raise Broken(seq, f"entry {seq}", "it does not link to the entry before it")
                if sha256(_DOMAIN + prev_hash + body).digest() != own_hash:
                    raise Broken(seq, f"entry {seq}", "it was changed: its hash does not fit its body")
                table = plain.get(kind)
                if table is None:
                    raise Broken(seq, f"entry {seq}", "it is of no kind that this schema has")
                own = personal.row
                held = own is not None and own[0] == seq
                commitment = personal.take() if held else commitment_in(body)
                row = table.row
                if row is not None and row[0] == seq:
                    if not row[3] or row[1] != identifier or row[2] != at:
                        self._check_stamp(seq, identifier, at, table)
                    if table.body(commitment, seq, identifier, kind, at) != body:
                        differences((seq, identifier, kind, at, body), held, commitment, table.values(), table.name)
                    if kind in RECORDS:
                        outstanding.kept(seq)
                    elif kind == "delivery":
                        outstanding.tried(*tried(row))
                    table.advance()
                elif self.kind.plain == "whole":
                    raise Broken(seq, f"entry {seq}", f"its row in {table.name} is missing")
                else:
                    differences((seq, identifier, kind, at, body), held, commitment, None, table.name)
                if held:
                    self.held += 1
                elif whole and commitment is not None:
                    self.missing.append(seq)
                if kind == "note":
                    self.notes.read(seq, at, body)
                elif kind == "app-log":
                    self.notes.read_line(seq, body)
                self.head = head = own_hash
                self.count += 1
                expected = seq + 1
                if self.signatures is not None:
                    self.signatures.at(seq, own_hash)
                if seq in watched:
                    self.watch.see(seq, own_hash)
                if self._progress is not None and not seq % _PROGRESS_EVERY:
                    self._progress(self.count, last - self.first + 1)
        except Unreadable as error:
            words = damage(error)
            if not words:
                raise
            raise Broken(self.last + 1, f"the entries after {self.last}", words) from error

    def _begin(self, seq: int, expected: int | None) -> bytes:
        """The entry `seq` is not the one that was expected: it is the first. Returns the hash before it."""
        if expected is not None:
            raise Broken(expected, f"entry {expected}", f"it is missing: entry {seq} follows {expected - 1}")
        if seq < 1:
            raise Broken(seq, f"entry {seq}", "it has a number that Locum does not give")
        self.first = seq
        signatures = self.signatures
        if signatures is not None:
            signatures.begin(seq, self.kind.name != "export")
        if seq == 1:
            return proof.GENESIS
        if signatures is None or signatures.hash is None or signatures.last is None or signatures.last.seq != seq - 1:
            raise Broken(
                1, "entry 1", f"it is missing: the first is {seq}, and no checkpoint signs the one before that"
            )
        self.watch.see(seq - 1, signatures.hash)
        return signatures.hash

    def _check_stamp(self, seq: int, identifier: str, at: str, table: PlainRows) -> None:
        row = table.row or ()
        where = f"row {seq} of {table.name}"
        if row[1] != identifier:
            raise Broken(seq, where, f"its id is not that of entry {seq}")
        if row[2] != at:
            raise Broken(seq, where, f"at is {row[2]}, entry {seq} says {at}")
        record = table.values()["record"]
        if record >= self.first:
            raise Broken(seq, where, f"record_id is not the id of entry {record}")

    @staticmethod
    def _refuse_unclaimed(tables: Collection[Rows], before: int | None = None) -> None:
        """Raise Broken for the first row that no entry claimed. `before`: only if it is of an entry before this."""
        left = [(table.row[0], table.name) for table in tables if table.row is not None]
        if left and (before is None or min(left)[0] < before):
            seq, name = min(left)
            raise Broken(seq, f"row {seq} of {name}", "it belongs to no entry of that kind")
