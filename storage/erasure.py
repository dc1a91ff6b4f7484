"""Erasure: which rows of `personal` lead from a card, or from a time long past, to a person; and their deletion.

The entries stay and the chain holds: a body has a salted commitment to what is deleted, and nothing leads back. How
many rows went is noted in an entry, so that a row which is missing without a note is found. Nothing is deleted of
records in the outbox: the server must be told whose they are. SQLite overwrites what is deleted (`secure_delete`); the
ledger empties the WAL afterwards. What may be left in the file all the same is found by `remnants.py`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from storage import proof, times
from storage.cards import normalised
from storage.records import EraseOld

CLOCK_JUMP = 3 * 24 * 3_600_000
"""By so many ms the clock may go forward without being mistrusted: a weekend without power."""
CLOCK_TRUSTED_AFTER = 24 * 3_600_000
"""So long a person has to set a wrong clock right, before anything is erased by it; ms."""

_RADIUS_HEAD = 2
_LONGEST_ATTRIBUTE = 255
_NEWER_IN_A_ROW = 100
_START_TAKES = 60_000
_LISTED = "(SELECT value FROM json_each(?))"
_MAYBE_OF_CARD = """SELECT seq, card, user FROM personal
WHERE card = :card COLLATE NOCASE OR user = :card COLLATE NOCASE OR card GLOB '*[^ -~]*' OR user GLOB '*[^ -~]*'"""
_CORRECTIONS = """SELECT n.seq, n.data FROM notes n JOIN personal p ON p.seq = n.seq WHERE n.note = 'by-hand'"""
_QUARANTINED = """SELECT seq, raw FROM personal
WHERE seq IN (SELECT seq FROM quarantine UNION ALL SELECT seq FROM traps)"""
_DELIVERIES = f"""SELECT d.seq FROM deliveries d JOIN personal p ON p.seq = d.seq
WHERE d.record IN {_LISTED}"""
_IN_TIME = """SELECT p.seq, e.recorded_at FROM personal p JOIN entries e ON e.seq = p.seq
WHERE p.seq >= ? AND p.seq < ? AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.seq = p.seq) ORDER BY p.seq"""
_UNNOTED = """SELECT count(*) FROM quarantine q JOIN entries e ON e.seq = q.seq
WHERE q.seq <= ? AND json_extract(e.body, '$.data.personal') IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM personal p WHERE p.seq = q.seq)
AND NOT EXISTS (SELECT 1 FROM notes WHERE note = 'erased')"""

Asked = sqlite3.Connection | sqlite3.Cursor


@dataclass(frozen=True, slots=True)
class OfCard:
    """The entries, by seq and in order, whose personal data leads from a card to a person; `waiting`: how many of them
    are records in the outbox; `remembered`: the card has a row in the card memory.
    """

    seqs: tuple[int, ...]
    waiting: int
    remembered: bool


def of_card(ledger: Asked, card: str) -> OfCard:
    """All that leads from a card to a person: what was read with it, or with it as the user; the deliveries and the
    corrections by hand of these records; lines of App.Log about it; quarantined bytes and traps in which it stands.

    The card is known as it is remembered: letters of any case, leading zeros count. Raises ValueError for no card, and
    sqlite3.Error.
    """
    key = _key(card)
    found = {
        seq
        for seq, read, user in ledger.execute(_MAYBE_OF_CARD, {"card": key})
        if key in (normalised(read), normalised(user))
    }
    found |= _corrections_of(ledger, found)
    found |= {seq for (seq,) in ledger.execute(_DELIVERIES, (_listed(found),))}
    found |= _quarantined_with(ledger, card)
    waiting = ledger.execute(f"SELECT count(*) FROM outbox WHERE seq IN {_LISTED}", (_listed(found),)).fetchone()[0]
    remembered = ledger.execute("SELECT 1 FROM cards WHERE card = ?", (key,)).fetchone() is not None
    return OfCard(tuple(sorted(found)), waiting, remembered)


def names(text: bytes, card: str) -> bool:
    """Whether the card stands in a text, not as a part of a longer run of ASCII letters and digits, or is the whole
    value of a RADIUS attribute in it; letters of any case. Raises ValueError for no card.
    """
    return _pattern(card).search(text) is not None


def forget_card(cursor: sqlite3.Cursor, card: str) -> bool:
    """Delete the card from the card memory; whether it was there. Raises sqlite3.Error."""
    return cursor.execute("DELETE FROM cards WHERE card = ?", (_key(card),)).rowcount > 0


def forget_old_cards(cursor: sqlite3.Cursor, before: int, limit: int) -> bool:
    """Delete up to `limit` cards on which the server gave no word since `before` (ms); whether there were any.

    Raises sqlite3.Error.
    """
    which = "SELECT card FROM cards WHERE last_word_at < ? LIMIT ?"
    return cursor.execute(f"DELETE FROM cards WHERE card IN ({which})", (times.text(before), limit)).rowcount > 0


def erase(cursor: sqlite3.Cursor, seqs: Sequence[int]) -> int:
    """Delete the personal rows of these entries; how many there were. Raises sqlite3.Error."""
    return cursor.execute(f"DELETE FROM personal WHERE seq IN {_LISTED}", (_listed(seqs),)).rowcount


def erase_quarantined(cursor: sqlite3.Cursor, after: int, last: int) -> int:
    """Delete the bytes of the quarantined records with a seq above `after` and up to `last`; how many entries are to be
    noted: with them those that an older Locum, which noted none, has deleted. Raises sqlite3.Error.
    """
    unnoted: int = cursor.execute(_UNNOTED, (last,)).fetchone()[0]
    gone = "DELETE FROM personal WHERE seq IN (SELECT seq FROM quarantine WHERE seq > ? AND seq <= ?)"
    return unnoted + cursor.execute(gone, (after, last)).rowcount


def clock_jump(ledger: Asked, at: int) -> int:
    """By how many ms the clock went forward, at once or from one run of Locum's to the next, within the day before
    `at`; 0 for no more than `CLOCK_JUMP`. Raises sqlite3.Error.
    """
    day = times.text(at - CLOCK_TRUSTED_AFTER), times.text(at)
    query = "SELECT seq, at, note, data FROM notes WHERE at BETWEEN ? AND ? AND note IN ('start', 'clock-step')"
    return max((_jump(ledger, *row) for row in ledger.execute(query, day).fetchall()), default=0)


def older(ledger: Asked, item: EraseOld) -> list[int]:
    """Up to `limit` entries, by seq, that have personal data and were recorded before `before`, records in the outbox
    left out. A time before an earlier start or step of the clock is of a clock that ran behind: the later one counts.

    From one start or step to the next, times rise: so each such stretch is read up to its first newer entries only.
    Raises sqlite3.Error.
    """
    before = times.text(item.before)
    found: list[int] = []
    for first, end, known in _stretches(ledger, times.text(item.at)):
        newer = 0
        for seq, recorded in ledger.execute(_IN_TIME, (first, end)):
            if max(recorded, known) < before:
                found.append(seq)
                newer = 0
            else:
                newer += 1
            if newer == _NEWER_IN_A_ROW or len(found) == item.limit:
                break
        if len(found) == item.limit:
            break
    return found


def _key(card: str) -> str:
    if not card:
        raise ValueError("no card number was given")
    return normalised(proof.clean(card))


def _listed(seqs: Iterable[int]) -> bytes:
    return msgspec.json.encode(sorted(seqs))


def _pattern(card: str) -> re.Pattern[bytes]:
    encoded = proof.clean(card).encode()
    if not encoded:
        raise ValueError("no card number was given")
    number = re.escape(encoded)
    whole = rb"(?<![0-9A-Za-z])%b(?![0-9A-Za-z])" % number
    length = len(encoded) + _RADIUS_HEAD
    if length > _LONGEST_ATTRIBUTE:
        return re.compile(whole, re.IGNORECASE)
    return re.compile(rb"%b|(?<=%b)%b" % (whole, re.escape(bytes([length])), number), re.IGNORECASE)


def _corrections_of(ledger: Asked, records: set[int]) -> set[int]:
    found = set()
    for seq, data in ledger.execute(_CORRECTIONS):
        told = msgspec.json.decode(data).get("records", "")
        if not records.isdisjoint(int(number) for number in str(told).split() if number.isdecimal()):
            found.add(seq)
    return found


def _quarantined_with(ledger: Asked, card: str) -> set[int]:
    search = _pattern(card).search
    return {seq for seq, raw in ledger.execute(_QUARANTINED) if search(raw)}


def _jump(ledger: Asked, seq: int, at: str, note: str, data: str) -> int:
    if note == "clock-step":
        jump = msgspec.json.decode(data).get("milliseconds", 0)
    else:
        # What a start writes before its note is of this run too.
        ended = times.text(times.milliseconds(at) - _START_TAKES)
        query = "SELECT recorded_at FROM entries WHERE seq < ? AND recorded_at < ? ORDER BY seq DESC LIMIT 1"
        row = ledger.execute(query, (seq, ended)).fetchone()
        jump = times.milliseconds(at) - times.milliseconds(row[0]) if row else 0
    return jump if jump > CLOCK_JUMP else 0


def _stretches(ledger: Asked, now: str) -> Iterator[tuple[int, int, str]]:
    """First seq, end, and the time before which none of its entries can have been recorded, of each stretch between
    starts and steps of the clock.
    """
    query = "SELECT seq, at FROM notes WHERE note IN ('start', 'clock-step') ORDER BY seq"
    known = ""
    for (first, at), (end, _) in pairwise([(0, ""), *ledger.execute(query).fetchall(), (proof.SAFE, "")]):
        if known < at <= now:
            known = at
        yield first, end, known
