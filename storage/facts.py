"""What the ledger knows of a record, read back: for servers that are not sent the device's own bytes, and for an admin.

Also the corrections that an admin gave to a record: JSON in the outbox, an object of texts, empty for none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from storage import times
from storage.answers import RecordFacts
from storage.records import Counts, Mode
from storage.rows import in_chunks

_FACTS = """SELECT e.seq, coalesce(j.client, a.client, ''), coalesce(j.event, a.event, ''),
coalesce(j.session, a.session, ''), coalesce(j.mode, a.mode, 'unknown'),
coalesce(p.card, ''), coalesce(p.user, ''), coalesce(p.document, ''), coalesce(p.account, ''),
coalesce(j.job_number, a.job_number, ''), coalesce(j.started_at, a.started_at), coalesce(j.ended_at, a.ended_at),
j.kind, j.pages, j.color_pages, j.sheets, j.copies, j.duplex, j.paper
FROM entries e LEFT JOIN jobs j ON j.seq = e.seq LEFT JOIN accounting a ON a.seq = e.seq
LEFT JOIN personal p ON p.seq = e.seq WHERE e.seq IN ({})"""
_texts = msgspec.json.Decoder(dict[str, str]).decode


def of_records(reader: sqlite3.Connection | sqlite3.Cursor, seqs: Sequence[int]) -> dict[int, RecordFacts]:
    """What is known of these records. Raises sqlite3.Error."""
    found: dict[int, RecordFacts] = {}
    for places, some in in_chunks(seqs):
        found.update(_facts(row) for row in reader.execute(_FACTS.format(places), some).fetchall())
    return found


def corrections_in(text: str) -> tuple[tuple[str, str], ...]:
    """The corrections that an outbox row holds."""
    return tuple(_texts(text).items()) if text else ()


def _facts(row: tuple[Any, ...]) -> tuple[int, RecordFacts]:
    seq, client, event, session, mode, card, user, document, account, job_number, started, ended, *counts = row
    return seq, RecordFacts(
        client,
        event,
        session,
        Mode(mode),
        card,
        user,
        document,
        account,
        job_number,
        _counts(*counts),
        times.milliseconds(started) if started else None,
        times.milliseconds(ended) if ended else None,
    )


def _counts(
    kind: str | None,
    pages: int,
    color_pages: int | None,
    sheets: int | None,
    copies: int | None,
    duplex: int | None,
    paper: str,
) -> Counts | None:
    if kind is None:
        return None
    return Counts(kind, pages, color_pages, sheets, copies, None if duplex is None else bool(duplex), paper)
