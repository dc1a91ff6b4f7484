"""What a summary is about, and the copy of the ledger made ready for it.

The jobs of the period are written once into a table of the copy, with the local day and with the person, so that each
question reads them alone. Rows of one job that a device reported twice are left out by the view `jobs_counted`. What
became of each record is gathered in the same way: whom the server named, and whether it took it. The copy is thrown
away afterwards; a ledger in use is never written to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from storage import times
from storage.cards import normalised
from storage.copies import said_by
from storage.export.pseudonyms import Pseudonyms

DEFAULT_DAYS = 30
DELIVERED = "('delivered', 'resolved-sent')"
GIVEN_UP = "('dropped', 'not-forwardable')"

_NO_PERSONS = "(SELECT 0 AS seq, '' AS card, '' AS user, '' AS document, '' AS account WHERE false)"
_JOBS = """CREATE TABLE report_jobs (seq INTEGER PRIMARY KEY, day TEXT, device TEXT, upstream TEXT, mode TEXT,
kind TEXT, pages INTEGER, color_pages INTEGER, card TEXT, user TEXT)"""
_FATES = """CREATE TABLE report_fates (record INTEGER PRIMARY KEY, user TEXT, unknown INTEGER, delivered INTEGER,
given_up INTEGER, maybe_twice INTEGER)"""
_GATHER = """INSERT INTO report_fates SELECT d.record, coalesce(p.user, ''), coalesce(d.unknown_card, 0),
d.outcome IN {delivered}, d.outcome IN {given_up}, d.maybe_twice
FROM deliveries d LEFT JOIN {persons} p ON p.seq = d.seq WHERE d.record BETWEEN ? AND ? ORDER BY d.seq
ON CONFLICT (record) DO UPDATE SET user = CASE WHEN excluded.user <> '' THEN excluded.user ELSE user END,
unknown = max(unknown, excluded.unknown), delivered = max(delivered, excluded.delivered),
given_up = max(given_up, excluded.given_up), maybe_twice = max(maybe_twice, excluded.maybe_twice)"""


@dataclass(frozen=True, slots=True)
class Scope:
    """`first` and `last`: ms, both inclusive. `devices`: only these; empty: all. Days are those of `zone`."""

    first: int
    last: int
    zone: ZoneInfo
    devices: tuple[str, ...] = ()

    def local(self, at: int) -> datetime:
        """A time (ms) as a clock in the zone shows it."""
        return datetime.fromtimestamp(at / 1000, self.zone)

    def days(self) -> list[date]:
        """Every day of the period, in order."""
        begin, end = self.local(self.first).date(), self.local(self.last).date()
        return [begin + timedelta(days=place) for place in range((end - begin).days + 1)]


class Source:
    """A private copy of a ledger, or of an export, that is prepared for a scope. `persons`: where names and cards are.

    `pseudonyms`: people are told by these, None: as the copy names them. `about_copy`: what a copy that is an
    export, a backup or an archive says of itself; empty for a ledger. Raises sqlite3.Error.
    """

    def __init__(self, connection: sqlite3.Connection, scope: Scope, pseudonyms: Pseudonyms | None = None) -> None:
        self.connection = connection
        self.scope = scope
        self.pseudonyms = pseudonyms
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        self.persons = next((name for name in ("pseudonyms", "personal") if name in tables), _NO_PERSONS)
        self.names_of_cards = "cards" if "cards" in tables else "(SELECT '' AS card, '' AS user WHERE false)"
        self.has_outbox = "outbox" in tables
        self.about_copy = said_by(connection)
        self.has_pseudonyms = pseudonyms is not None or "pseudonyms" in tables
        self._prepare("jobs_counted" if "jobs_counted" in tables else "jobs_full")

    @property
    def period(self) -> tuple[str, str]:
        """Both ends as the ledger writes times."""
        return times.text(self.scope.first), times.text(self.scope.last)

    def of_devices(self, column: str = "device") -> str:
        """The condition of a row that is about one of the devices asked for."""
        return f"{column} IN (SELECT device FROM report_devices)" if self.scope.devices else "true"

    def person(self, field: str, value: str) -> str:
        """A card, a user or a document as the report may name it."""
        return value if self.pseudonyms is None else self.pseudonyms.of(field, value)

    def said(self, text: str, *, card: str, user: str, document: str = "") -> str:
        """The server's words about somebody as the report may repeat them."""
        if self.pseudonyms is None or not text:
            return text
        return self.pseudonyms.in_words(text, [("card", card), ("user", user), ("document", document)])

    def _prepare(self, jobs: str) -> None:
        connection = self.connection
        connection.create_function("local_day", 1, _day_in(self.scope.zone), deterministic=True)
        # A pseudonym has a form of its own already.
        form = str if self.persons == "pseudonyms" else normalised
        connection.create_function("normalised", 1, form, deterministic=True)
        connection.execute("CREATE TABLE report_devices (device TEXT PRIMARY KEY)")
        connection.executemany(
            "INSERT OR IGNORE INTO report_devices VALUES (?)", [(name,) for name in self.scope.devices]
        )
        connection.execute(_JOBS)
        connection.execute(
            f"""INSERT INTO report_jobs SELECT seq, local_day(at), device, upstream, mode, kind, pages, color_pages,
            coalesce(card, ''), coalesce(user, '') FROM {jobs} WHERE at BETWEEN ? AND ? AND {self.of_devices()}""",
            self.period,
        )
        connection.execute(_FATES)
        low, high = connection.execute(
            "SELECT min(seq), max(seq) FROM entries WHERE recorded_at BETWEEN ? AND ?", self.period
        ).fetchone()
        connection.execute(
            _GATHER.format(persons=self.persons, delivered=DELIVERED, given_up=GIVEN_UP), (low or 0, high or 0)
        )


def usual_period(connection: sqlite3.Connection, zone: ZoneInfo) -> tuple[date, date]:
    """The 30 days that end with the day of the newest entry; fewer if the ledger is younger. Raises sqlite3.Error."""
    first, last = connection.execute(
        """SELECT (SELECT recorded_at FROM entries ORDER BY seq LIMIT 1),
        (SELECT recorded_at FROM entries ORDER BY seq DESC LIMIT 1)"""
    ).fetchone()
    if last is None:
        today = datetime.now(zone).date()
        return today, today
    begin, end = (datetime.fromisoformat(each).astimezone(zone).date() for each in (first, last))
    return min(end, max(begin, end - timedelta(days=DEFAULT_DAYS - 1))), end


def _day_in(zone: ZoneInfo) -> Callable[[str], str]:
    @lru_cache(maxsize=4096)
    def day_of_minute(minute: str) -> str:
        return datetime.fromisoformat(f"{minute}:00+00:00").astimezone(zone).date().isoformat()

    def day(at: str) -> str:
        return day_of_minute(at[:16])

    return day
