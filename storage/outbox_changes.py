"""The writer's side of the outbox: records come in, are taken, come back, and leave.

The outbox is a queue, no evidence: what it says can be worked out from the deliveries. Its counts by upstream and
state are kept by triggers in the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from storage import facts, proof, times
from storage.answers import Changed, OutboxItem, RecordFacts, Taken
from storage.records import Delivery, OutboxState, Record, Retry, Take
from storage.rows import Rows, Target, in_chunks, plain_text

_OUTBOX = Target("outbox", ("seq", "upstream", "state", "dialect", "device", "order_key", "mode", "at", "first_try"))
_TAKEN = """SELECT o.seq, e.id, o.at, o.upstream, o.dialect, o.device, o.order_key, o.tries, o.first_try, p.raw,
o.corrections
FROM outbox o JOIN entries e ON e.seq = o.seq LEFT JOIN personal p ON p.seq = o.seq
WHERE o.seq IN ({}) AND o.state IN ('waiting', 'sent') AND o.upstream = ? ORDER BY o.seq"""

Change = tuple[str, int, str | None, str, int] | int
"""New state, tries, next try, reason and seq; or the seq of a record that leaves."""


def change_of(item: Delivery) -> Change:
    """What a delivery does to its record's row."""
    if item.state is None:
        return int(item.seq)
    return (plain_text(item.state), item.tries, times.text_or_none(item.next_try), proof.clean(item.answer), item.seq)


