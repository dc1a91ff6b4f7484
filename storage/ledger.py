"""The ledger's one writer: a batch in, one transaction, one fsync, and for each value what became of it.

Not thread-safe: one thread at a time works with it. When `commit` has returned, what it calls `Stored` is on stable
storage; when it raises `CannotStore`, nothing of the batch is. A value that only SQLite finds impossible makes the
batch fall back to one savepoint a value, so that a bug in one place costs its own value and no others.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from storage import database, identifiers, proof, schema
from storage.batch import POISON, Batch, Chain, Result
from storage.checkpoints import Checkpoint
from storage.errors import NotStorable, StorageError, blames_the_value, in_our_words, translated
from storage.records import Delivery, Keepable, OutboxState, Sign
from storage.repeats import Repeats
from storage.signing import Signer

QUARANTINE_KEPT = 10_000
CHECKPOINTS_HELD = 1_000
_TIDY_EVERY_MS = 60_000
_BETWEEN_TRIES = 1.0
_WAITS_FOR_OTHERS = 5_000
_SETTLED_AT_ONCE = 512


class Ledger:
    """An open ledger. `words` are lines for App.Log about how it was opened (migrated, recovered); `open` makes one."""

    def __init__(self, path: Path, opened: database.Opened, signer: Signer | None = None) -> None:
        self.path = path
        self.words = opened.words
        self.new_checkpoints: deque[Checkpoint] = deque(maxlen=CHECKPOINTS_HELD)
        """Checkpoints made since somebody last took them out from the left, which any thread may do."""
        self._signer = signer
        self._lock = opened.lock
        self._connection = opened.connection
        self._repeats = Repeats(opened.connection)
        self._chain = end_of_chain(opened.connection)
        self._tidy_at = 0
        self._quarantine_erased = 0
        self._wal_holds_erased = True  # for all that is known: the last run may have been cut off
        self._empty_wal_at = 0.0

    @classmethod
    def open(cls, path: Path, now: int, signer: Signer | None = None, recovers: bool = True) -> Ledger:
        """Open or create the ledger; `now` in ms. Without a signer no checkpoints are made. What is damaged is
        recovered, or with `recovers` False refused.

        Raises CannotStore, LedgerTooNew, LedgerInUse, LedgerDamaged or LedgerBroken.
        """
        opened = database.open_writer(path, now, recovers=recovers)
        try:
            return cls(path, opened, signer)
        except sqlite3.Error as error:
            opened.connection.close()
            os.close(opened.lock)
            raise translated(error, path) from error

    @property
    def head(self) -> tuple[int, bytes]:
        """Number and hash of the last entry on stable storage. Any thread may ask."""
        chain = self._chain
        return chain.seq, chain.head

    def commit(self, batch: Sequence[Keepable]) -> list[Result]:
        """Keep a batch and return an outcome for each value, in order; `NotStorable` in place of an impossible one's.

        Raises CannotStore (disk full, I/O error, ...) or another StorageError; nothing of the batch is kept then.
        """
        if not batch:
            return []
        results = self._commit(batch)
        if self._wal_holds_erased and time.monotonic() >= self._empty_wal_at:
            self._empty_wal()
        return results

    def _commit(self, batch: Sequence[Keepable]) -> list[Result]:
        try:
            return self._together(batch)
        except sqlite3.Error as error:
            if not blames_the_value(error):
                raise translated(error, self.path) from error
        except POISON:
            pass  # said for the value it is about, below
        try:
            return self._one_by_one(batch)
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    @in_our_words
    def settle_sent(self, now: int, in_doubt: Collection[str] = ()) -> list[tuple[int, str]]:
        """After a start: what was in flight when Locum ended is noted as maybe taken, and waits again; that of the
        upstreams named `in_doubt`, whose servers cannot recognise a repeat, is in doubt.

        Returns seq and upstream of each. Raises StorageError.
        """

        def after(upstream: str) -> OutboxState:
            return OutboxState.IN_DOUBT if upstream in in_doubt else OutboxState.WAITING

        rows = self._connection.execute(
            "SELECT seq, upstream, tries FROM outbox WHERE state = 'sent' ORDER BY seq"
        ).fetchall()
        for start in range(0, len(rows), _SETTLED_AT_ONCE):
            self.commit(
                [
                    Delivery(now, seq, upstream, "unknown", after(upstream), tries, maybe_twice=True)
                    for seq, upstream, tries in rows[start : start + _SETTLED_AT_ONCE]
                ]
            )
        return [(seq, upstream) for seq, upstream, _ in rows]

    def checkpoint(self) -> None:
        """Move the WAL into the file and truncate it, as far as readers allow."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self, at: int | None = None) -> None:
        """Close the file and let the lock go. With `at` (ms), sign before what no checkpoint signs yet, if that can be
        stored.
        """
        if at is not None:
            with suppress(StorageError):
                self.commit([Sign(at)])
        self.checkpoint()
        self._connection.close()
        os.close(self._lock)

    def _together(self, items: Sequence[Keepable]) -> list[Result]:
        batch = Batch(self._connection, self._chain, self._repeats, self._signer)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = batch.write(items)
            self._tidy(items, batch)
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._chain = batch.chain
        if batch.erased:
            self._erased()
        self.new_checkpoints.extend(batch.checkpoints)
        self._repeats.adopt(batch.recognition)
        return results

    def _one_by_one(self, items: Sequence[Keepable]) -> list[Result]:
        chain, results = self._chain, []
        made: list[Checkpoint] = []
        erased = False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for item in items:
                batch = Batch(self._connection, chain, self._repeats, self._signer)
                result = self._alone(batch, item)
                results.append(result)
                if not isinstance(result, StorageError):
                    chain = batch.chain
                    made += batch.checkpoints
                    erased |= batch.erased
                    self._repeats.adopt(batch.recognition)
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._chain = chain
        if erased:
            self._erased()
        self.new_checkpoints.extend(made)
        return results

    def _alone(self, batch: Batch, item: Keepable) -> Result:
        self._connection.execute("SAVEPOINT alone")
        try:
            return batch.write([item])[0]
        except (sqlite3.Error, *POISON) as error:
            if not blames_the_value(error):
                raise
            self._connection.execute("ROLLBACK TO alone")
            return NotStorable(f"a {type(item).__name__} cannot be stored ({error}); please report this")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE alone")

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # A commit that failed may stand in the file all the same: what is there decides how the chain goes on.
            self._chain = end_of_chain(self._connection)
            self._repeats.forget()
            self._quarantine_erased = 0

    def _erased(self) -> None:
        self._wal_holds_erased, self._empty_wal_at = True, 0.0

    def _empty_wal(self) -> None:
        """Older pages in the WAL hold what was erased. As long as somebody reads one of them it cannot be emptied; so
        it is tried again at a later commit, and without waiting for them.
        """
        self._empty_wal_at = time.monotonic() + _BETWEEN_TRIES
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA busy_timeout = 0").fetchall()
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            self._wal_holds_erased = bool(busy)
        self._connection.execute(f"PRAGMA busy_timeout = {_WAITS_FOR_OTHERS}").fetchall()

    def _tidy(self, items: Sequence[Keepable], batch: Batch) -> None:
        """Now and then, forget old marks of repeats and the bytes of all but the newest quarantined records."""
        now = getattr(items[-1], "at", 0)
        if not isinstance(now, int) or now < self._tidy_at:
            return
        self._tidy_at = now + _TIDY_EVERY_MS
        self._repeats.prune(now)
        row = self._connection.execute(
            "SELECT seq FROM quarantine ORDER BY seq DESC LIMIT 1 OFFSET ?", (QUARANTINE_KEPT,)
        ).fetchone()
        if row is not None and row[0] > self._quarantine_erased:
            batch.erase_quarantined(self._quarantine_erased, row[0], now)
            self._quarantine_erased = row[0]


def end_of_chain(connection: sqlite3.Connection) -> Chain:
    """Where the next entry goes on. Raises sqlite3.Error."""
    row = connection.execute("SELECT seq, hash, id FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
    seq, head, stamp = (row[0], row[1], identifiers.stamp_of(row[2])) if row else (0, proof.GENESIS, 0)
    # After a recovery, plain rows may be there whose entries were unreadable: their numbers stay theirs.
    taken = [connection.execute(f"SELECT max(seq) FROM {table}").fetchone()[0] for table in schema.EVIDENCE]
    newest = connection.execute(
        "SELECT number, seq, body, signature, public_key FROM checkpoints ORDER BY number DESC LIMIT 1"
    ).fetchone()
    checkpoint = Checkpoint(*newest) if newest else None
    return Chain(max([seq, *[number for number in taken if number is not None]]), head, stamp, checkpoint)
