"""What the service rebuilds from the ledger at a start, and what status and App.Log show.

Works over a connection of `database.open_reader`, beside the writer. What status asks each second is cheap on a
million rows: the number of entries is the number of the last one, and the other totals are kept.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import msgspec

from storage import database, outages, times
from storage.answers import OpenSession, Overrun
from storage.cards import normalised
from storage.errors import in_our_words
from storage.records import DrillStep, Mode, OutageStep, UnlockStep

_SESSIONS = """SELECT l.session, l.device, l.upstream, coalesce(p.card, ''), coalesce(p.user, ''), l.at,
l.expires_at, l.mode, EXISTS (SELECT 1 FROM logouts o WHERE o.session = l.session)
FROM logins l LEFT JOIN personal p ON p.seq = l.seq
WHERE l.session <> '' AND l.expires_at > ? AND l.outcome = 'granted' ORDER BY l.seq"""
_STEPS = "SELECT at, upstream, outage, step, state, cause, boot_id, boot_ms FROM outage_events"
_LAST_STEPS = f"{_STEPS} WHERE seq IN (SELECT max(seq) FROM outage_events GROUP BY upstream) ORDER BY seq"
_LEFT_OFFLINE = f"""{_STEPS} WHERE upstream = ?1 AND seq >
(SELECT max(seq) FROM outage_events WHERE upstream = ?1 AND outage = ?2 AND step = 'offline') ORDER BY seq LIMIT 1"""
_LOGINS_WITHIN = """SELECT count(*) FROM logins
WHERE upstream = ? AND seq BETWEEN ? AND ? AND decided_by = 'locum' AND outcome = 'granted'"""
_UNKNOWN_WITHIN = """SELECT DISTINCT p.card FROM deliveries d JOIN personal p ON p.seq = d.record
WHERE d.unknown_card = 1 AND d.upstream = ? AND d.record BETWEEN ? AND ? AND p.card <> ''"""
_OUTAGE_BEGAN = "SELECT min(seq) FROM outage_events WHERE upstream = ? AND outage = ?"
_GRANTED = "seq > ?1 AND upstream = ?2 AND decided_by = 'locum' AND outcome = 'granted' AND mode = 'offline'"
_SESSIONS_OF_CARDS = f"""SELECT coalesce(p.card, ''), count(*) FROM
(SELECT seq FROM logins WHERE {_GRANTED}) l LEFT JOIN personal p ON p.seq = l.seq GROUP BY 1"""
# Where logins and records go to two upstreams, a job's device tells that its session was let in by the first.
_PAGES_OF_CARDS = f"""SELECT coalesce(p.card, ''), sum(max(j.pages, 0))
FROM jobs j LEFT JOIN personal p ON p.seq = j.seq WHERE j.seq > ?1 AND j.mode = 'offline'
AND (j.upstream = ?2 OR j.device IN (SELECT device FROM logins WHERE {_GRANTED}))
GROUP BY 1"""
_JOBS_WITHIN = "SELECT count(*), coalesce(sum(pages), 0) FROM jobs WHERE upstream = ? AND seq BETWEEN ? AND ?"
_TRAPS_WAITING = """SELECT t.seq, t.at, t.client, t.version, t.kind, p.raw FROM traps t JOIN personal p ON p.seq = t.seq
WHERE NOT EXISTS (SELECT 1 FROM trap_forwards f WHERE f.trap = t.seq) ORDER BY t.seq LIMIT ?"""


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device that was heard. Times in ms."""

    device: str
    client: str
    dialect: str
    upstream: str
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class AppLogRow:
    """A line of App.Log. `at` in ms; `card`: the card it speaks of, "" none."""

    seq: int
    at: int
    level: str
    text: str
    context: dict[str, str | int]
    card: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """The ledger in figures: entries, jobs, last hash as "sha256:<hex>" ("" without entries), bytes on disk."""

    entries: int
    jobs: int
    head: str
    bytes: int


_context = msgspec.json.Decoder(dict[str, str | int]).decode


