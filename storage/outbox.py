"""The reader's side of the outbox: what waits, how much of it, and the list and the details for an admin.

Works over a connection of `database.open_reader`. Long answers are read in pages, each a statement of its own, so
that a slow reader never keeps the writer from reusing its WAL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from storage import facts, outages, times
from storage.answers import RecordFacts, WaitingRef
from storage.errors import in_our_words
from storage.outages import Outage
from storage.records import Mode, OutboxState
from storage.rows import in_chunks

_PAGE = 1_000
_COUNTS = """SELECT c.state, c.records,
(SELECT o.at FROM outbox o WHERE o.upstream = c.upstream AND o.state = c.state ORDER BY o.seq LIMIT 1)
FROM outbox_counts c WHERE c.records > 0"""
_ROWS = """SELECT o.seq, e.id, o.state, o.upstream, o.device, o.at, o.tries, o.first_try, o.next_try, o.reason,
coalesce(j.event, a.event), coalesce(j.kind, ''), j.pages
FROM outbox o JOIN entries e ON e.seq = o.seq LEFT JOIN jobs j ON j.seq = o.seq LEFT JOIN accounting a ON a.seq = o.seq
WHERE o.seq > ?"""
_TRIES = """SELECT d.at, d.outcome, d.state, d.answer, d.who, coalesce(p.user, ''), d.unknown_card
FROM deliveries d LEFT JOIN personal p ON p.seq = d.seq WHERE d.seq > ?1 AND d.record = ?1 ORDER BY d.seq"""
_EDGES = """SELECT min(seq), max(seq) FROM (
SELECT min(seq) AS seq FROM outbox WHERE upstream = ?1 AND state = 'sent'
UNION ALL SELECT max(seq) FROM outbox WHERE upstream = ?1 AND state = 'sent'
UNION ALL SELECT min(seq) FROM outbox WHERE upstream = ?1 AND state = 'waiting'
UNION ALL SELECT max(seq) FROM outbox WHERE upstream = ?1 AND state = 'waiting')"""


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """Records by state; `oldest` is when (ms) the oldest that waits or is being sent was kept."""

    waiting: int = 0
    sent: int = 0
    in_doubt: int = 0
    rejected: int = 0
    oldest: int | None = None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A record in the outbox as an admin sees it. Times in ms, 0: none; `pages` None: not a job."""

    seq: int
    id: str
    state: OutboxState
    upstream: str
    device: str
    at: int
    event: str
    kind: str
    pages: int | None
    tries: int
    first_try: int
    next_try: int
    reason: str


@dataclass(frozen=True, slots=True)
class TryMade:
    """One delivery of a record: `at` in ms, how it ended, where the record stood then (None: it had left), the server's
    words or the reason, who did it by hand, the user that the server named, and whether nobody had the card.
    """

    at: int
    outcome: str
    state: OutboxState | None
    answer: str
    who: str
    user: str
    unknown_card: bool


@dataclass(frozen=True, slots=True)
class OutboxDetail:
    """All that is known of a record in the outbox, personal data too. `evidence` is the parsed JSON, None without."""

    row: OutboxRow
    dialect: str
    order_key: str
    facts: RecordFacts
    tries: tuple[TryMade, ...]
    evidence: Any
    corrections: tuple[tuple[str, str], ...]


