"""Building anew, from the entries, what a damaged ledger has lost beside them: plain rows, and the outbox.

A plain row says what its entry says, so it can be written again. The outbox follows from the records and their
deliveries: a record is in it until a delivery says that it has left (`verifying.outstanding` holds the one against the
other). What the evidence does not say is whether a record was on its way at that moment. So one that waited comes back
as sent: the next start finds it in flight and does with it what it does after a power cut, by what its server can
recognise. A row whose entry is gone can never be sent; it is named and taken out.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from storage import entries, proof, schema
from storage.records import OutboxState

_MOST_STRETCHES = 40
_PERSONAL = ("card", "user", "document", "account")

_UNWRITTEN = """SELECT seq, id, recorded_at, body, prev_hash, hash FROM entries
WHERE kind = ? AND NOT EXISTS (SELECT 1 FROM {0} WHERE {0}.seq = entries.seq)"""

_RECORDS = """(SELECT seq, upstream, dialect, device, session, mode, at, pages FROM jobs
UNION ALL SELECT seq, upstream, dialect, device, session, mode, at, NULL FROM accounting)"""
_SORT = "r.upstream, r.dialect, r.pages IS NULL, coalesce(r.pages, 1) > 0"
_NOT_TAKEN = f"""SELECT {_SORT} FROM {_RECORDS} r JOIN deliveries d ON d.record = r.seq
WHERE d.outcome = 'not-forwardable'
EXCEPT SELECT {_SORT} FROM {_RECORDS} r JOIN deliveries d ON d.record = r.seq WHERE d.outcome <> 'not-forwardable'
EXCEPT SELECT {_SORT} FROM {_RECORDS} r JOIN outbox o ON o.seq = r.seq"""
# https://www.sqlite.org/lang_select.html#bareagg: with one max() the other columns are those of its row.
_OUTSTANDING = f"""SELECT r.seq, r.upstream, r.dialect, r.device, r.session, r.mode, r.at, {_SORT},
coalesce(p.card, ''), coalesce(p.user, ''), f.last, f.at, f.outcome, f.state, f.tries, f.answer
FROM {_RECORDS} r JOIN entries e ON e.seq = r.seq LEFT JOIN personal p ON p.seq = r.seq LEFT JOIN
(SELECT record, max(seq) AS last, total(state IS NULL) AS gone, at, outcome, state, tries, answer
FROM deliveries GROUP BY record) f ON f.record = r.seq
WHERE coalesce(f.gone, 0) = 0 AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.seq = r.seq) ORDER BY r.seq"""
_RETRIES = """SELECT n.seq, n.data, p.card, p.user, p.document, p.account FROM notes n
LEFT JOIN personal p ON p.seq = n.seq WHERE n.note = 'by-hand' ORDER BY n.seq"""
_BY_PERSON = """SELECT substr(key, 7) FROM memory WHERE key LIKE 'claim:%'
UNION SELECT upstream FROM outbox WHERE order_key LIKE 'user|%' OR order_key LIKE 'card|%'"""
_INSERT = """INSERT INTO outbox (seq, upstream, state, dialect, device, order_key, mode, at, tries, first_try, reason,
corrections) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_NO_ENTRY = "NOT EXISTS (SELECT 1 FROM entries e WHERE e.seq = outbox.seq AND e.kind IN ('job', 'accounting'))"
_UNTRUE = f"""DELETE FROM outbox WHERE seq IN (SELECT record FROM deliveries WHERE state IS NULL) OR EXISTS
(SELECT 1 FROM {_RECORDS} r WHERE r.seq = outbox.seq AND (r.upstream, r.dialect, r.device, r.at)
IS NOT (outbox.upstream, outbox.dialect, outbox.device, outbox.at))"""
_NO_PERSON = """SELECT o.seq FROM outbox o JOIN entries e ON e.seq = o.seq
WHERE CASE WHEN json_valid(e.body) THEN json_extract(e.body, '$.data.personal') END IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM personal p WHERE p.seq = o.seq) ORDER BY o.seq"""
_GAPS = """SELECT before + 1, seq - 1 FROM (SELECT seq, lag(seq, 1, ?) OVER (ORDER BY seq) AS before FROM entries)
WHERE seq > before + 1 ORDER BY seq"""