class OutboxChanges:
    """What a batch changes, gathered and written together. Writing leaves before moves would be wrong; the order is
    fixed.
    """

    def __init__(self) -> None:
        self._new = Rows(_OUTBOX)
        self._moves: list[tuple[Any, ...]] = []
        self._leaves: list[int] = []

    def row_of(self, item: Record) -> tuple[Any, ...] | None:
        """The row of a new record but its seq; None if there is nothing to forward."""
        if item.outbox is None:
            return None
        at = times.text(item.at)
        first_try = at if item.outbox is OutboxState.SENT else None
        mode = plain_text(item.mode)
        texts = (item.upstream, plain_text(item.outbox), item.dialect, item.device, item.order_key, mode)
        if not "".join(texts).isprintable():
            return (*map(proof.clean, texts), at, first_try)
        return (*texts, at, first_try)

    def add(self, seq: int, row: tuple[Any, ...]) -> None:
        """A record enters the outbox."""
        self._new.add((seq, *row))

    def change(self, change: Change) -> None:
        """A delivery's effect; for a record that has left already it has none."""
        if isinstance(change, int):
            self._leaves.append(change)
        else:
            self._moves.append(change)

    def leave(self, seq: int) -> None:
        """A record leaves the outbox."""
        self._leaves.append(seq)

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Write what was gathered. Raises sqlite3.Error."""
        self._new.write(cursor)
        if self._moves:
            moves, self._moves = self._moves, []
            cursor.executemany("UPDATE outbox SET state = ?, tries = ?, next_try = ?, reason = ? WHERE seq = ?", moves)
        if self._leaves:
            leaves, self._leaves = self._leaves, []
            for places, some in in_chunks(leaves):
                cursor.execute(f"DELETE FROM outbox WHERE seq IN ({places})", some)


class InOutbox(NamedTuple):
    """What the outbox knows of a record that is in it."""

    upstream: str
    order_key: str
    tries: int
    state: str


def take(cursor: sqlite3.Cursor, item: Take) -> Taken:
    """Find those that wait, mark them as sent if that is asked for, and return them in order.

    One that was kept as sent may be taken too: its flow may have had to hold it back in the meantime. Raises ValueError
    or msgspec.DecodeError for evidence that is no JSON.
    """
    evidence = {seq: _checked_json(text) for seq, text in item.evidence}
    rows: list[tuple[Any, ...]] = []
    for places, some in in_chunks(sorted(set(item.seqs))):
        rows += cursor.execute(_TAKEN.format(places), (*some, item.upstream)).fetchall()
    seqs = [row[0] for row in rows]
    if item.mark:
        _mark_sent(cursor, times.text(item.at), seqs)
    if evidence:
        kept = [(evidence[seq], seq) for seq in seqs if seq in evidence]
        cursor.executemany("UPDATE outbox SET evidence = ? WHERE seq = ?", kept)
    known = facts.of_records(cursor, seqs) if item.facts else {}
    return Taken(tuple(_item(row, known.get(row[0])) for row in rows))


def _checked_json(text: str) -> str:
    msgspec.json.decode(text)
    return proof.clean(text)


def _mark_sent(cursor: sqlite3.Cursor, at: str, seqs: Sequence[int]) -> None:
    for places, some in in_chunks(seqs):
        cursor.execute(
            f"UPDATE outbox SET state = 'sent', first_try = coalesce(first_try, ?) WHERE seq IN ({places})", (at, *some)
        )


def _item(row: tuple[Any, ...], known: RecordFacts | None) -> OutboxItem:
    seq, identifier, at, upstream, dialect, device, order_key, tries, first_try, raw, corrections = row
    return OutboxItem(
        seq,
        identifier,
        times.milliseconds(at),
        upstream,
        dialect,
        device,
        order_key,
        tries,
        times.milliseconds_or_zero(first_try),
        raw if raw is not None else b"",
        known,
        facts.corrections_in(corrections),
    )


def retry(cursor: sqlite3.Cursor, item: Retry) -> Changed:
    """Let rejected or waiting records be tried now; a rejected one begins to count its tries anew. Corrections are
    laid over those that a record has already.
    """
    found: list[tuple[int, str, str]] = []
    query = "SELECT seq, upstream, order_key FROM outbox WHERE"
    if not item.seqs:
        found = cursor.execute(f"{query} state = 'rejected' ORDER BY seq").fetchall()
    for places, some in in_chunks(sorted(set(item.seqs))):
        found += cursor.execute(
            f"{query} seq IN ({places}) AND state IN ('rejected', 'waiting') ORDER BY seq", some
        ).fetchall()
    seqs = [seq for seq, _, _ in found]
    if item.corrections:
        _correct(cursor, seqs, item.corrections)
    for places, some in in_chunks(seqs):
        cursor.execute(
            f"UPDATE outbox SET tries = 0, first_try = NULL WHERE seq IN ({places}) AND state = 'rejected'", some
        )
        cursor.execute(f"UPDATE outbox SET state = 'waiting', next_try = NULL WHERE seq IN ({places})", some)
    return Changed(tuple(found))


def _correct(cursor: sqlite3.Cursor, seqs: Sequence[int], corrections: Sequence[tuple[str, str]]) -> None:
    told = {name: proof.clean(value) for name, value in corrections}
    for seq in seqs:
        before = cursor.execute("SELECT corrections FROM outbox WHERE seq = ?", (seq,)).fetchone()[0]
        merged = proof.canonical({**dict(facts.corrections_in(before)), **told}).decode()
        cursor.execute("UPDATE outbox SET corrections = ? WHERE seq = ?", (merged, seq))


def wait_again(cursor: sqlite3.Cursor, seqs: Sequence[int]) -> None:
    """Let records wait as if they had never been tried."""
    for places, some in in_chunks(seqs):
        cursor.execute(
            "UPDATE outbox SET state = 'waiting', tries = 0, first_try = NULL, next_try = NULL "
            f"WHERE seq IN ({places})",
            some,
        )


def find(cursor: sqlite3.Cursor, seq: int) -> InOutbox | None:
    """What the outbox knows of a record; None: it is not there."""
    row = cursor.execute("SELECT upstream, order_key, tries, state FROM outbox WHERE seq = ?", (seq,)).fetchone()
    return InOutbox(*row) if row else None