class Outbox:
    """Reads the outbox. Every method raises StorageError if the file fails."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader

    def waiting(self, upstream: str) -> Iterator[WaitingRef]:
        """What waits for an upstream, in the order in which it came."""
        query = (
            "SELECT seq, order_key, next_try, mode, device FROM outbox "
            "WHERE upstream = ? AND state = 'waiting' AND seq > ? ORDER BY seq LIMIT ?"
        )
        place = 0
        while page := self._page(query, (upstream, place, _PAGE)):
            for seq, order_key, next_try, mode, device in page:
                drill = device if mode == Mode.DRILL else ""
                yield WaitingRef(seq, order_key, times.milliseconds_or_zero(next_try), drill)
            place = page[-1][0]

    @in_our_words
    def counts(self, upstream: str | None = None) -> OutboxCounts:
        """Counts for one upstream, or for all; cheap at any length."""
        where, given = (" AND c.upstream = ?", (upstream,)) if upstream is not None else ("", ())
        found = dict.fromkeys(OutboxState, 0)
        oldest = []
        for state, records, at in self._reader.execute(_COUNTS + where, given):
            found[OutboxState(state)] += records
            if state in (OutboxState.WAITING, OutboxState.SENT) and at is not None:
                oldest.append(times.milliseconds(at))
        return OutboxCounts(
            found[OutboxState.WAITING],
            found[OutboxState.SENT],
            found[OutboxState.IN_DOUBT],
            found[OutboxState.REJECTED],
            min(oldest, default=None),
        )

    def by_upstream(self) -> dict[str, int]:
        """How many records are in the outbox for each upstream that has any."""
        query = "SELECT upstream, sum(records) FROM outbox_counts GROUP BY upstream HAVING sum(records) > 0"
        return dict(self._reader.execute(query).fetchall())

    def list(
        self,
        upstream: str | None = None,
        states: Sequence[OutboxState] = tuple(OutboxState),
        limit: int | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        of: Sequence[Outage] = (),
    ) -> Iterator[OutboxRow]:
        """Records in these states in order, at most `limit` of them: those with a seq above `after`, kept before
        `before` (ms), and of one of these outages, if any is given.
        """
        query = _ROWS + f" AND o.state IN ({', '.join('?' * len(states))})"
        given: list[str | int] = [state.value for state in states]
        if upstream is not None:
            query += " AND o.upstream = ?"
            given.append(upstream)
        if before is not None:
            query += " AND o.at < ?"
            given.append(times.text(before))
        if of:
            where, values = outages.condition(of, "o", "seq")
            query += f" AND {where}"
            given += values
        query += " ORDER BY o.seq LIMIT ?"
        place, left = after, limit if limit is not None else 1 << 62
        while left > 0 and (page := self._page(query, (place, *given, min(left, _PAGE)))):
            for row in page:
                yield _row(row)
            place, left = page[-1][0], left - len(page)

    @in_our_words
    def standing(self, seqs: Sequence[int], states: Sequence[OutboxState]) -> tuple[int, ...]:
        """Those of the records that are in the outbox in one of these states, in order."""
        marks = ", ".join("?" * len(states))
        found: list[int] = []
        for places, some in in_chunks(sorted(set(seqs))):
            rows = self._reader.execute(
                f"SELECT seq FROM outbox WHERE seq IN ({places}) AND state IN ({marks}) ORDER BY seq", (*some, *states)
            )
            found += [seq for (seq,) in rows]
        return tuple(found)

    def find(self, beginning: str) -> tuple[int, ...]:
        """The seqs of up to two records in the outbox whose ids begin so."""
        rows = self._reader.execute(
            "SELECT o.seq FROM outbox o JOIN entries e ON e.seq = o.seq WHERE substr(e.id, 1, ?) = ? LIMIT 2",
            (len(beginning), beginning.lower()),
        )
        return tuple(seq for (seq,) in rows)

    @in_our_words
    def show(self, seq: int) -> OutboxDetail | None:
        """Everything about a record in the outbox; None if it is not there."""
        rows = self._reader.execute(f"{_ROWS} AND o.seq = ?", (seq - 1, seq)).fetchall()
        if not rows:
            return None
        dialect, order_key, evidence, corrections = self._reader.execute(
            "SELECT dialect, order_key, evidence, corrections FROM outbox WHERE seq = ?", (seq,)
        ).fetchone()
        return OutboxDetail(
            _row(rows[0]),
            dialect,
            order_key,
            facts.of_records(self._reader, [seq])[seq],
            tuple(_try(row) for row in self._reader.execute(_TRIES, (seq,))),
            msgspec.json.decode(evidence) if evidence else None,
            facts.corrections_in(corrections),
        )

    def in_doubt(self, upstream: str | None = None) -> Sequence[OutboxDetail]:
        """Everything about the records in doubt, in order: of one upstream, or of all. They are few: what one cut finds
        in flight.
        """
        shown = [self.show(row.seq) for row in self.list(upstream, [OutboxState.IN_DOUBT])]
        return [detail for detail in shown if detail is not None]

    @in_our_words
    def edges(self, upstream: str) -> tuple[int, int] | None:
        """The lowest and the highest seq of the records that are sent or wait; None if there are none. Cheap at any
        length.
        """
        lowest, highest = self._reader.execute(_EDGES, (upstream,)).fetchone()
        return None if lowest is None else (lowest, highest)

    @in_our_words
    def _page(self, query: str, given: Sequence[str | int]) -> Sequence[tuple[Any, ...]]:
        return self._reader.execute(query, given).fetchall()


def _row(row: tuple[Any, ...]) -> OutboxRow:
    seq, identifier, state, upstream, device, at, tries, first_try, next_try, reason, event, kind, pages = row
    return OutboxRow(
        seq=seq,
        id=identifier,
        state=OutboxState(state),
        upstream=upstream,
        device=device,
        at=times.milliseconds(at),
        event=event or "",
        kind=kind,
        pages=pages,
        tries=tries,
        first_try=times.milliseconds_or_zero(first_try),
        next_try=times.milliseconds_or_zero(next_try),
        reason=reason,
    )


def _try(row: tuple[Any, ...]) -> TryMade:
    at, outcome, state, answer, who, user, unknown_card = row
    stood = OutboxState(state) if state is not None else None
    return TryMade(times.milliseconds(at), outcome, stood, answer, who, user, unknown_card == 1)