class _Data(dict[str, Any]):
    """An entry's data, in which a member that its version had not is NULL."""

    def __missing__(self, key: str) -> None:
        return None


@dataclass(slots=True)
class _Retried:
    """What notes say of records that somebody let be tried again: the last such note, and what they are corrected to.

    `unnamed`: the last note that does not name all of its records; `forgotten`: records some of whose corrections
    cannot be read.
    """

    last: dict[int, int] = field(default_factory=dict)
    corrections: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    unnamed: int = 0
    forgotten: set[int] = field(default_factory=set)

    def since(self, seq: int, delivery: int) -> bool:
        """Whether the record may have been let go again after this delivery."""
        return max(self.last.get(seq, 0), self.unnamed) > delivery


def plain_rows(target: sqlite3.Connection, table: str) -> int:
    """Write the rows that a plain table lacks anew, from entries that fit their hash; how many.

    Raises sqlite3.Error.
    """
    plain = next((each for each in entries.PLAIN if each.table == table), None)
    if plain is None:
        return 0
    values = ", ".join(("?", "?", "?", *plain.expressions))
    insert = f"INSERT OR IGNORE INTO {table} (seq, id, at, {', '.join(plain.columns)}) VALUES ({values})"
    written = 0
    for seq, identifier, at, body, before, own in target.execute(_UNWRITTEN.format(table), (plain.kind,)):
        data = _data(body) if proof.entry_hash(before, body.encode()) == own else None
        if data is not None:
            written += target.execute(insert, (seq, identifier, at, *plain.pick(data))).rowcount
    return written


