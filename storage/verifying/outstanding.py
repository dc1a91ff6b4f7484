"""The outbox held against the evidence: what must still be forwarded follows from the records and their deliveries.

The outbox is a queue and proves nothing; but who takes a row out of it, or puts one in, decides what the server is
told. A record is in it from the moment it is kept until a delivery says that it has left; what happens to it in between
(`state`) its last delivery says too, but for `sent`, and for `waiting` after somebody let a refused one be tried again.

That a record has no delivery and is not in the outbox may be right: the server takes no such record, and Locum was
killed before it noted that; or it was recovered from a capture, and is not to be forwarded. So it is a remark.
"""

from __future__ import annotations

import sqlite3

from storage.records import OutboxState
from storage.verifying.findings import Wrong, short

RECORDS = ("job", "accounting")
"""Kinds of entries that may have to be forwarded."""

_NEW = ""
_ALLOWED = {
    _NEW: (OutboxState.WAITING, OutboxState.SENT),
    OutboxState.WAITING: (OutboxState.WAITING, OutboxState.SENT),
    OutboxState.REJECTED: (OutboxState.REJECTED, OutboxState.WAITING, OutboxState.SENT),
    OutboxState.IN_DOUBT: (OutboxState.IN_DOUBT,),
}
"""Where a record may stand, by what its last delivery says."""

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name IN ('outbox', 'outbox_counts')"
_UNKNOWN = """SELECT seq FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM entries e WHERE e.seq = o.seq
AND e.kind IN ('job', 'accounting')) ORDER BY seq LIMIT 1"""
_ROWS = """SELECT o.seq, o.state, CASE WHEN o.upstream IS NOT coalesce(j.upstream, a.upstream) THEN 'upstream'
WHEN o.dialect IS NOT coalesce(j.dialect, a.dialect) THEN 'dialect'
WHEN o.device IS NOT coalesce(j.device, a.device) THEN 'device' WHEN o.at IS NOT coalesce(j.at, a.at) THEN 'at' END
FROM outbox o LEFT JOIN jobs j ON j.seq = o.seq LEFT JOIN accounting a ON a.seq = o.seq ORDER BY o.seq"""
_RECOVERED = (
    "SELECT seq FROM jobs WHERE mode = 'recovered' UNION ALL SELECT seq FROM accounting WHERE mode = 'recovered'"
)


class Outstanding:
    """The records that were not taken yet, as the entries say that were read so far."""

    def __init__(self) -> None:
        self._left: dict[int, str] = {}

    def kept(self, seq: int) -> None:
        """The entry of a record."""
        self._left[seq] = _NEW

    def tried(self, record: int, state: str | None) -> None:
        """The entry of a delivery; `state` None: the record has left the outbox, for good."""
        if state is None:
            self._left.pop(record, None)
        elif record in self._left:
            self._left[record] = state

    def compare(self, book: sqlite3.Connection, whole: bool) -> tuple[Wrong | None, list[str]]:
        """Hold it against the outbox, when all entries are read: what is wrong, and what is worth a remark.

        `whole`: the file has all of the ledger and its outbox; else only that each row has its record. Raises
        sqlite3.Error.
        """
        there = {name for (name,) in book.execute(_TABLES)}
        if "outbox" not in there:
            return Wrong("the file", "the table outbox is missing") if whole else None, []
        row = book.execute(_UNKNOWN).fetchone()
        if row:
            return Wrong(f"row {row[0]} of outbox", "no entry of a record has that number"), []
        if not whole:
            return None, []
        wrong = self._rows(book)
        if wrong is None and self._left:
            wrong, remarks = self._missing(book)
            if wrong is None:
                return _counts(book, there), remarks
        return wrong or _counts(book, there), []

    def _rows(self, book: sqlite3.Connection) -> Wrong | None:
        """Each row's record is outstanding, and stands where it can stand. Leaves those that have no row."""
        for seq, state, differs in book.execute(_ROWS):
            said = self._left.pop(seq, None)
            where = f"row {seq} of outbox"
            if differs:
                return Wrong(where, f"its {differs} is not that of the record, entry {seq}")
            if said is None:
                return Wrong(where, f"the record, entry {seq}, had left the outbox: a delivery of it says so")
            if state not in _ALLOWED.get(said, (said,)):
                stood = f"its last delivery says {short(said)}" if said else "there is no delivery of it"
                return Wrong(where, f"its state is {short(state)}, but {stood}")
        return None

    def _missing(self, book: sqlite3.Connection) -> tuple[Wrong | None, list[str]]:
        tried = next((seq for seq, state in self._left.items() if state), None)
        if tried is not None:
            what = f"its record is not in the outbox, and its last delivery says {short(self._left[tried])}"
            return Wrong(f"entry {tried}", f"{what}: somebody took it out, or it was lost"), []
        recovered = {seq for (seq,) in book.execute(_RECOVERED)}
        never = [seq for seq in self._left if seq not in recovered]
        if not never:
            return None, []
        others = f", and {len(never) - 1} more like it," if len(never) > 1 else ""
        return None, [f"the record of entry {never[0]}{others} is not in the outbox and was never forwarded"]


def _counts(book: sqlite3.Connection, there: set[str]) -> Wrong | None:
    """The triggers' counts are those of the rows."""
    if "outbox_counts" not in there:
        return Wrong("the file", "the table outbox_counts is missing")
    counted = _counted(book, "SELECT upstream, state, records FROM outbox_counts")
    found = _counted(book, "SELECT upstream, state, count(*) FROM outbox GROUP BY upstream, state")
    for place in sorted(counted.keys() | found.keys()):
        said, has = counted.get(place, 0), found.get(place, 0)
        if said != has:
            upstream, state = place
            return Wrong("outbox_counts", f"it says {said} {state} for {short(upstream)}, the outbox has {has}")
    return None


def _counted(book: sqlite3.Connection, query: str) -> dict[tuple[str, str], int]:
    return {(str(upstream), str(state)): records for upstream, state, records in book.execute(query)}
