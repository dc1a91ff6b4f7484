"""The subjects of an export as tables for people: a file of CSV, a sheet or a chapter each.

Columns are those of the ledger's table or view, with the person's beside; what each holds is told by its name and its
type, so that a column which a later schema adds is exported too. Bytes of the wire, salts and hashes are left to the
SQLite and JSON exports, which can be checked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from storage.export.filters import Chosen
from storage.export.pseudonyms import FIELDS, Pseudonyms

Row = tuple[Any, ...]

TIMES = {
    "at", "started_at", "ended_at", "expires_at", "next_try", "first_try", "taken_at", "until", "started", "offline",
    "recovered", "drained",
}  # fmt: skip
_AT_ONCE = 500
_OF_OUTAGE = (
    "EXISTS (SELECT 1 FROM outage_events e WHERE e.upstream = t.upstream AND e.outage = t.started AND e.seq IN {})"
)


class Kind(Enum):
    """What a column holds. A column of a view that SQLite knows no type of is a text here, whatever its values are."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a subject; `person`: which of `pseudonyms.FIELDS` it holds, "" none."""

    name: str
    kind: Kind
    person: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """`relation`: the table or view of the ledger; `persons`: what of `personal` stands beside, from the row's entry or
    for `of_record` from the entry of the record that it is about. `outbox`: with the record's state there.
    """

    name: str
    says: str
    relation: str
    persons: tuple[str, ...] = ()
    outbox: bool = False
    of_record: bool = False
    where: str = "t.seq IN {}"
    order: str = "t.seq"


_CARD = ("card", "user")
SUBJECTS = (
    Subject("jobs", "Accounted jobs.", "jobs", FIELDS, outbox=True),
    Subject("accounting", "Accounting records without page counts.", "accounting", _CARD, outbox=True),
    Subject("logins", "Logins, their outcome, and who decided it.", "logins", _CARD),
    Subject("logouts", "Ends of sessions that have a mark.", "logouts"),
    Subject("outages", "Outages, one row each.", "outages", where=_OF_OUTAGE, order="t.first_seq"),
    Subject("outage_events", "The steps of outages.", "outage_events"),
    Subject(
        "deliveries",
        "Tries to forward a record; `user` is whom the server logged it against.",
        "deliveries",
        ("user",),
    ),
    Subject("records_not_taken", "Records that the server had not taken.", "records_not_taken"),
    Subject("unlocks", "Tries to unlock a device, and what became of unlocks.", "unlocks"),
    Subject("drills", "Beginnings and ends of drills.", "drills"),
    Subject("app_log", "Lines that an admin should read.", "app_log", _CARD),
    Subject("meters", "Readings of page meters.", "meters"),
    Subject("quarantine", "What could not be read as a record; without its bytes.", "quarantine"),
    Subject("traps", "SNMP traps and informs of devices; without their bytes.", "traps"),
    Subject("trap_forwards", "What became of traps at the server.", "trap_forwards"),
    Subject("notes", "Starts, stops, what was done by hand, and whatever else belongs here.", "notes", ("user",)),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A snapshot, what is wanted of it, and how it is told. `personal`: the table with what leads to persons: personal,
    or pseudonyms in a file that is an export itself. `pseudonyms`: those to be made, None: names stay.
    """

    connection: sqlite3.Connection
    chosen: Chosen
    zone: ZoneInfo
    personal: str = "personal"
    pseudonyms: Pseudonyms | None = None

    def wanted(self, where: str = "seq IN {}") -> str:
        """The condition of a row that is wanted; `where` has the place of the chosen numbers."""
        return "true" if self.chosen.whole else where.format("(SELECT seq FROM chosen)")


class Table:
    """A subject of a source, ready to be read. `columns` in order."""

    def __init__(self, subject: Subject, source: Source) -> None:
        self.subject = subject
        self._source = source
        known = source.connection.execute(f"PRAGMA table_info({subject.relation})").fetchall()
        names = [(name, kind) for _, name, kind, *_ in known if kind != "BLOB"]
        self.columns = [_column(name, kind) for name, kind in names]
        picked = [f"t.{name}" for name, _ in names]
        tables = [f"{subject.relation} t"]
        if subject.persons:
            self.columns += [Column(name, Kind.PERSON, name) for name in subject.persons]
            picked += [f"p.{name}" for name in subject.persons]
            tables.append(f"LEFT JOIN {source.personal} p ON p.seq = t.seq")
        if subject.outbox:
            self.columns.append(Column("outbox", Kind.TEXT))
            picked.append("o.state")
            tables.append("LEFT JOIN outbox o ON o.seq = t.seq")
        self._from = f"FROM {' '.join(tables)} WHERE {source.wanted(subject.where)}"
        self._query = f"SELECT {', '.join(picked)} {self._from} ORDER BY {subject.order}"

    def count(self) -> int:
        """How many rows it has."""
        found: int = self._source.connection.execute(f"SELECT count(*) {self._from}").fetchone()[0]
        return found

    def rows(self) -> Iterator[Row]:
        """Its rows, with pseudonyms if they are wanted."""
        cursor = self._source.connection.execute(self._query)
        cursor.arraysize = _AT_ONCE
        disguise = _disguise(self.columns, self._source.pseudonyms) if self._source.pseudonyms is not None else None
        while page := cursor.fetchmany():
            yield from page if disguise is None else map(disguise, page)


def tables(source: Source) -> list[Table]:
    """All subjects of a source."""
    return [Table(subject, source) for subject in SUBJECTS]


def _column(name: str, kind: str) -> Column:
    if name in FIELDS:
        return Column(name, Kind.PERSON, name)
    if name in TIMES:
        return Column(name, Kind.TIME)
    return Column(name, Kind.NUMBER if kind in ("INTEGER", "INT") else Kind.TEXT)


def _disguise(columns: list[Column], pseudonyms: Pseudonyms) -> Any:
    persons = [(place, column.person) for place, column in enumerate(columns) if column.person]
    texts = [place for place, column in enumerate(columns) if column.kind is Kind.TEXT]

    def disguised(row: Row) -> Row:
        named = [(field, row[place]) for place, field in persons if row[place]]
        if not named:
            return row
        cells = list(row)
        for place in texts:
            if isinstance(cells[place], str):
                cells[place] = pseudonyms.in_words(cells[place], named)
        for place, field in persons:
            cells[place] = pseudonyms.of(field, row[place] or "")
        return tuple(cells)

    return disguised


class LocalTimes:
    """Times of the ledger as a clock in a zone shows them."""

    def __init__(self, zone: ZoneInfo) -> None:
        @lru_cache(maxsize=1024)
        def moment(written: str) -> datetime | None:
            try:
                return datetime.fromisoformat(written).astimezone(zone)
            except (ValueError, OverflowError):
                return None

        self.moment = moment
        """The local time of a text of the ledger's; None for what is no time."""

    def text(self, written: str | None) -> str:
        """The same in ISO 8601 with its offset, "" for what is no time."""
        at = self.moment(written) if written else None
        return at.isoformat(timespec="milliseconds") if at is not None else ""
