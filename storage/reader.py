"""What the service rebuilds from the ledger at a start, and what status and App.Log show.

Works over a connection of `database.open_reader`, beside the writer. What status asks each second is cheap on a
million rows: the number of entries is the number of the last one, and the other totals are kept.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import msgspec

from storage import database, times
from storage.errors import in_our_words
from storage.records import Mode, OpenSession, OutageStep

_SESSIONS = """SELECT l.session, l.device, l.upstream, coalesce(p.card, ''), l.at, l.expires_at, l.mode,
EXISTS (SELECT 1 FROM logouts o WHERE o.session = l.session)
FROM logins l LEFT JOIN personal p ON p.seq = l.seq
WHERE l.session <> '' AND l.expires_at > ? AND l.outcome = 'granted' ORDER BY l.seq"""
_LAST_STEPS = """SELECT at, upstream, outage, step, state, cause, boot_id, boot_ms FROM outage_events
WHERE seq IN (SELECT max(seq) FROM outage_events GROUP BY upstream) ORDER BY seq"""
_LAST_OUTAGE = """SELECT upstream, started, offline, recovered, drained, first_seq, recovered_seq FROM outages
WHERE (offline IS NOT NULL OR recovered IS NULL) AND (?1 IS NULL OR upstream = ?1) ORDER BY first_seq DESC LIMIT 1"""
_LOGINS_WITHIN = """SELECT count(*) FROM logins
WHERE upstream = ? AND seq BETWEEN ? AND ? AND decided_by = 'locum' AND outcome = 'granted'"""
_JOBS_WITHIN = "SELECT count(*), coalesce(sum(pages), 0) FROM jobs WHERE upstream = ? AND seq BETWEEN ? AND ?"


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
    """A line of App.Log. `at` in ms."""

    seq: int
    at: int
    level: str
    text: str
    context: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Figures:
    """The ledger in figures: entries, jobs, last hash as "sha256:<hex>" ("" without entries), bytes on disk."""

    entries: int
    jobs: int
    head: str
    bytes: int


class Reader:
    """Reads an open ledger. Every method raises StorageError if the file fails."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @in_our_words
    def sessions(self, since: int) -> list[tuple[OpenSession, bool]]:
        """Sessions that Locum granted and that expire after `since` (ms), oldest first, and whether each has ended."""
        found = []
        for session, device, upstream, card, at, until, mode, ended in self._connection.execute(
            _SESSIONS, (times.text(since),)
        ):
            began, expires = times.milliseconds(at), times.milliseconds(until)
            found.append((OpenSession(session, device, upstream, card, began, expires, Mode(mode)), bool(ended)))
        return found

    @in_our_words
    def was_offline(self, step: OutageStep) -> bool:
        """Whether the outage of this step led offline."""
        row = self._connection.execute(
            "SELECT 1 FROM outage_events WHERE upstream = ? AND outage = ? AND step = 'offline' LIMIT 1",
            (step.upstream, times.text_or_none(step.outage)),
        ).fetchone()
        return row is not None

    @in_our_words
    def open_outages(self) -> dict[str, OutageStep]:
        """For each upstream that ever had one, the last step of its last outage."""
        rows = self._connection.execute(_LAST_STEPS)
        return {
            upstream: OutageStep(
                times.milliseconds(at), upstream, times.milliseconds(outage), step, state, cause, boot_id, boot_ms
            )
            for at, upstream, outage, step, state, cause, boot_id, boot_ms in rows
        }

    @in_our_words
    def last_outage(self, upstream: str | None = None) -> dict[str, str | int | None] | None:
        """The last outage that led offline or still runs, of one upstream or of any, as `locum status` has it.

        Keys: started, offline, recovered, drained (times as ISO 8601 text; None: not yet), logins granted by Locum,
        jobs, pages, and unknown_cards, which is None as nothing counts them yet.
        """
        row = self._connection.execute(_LAST_OUTAGE, (upstream,)).fetchone()
        if row is None:
            return None
        name, started, offline, recovered, drained, first, last = row
        within = (name, first, last if last is not None else 1 << 62)
        logins = self._connection.execute(_LOGINS_WITHIN, within).fetchone()[0]
        jobs, pages = self._connection.execute(_JOBS_WITHIN, within).fetchone()
        return {
            "started": started,
            "offline": offline,
            "recovered": recovered,
            "drained": drained,
            "logins": logins,
            "jobs": jobs,
            "pages": pages,
            "unknown_cards": None,
        }

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
        columns = "SELECT seq, at, level, text, context FROM app_log"
        if after_seq is None:
            rows = self._connection.execute(f"{columns} ORDER BY seq DESC LIMIT ?", (limit,)).fetchall()[::-1]
        else:
            rows = self._connection.execute(
                f"{columns} WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
            ).fetchall()
        return [
            AppLogRow(seq, times.milliseconds(at), level, text, msgspec.json.decode(context, type=dict[str, str | int]))
            for seq, at, level, text, context in rows
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
