"""Which records of a capture a ledger has already, and the import of the others.

RADIUS records are known by what the ledger itself knows repeats by: the digests of their bytes. It keeps those for a
day, so they are made anew from the bytes of the records that it took around the time of the capture, and of all that
were recovered before; where the bytes were erased, what the device said decides. Jobs of terminals are known to the
ledger for ever by their numbers, and so is every record that was recovered once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.ledger_access import change
from appliance.ledger_deeds import MOST_RECOVERED
from appliance.seeing import radius
from appliance.seeing.recovering import Recovered
from protocols.errors import ProtocolError
from protocols.radius.accounting import repeat_digests
from protocols.radius.packet import parse
from storage import times
from storage.records import Mode, Record

AROUND = 24 * 3_600_000
"""Milliseconds before and after the capture in which the same bytes are the same record."""

_RECORDS = """SELECT r.client, r.session, r.event, r.job_number, {pages} AS pages, r.ended_at, p.raw
FROM {table} r LEFT JOIN personal p ON p.seq = r.seq
WHERE r.dialect = ? AND (r.mode = ? OR r.at BETWEEN ? AND ?)"""
Marks = set[tuple[str, bytes]]
"""Clients with digests of their records."""
Told = set[tuple[object, ...]]
"""What devices said of records whose bytes are gone."""

_TABLES = {"jobs": "r.pages", "accounting": "NULL"}


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. `waiting`: how many of the added go to the server."""

    added: int
    known: int
    conflicts: int
    waiting: int


def unknown_to(connection: sqlite3.Connection, found: Sequence[Recovered]) -> list[Recovered]:
    """Those that the ledger does not have, as far as can be read from it. Raises sqlite3.Error."""
    if not any(each.record.dialect == radius.DIALECT for each in found):
        return list(found)
    moments = [each.record.at for each in found]
    marks, told = _known(connection, min(moments) - AROUND, max(moments) + AROUND)
    return [each for each in found if each.record.dialect != radius.DIALECT or not _is_known(each, marks, told)]


def bring_in(state_dir: Path, records: Sequence[Record], progress: Callable[[str, int, int], None]) -> Imported:
    """Keep these records, through the appliance if it runs. Raises ClientError or Failed."""
    done = dict.fromkeys(("added", "known", "conflicts", "waiting"), 0)
    for start in range(0, len(records), MOST_RECOVERED):
        progress("importing", start, len(records))
        some: list[Any] = msgspec.to_builtins(records[start : start + MOST_RECOVERED])
        answer = change(state_dir, "ledger-recover", records=some)
        for name in done:
            done[name] += answer[name]
    return Imported(**done)


def _is_known(each: Recovered, marks: Marks, told: Told) -> bool:
    client, session, _, number, *_ = each.told
    if any((each.record.client, mark) in marks for mark in each.marks):
        return True
    return bool(session or number) and (client, *each.told[1:]) in told


def _known(
    connection: sqlite3.Connection, first: int, last: int
) -> tuple[set[tuple[str, bytes]], set[tuple[object, ...]]]:
    marks: Marks = set()
    told: Told = set()
    for row in _rows(connection, max(0, first), last):
        *said, ended, raw = row
        if raw:
            marks.update((said[0], digest) for digest in _digests(raw))
        else:
            told.add((*said, times.milliseconds(ended) if ended else None))
    return marks, told


def _rows(connection: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[Any, ...]]:
    for table, pages in _TABLES.items():
        query = _RECORDS.format(table=table, pages=pages)
        yield from connection.execute(query, (radius.DIALECT, Mode.RECOVERED, times.text(first), times.text(last)))


def _digests(raw: bytes) -> tuple[bytes, ...]:
    try:
        return repeat_digests(parse(raw))
    except ProtocolError:
        return ()