def _data(body: str) -> _Data | None:
    try:
        return _Data(msgspec.json.decode(body, type=dict[str, Any])["data"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return None


def outbox(target: sqlite3.Connection) -> tuple[int, list[str]]:
    """Give every record that is outstanding and not in the outbox its row again: how many, and lines about what cannot
    be known of them. Raises sqlite3.Error.
    """
    not_taken = set(target.execute(_NOT_TAKEN))
    by_person = {name for (name,) in target.execute(_BY_PERSON)}
    retried = _retried(target)
    found, from_capture, forgotten = [], [], []
    for row in target.execute(_OUTSTANDING).fetchall():
        seq, upstream, dialect, device, session, mode, at, *sort, card, user, last, tried_at = row[:15]
        outcome, state, tries, answer = row[15:]
        if last is None and tuple(sort) in not_taken:
            continue
        if last is None and mode == "recovered":
            from_capture.append(seq)
            continue
        again = outcome == "resolved-resend"
        if state == OutboxState.REJECTED and retried.since(seq, last):
            state, again = OutboxState.SENT, True
        elif state not in (OutboxState.REJECTED, OutboxState.IN_DOUBT):
            state = OutboxState.SENT
        tries = 0 if again else tries or 0
        told = retried.corrections.get(seq)
        corrections = proof.canonical(told).decode() if told else ""
        key = _order_key(device, session, card, user) if upstream in by_person else f"{device}|{session}"
        first = tried_at if tries else None
        words = "" if again else answer or ""
        place = (seq, upstream, str(state), dialect, device, key, mode, at, tries, first, words, corrections)
        found.append(place)
        if seq in retried.forgotten:
            forgotten.append(seq)
    target.executemany(_INSERT, found)
    return len(found), [*_of_captures(from_capture), *_without_corrections(forgotten)]


def _order_key(device: str, session: str, card: str, user: str) -> str:
    """For a server that is told of persons: theirs go one after the other."""
    if user:
        return f"user|{user.casefold()}"
    return f"card|{card.upper()}" if card else f"{device}|{session}"


def _retried(target: sqlite3.Connection) -> _Retried:
    found = _Retried()
    for note, text, *personal in target.execute(_RETRIES):
        data = _said(text)
        if data.get("did") != "outbox retry":
            continue
        named = [int(seq) for seq in str(data.get("records", "")).split() if seq.isdecimal()]
        if data.get("count") != len(named):
            found.unnamed = note
        told: dict[str, str] = {}
        values = dict(zip(_PERSONAL, personal, strict=True))
        corrected = str(data.get("corrected", "")).split()
        for name in corrected:
            value = values[name] if name in _PERSONAL else data.get(f"corrected_{name}")
            if value is not None:
                told[name] = value
        for seq in named:
            found.last[seq] = note
            found.corrections[seq] |= told
            if len(told) < len(corrected):
                found.forgotten.add(seq)
    return found


def _said(text: str) -> dict[str, Any]:
    """The data of a note; nothing if damage has made it something else."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _of_captures(seqs: list[int]) -> Iterator[str]:
    if seqs:
        yield (
            f"{records(len(seqs))} from a capture may have waited, which nothing else says; if so, enter them at the "
            f"server by hand: {stretches(seqs)}"
        )


def _without_corrections(seqs: list[int]) -> Iterator[str]:
    if seqs:
        named = stretches(seqs)
        yield f"{records(len(seqs))} in the outbox had corrections that cannot be read; give them again: {named}"


def untrue(target: sqlite3.Connection) -> int:
    """Take the rows out of the outbox that are not of their record, or whose record has left it; how many.

    Damage may give a row another's number. Raises sqlite3.Error.
    """
    return target.execute(_UNTRUE).rowcount


def without_entry(target: sqlite3.Connection) -> list[str]:
    """Take the rows out of the outbox whose entry is gone; lines that name them. Raises sqlite3.Error."""
    lost: dict[tuple[str, str], list[int]] = defaultdict(list)
    for seq, upstream, state in target.execute(f"SELECT seq, upstream, state FROM outbox WHERE {_NO_ENTRY}"):
        lost[upstream, state].append(seq)
    target.execute(f"DELETE FROM outbox WHERE {_NO_ENTRY}")
    return [
        f"{records(len(seqs))} in the outbox of '{upstream}' ({state}) lost the entry, cannot be sent any more and "
        f"{'is' if len(seqs) == 1 else 'are'} taken out: {stretches(sorted(seqs))}"
        for (upstream, state), seqs in sorted(lost.items())
    ]


def without_bytes(target: sqlite3.Connection) -> list[str]:
    """A line that names the records in the outbox whose personal data, and the device's own bytes with it, are gone.

    Raises sqlite3.Error.
    """
    seqs = [seq for (seq,) in target.execute(_NO_PERSON)]
    if not seqs:
        return []
    return [
        f"{records(len(seqs))} in the outbox lost card, user, document and the device's own bytes; a server that is "
        f"sent these will not get them: {stretches(seqs)}"
    ]


def perhaps_waiting(target: sqlite3.Connection) -> list[str]:
    """A line about the entries that are missing, and may have been records that waited: for an outbox that could not
    be read. Raises sqlite3.Error.
    """
    tables = [table for table in schema.EVIDENCE if table != "checkpoints"]
    ends = [target.execute(f"SELECT min(seq), max(seq) FROM {table}").fetchone() for table in tables]
    ends.append(target.execute("SELECT NULL, max(seq) FROM checkpoints").fetchone())
    first = min((low for low, _ in ends if low is not None), default=1)
    last = max((high for _, high in ends if high is not None), default=0)
    end = target.execute("SELECT max(seq) FROM entries").fetchone()[0] or first - 1
    gaps = [*target.execute(_GAPS, (first - 1,)), (end + 1, last)]
    missing = {seq for low, high in gaps for seq in range(low, high + 1)}
    if missing:
        missing.difference_update(seq for (seq,) in target.execute("SELECT record FROM deliveries WHERE state IS NULL"))
    others = [plain.table for plain in entries.PLAIN if plain not in (entries.JOB, entries.ACCOUNTING)]
    for table in others if missing else []:
        missing.difference_update(seq for (seq,) in target.execute(f"SELECT seq FROM {table}"))
    if not missing:
        return []
    many = "entry is" if len(missing) == 1 else "entries are"
    return [
        f"{len(missing)} {many} gone that may have been of records that waited; compare the server's book with the "
        f"devices': {stretches(sorted(missing))}"
    ]


def stretches(seqs: Iterable[int]) -> str:
    """Ascending numbers as words: `3 to 7, 9`; those after the 40th stretch are counted only."""
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    named = [str(low) if low == high else f"{low} to {high}" for low, high in found[:_MOST_STRETCHES]]
    more = sum(high - low + 1 for low, high in found[_MOST_STRETCHES:])
    return ", ".join(named) + (f" and {more} more" if more else "")


def records(number: int) -> str:
    """So many records, in words."""
    return "1 record" if number == 1 else f"{number} records"