class Reader:
    """Reads an open ledger. Every method raises StorageError if the file fails."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @in_our_words
    def sessions(self, since: int) -> list[tuple[OpenSession, bool]]:
        """Sessions with a mark that expire after `since` (ms), oldest first, and whether each has ended: those that
        Locum granted, and the server's where their mark and end are known.
        """
        found = []
        for session, device, upstream, card, user, at, until, mode, ended in self._connection.execute(
            _SESSIONS, (times.text(since),)
        ):
            began, expires = times.milliseconds(at), times.milliseconds(until)
            named = user if mode == Mode.ONLINE else ""
            found.append((OpenSession(session, device, upstream, card, began, expires, Mode(mode), named), bool(ended)))
        return found

    @in_our_words
    def open_outages(self) -> dict[str, OutageStep]:
        """For each upstream that ever had one, the last step of its last outage."""
        return {step.upstream: step for step in map(_step, self._connection.execute(_LAST_STEPS))}

    @in_our_words
    def left_offline(self, upstream: str, outage: int) -> OutageStep | None:
        """The step by which an outage last left offline; None if it never did, or is offline still. `outage` is its
        name, the time (ms) of its first failed contact.
        """
        row = self._connection.execute(_LEFT_OFFLINE, (upstream, times.text(outage))).fetchone()
        return _step(row) if row is not None else None

    @in_our_words
    def last_outage(self, upstream: str | None = None) -> dict[str, str | int | None] | None:
        """The last outage that led offline or still runs, of one upstream or of any, as `locum status` has it.

        Keys: started, offline, recovered, drained (times as ISO 8601 text; None: not yet), logins granted by Locum,
        jobs, pages, and unknown_cards: how many different cards among its records nobody has, as far as they were
        forwarded; then how many of its records are waiting, sent, in_doubt, rejected, and were dropped by hand.
        `drained`: when the last record was taken or decided by a person; None while one waits, is sent or is in doubt.
        """
        last = outages.last(self._connection, upstream)
        if last is None:
            return None
        within = (last.upstream, last.first, last.last)
        left = outages.left(self._connection, last)
        drained = None if left.open or last.drained is None else max(last.drained, left.decided or "")
        logins = self._connection.execute(_LOGINS_WITHIN, within).fetchone()[0]
        jobs, pages = self._connection.execute(_JOBS_WITHIN, within).fetchone()
        unknown = {normalised(card) for (card,) in self._connection.execute(_UNKNOWN_WITHIN, within)}
        return {
            "started": last.started,
            "offline": last.offline,
            "recovered": last.recovered,
            "drained": drained,
            "logins": logins,
            "jobs": jobs,
            "pages": pages,
            "unknown_cards": len(unknown),
            "waiting": left.waiting,
            "sent": left.sent,
            "in_doubt": left.in_doubt,
            "rejected": left.rejected,
            "dropped": left.dropped,
        }

    @in_our_words
    def overruns(self, upstream: str, outage: int) -> list[Overrun]:
        """What each card has used offline since an outage of an upstream began: pages of jobs, sessions granted by
        Locum. `outage` is its name, the time (ms) of its first failed contact; cards as `cards.normalised` has them.
        """
        began = self._connection.execute(_OUTAGE_BEGAN, (upstream, times.text(outage))).fetchone()[0]
        if began is None:
            return []
        used: dict[str, list[int]] = {}
        for place, query in enumerate((_PAGES_OF_CARDS, _SESSIONS_OF_CARDS)):
            for card, number in self._connection.execute(query, (began, upstream)):
                used.setdefault(normalised(card), [0, 0])[place] += number
        return [Overrun(card, pages, sessions) for card, (pages, sessions) in used.items()]

    @in_our_words
    def unlock_history(self, since: int) -> list[UnlockStep]:
        """Tries to unlock and what became of unlocks, from `since` (ms) on, in order."""
        rows = self._connection.execute(
            "SELECT at, device, upstream, outcome, scope, reason, who FROM unlocks WHERE at >= ? ORDER BY seq",
            (times.text(since),),
        )
        return [UnlockStep(times.milliseconds(at), *others) for at, *others in rows]

    @in_our_words
    def drill_history(self, since: int) -> list[DrillStep]:
        """Beginnings and ends of drills, from `since` (ms) on, in order."""
        rows = self._connection.execute(
            "SELECT at, device, did, until, reason, who FROM drills WHERE at >= ? ORDER BY seq", (times.text(since),)
        )
        return [
            DrillStep(times.milliseconds(at), device, did, times.milliseconds_or_zero(until), reason, who)
            for at, device, did, until, reason, who in rows
        ]

    @in_our_words
    def online_users(self, latest: int = 20_000) -> dict[str, str]:
        """Who the server last let in on each device, card or name, as far as the latest logins tell."""
        rows = self._connection.execute(
            """SELECT l.device, coalesce(nullif(p.card, ''), p.user) FROM logins l JOIN personal p ON p.seq = l.seq
            WHERE l.seq > (SELECT coalesce(max(seq), 0) - ? FROM entries) AND l.decided_by = 'server'
            AND l.outcome = 'granted' ORDER BY l.seq""",
            (latest,),
        )
        return dict(rows.fetchall())

    def memory(self, key: str) -> str | None:
        """A fact that was to be remembered."""
        row = self._connection.execute("SELECT value FROM memory WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    @in_our_words
    def memories(self, prefix: str) -> list[str]:
        """What follows `prefix` in the keys of the facts that begin with it."""
        rows = self._connection.execute("SELECT key FROM memory WHERE key >= ? ORDER BY key", (prefix,))
        found = []
        for (key,) in rows:
            if not key.startswith(prefix):
                break
            found.append(key.removeprefix(prefix))
        return found

    @in_our_words
    def devices(self) -> list[KnownDevice]:
        """All devices that were heard, by name."""
        rows = self._connection.execute(
            "SELECT device, client, dialect, upstream, first_seen, last_seen FROM devices ORDER BY device"
        )
        return [
            KnownDevice(device, client, dialect, upstream, times.milliseconds(first), times.milliseconds(last))
            for device, client, dialect, upstream, first, last in rows
        ]

    @in_our_words
    def app_log(self, after_seq: int | None = None, limit: int = 100) -> list[AppLogRow]:
        """Up to `limit` lines in order: those after an entry, or with None the last ones."""
        columns = (
            "SELECT l.seq, l.at, l.level, l.text, l.context, coalesce(p.card, '') "
            "FROM app_log l LEFT JOIN personal p ON p.seq = l.seq"
        )
        if after_seq is None:
            rows = self._connection.execute(f"{columns} ORDER BY l.seq DESC LIMIT ?", (limit,)).fetchall()[::-1]
        else:
            rows = self._connection.execute(
                f"{columns} WHERE l.seq > ? ORDER BY l.seq LIMIT ?", (after_seq, limit)
            ).fetchall()
        return [
            AppLogRow(seq, times.milliseconds(at), level, text, _context(context), card)
            for seq, at, level, text, context, card in rows
        ]

    @in_our_words
    def figures(self) -> Figures:
        """Entries, jobs, head and size; cheap at any length."""
        last = self._connection.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        jobs = self._connection.execute("SELECT value FROM totals WHERE name = 'jobs'").fetchone()
        entries, head = (last[0], f"sha256:{last[1].hex()}") if last else (0, "")
        return Figures(entries, jobs[0] if jobs else 0, head, database.bytes_on_disk(self._path))

    @in_our_words
    def last_entry_at(self) -> int | None:
        """When (ms) the last entry was recorded."""
        row = self._connection.execute("SELECT recorded_at FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        return times.milliseconds(row[0]) if row else None

    @in_our_words
    def traps_waiting(self, most: int) -> list[tuple[int, int, str, str, str, bytes]]:
        """Up to `most` traps that were not forwarded, in order: seq, when (ms), client, version, kind, bytes."""
        rows = self._connection.execute(_TRAPS_WAITING, (most,))
        return [
            (seq, times.milliseconds(at), client, version, kind, raw) for seq, at, client, version, kind, raw in rows
        ]

    @in_our_words
    def hash_of(self, seq: int) -> bytes | None:
        """The hash of an entry, 32 bytes; None if there is no such entry."""
        row = self._connection.execute("SELECT hash FROM entries WHERE seq = ?", (seq,)).fetchone()
        return row[0] if row else None


def _step(row: tuple[str, str, str, str, str, str, str, int]) -> OutageStep:
    at, upstream, outage, step, state, cause, boot_id, boot_ms = row
    began = times.milliseconds(outage)
    return OutageStep(times.milliseconds(at), upstream, began, step, state, cause, boot_id, boot_ms)
