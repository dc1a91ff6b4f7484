"""What of a ledger is exported: a period, devices, cards, an outage; all that are given must hold.

Rows are chosen by the number of their entry, into the table `chosen` of the snapshot. What belongs to no device or card
is left out when one is asked for, but what became of a chosen record (`deliveries`) and the end of a chosen session
(`logouts`) go with it. Of an outage there is what happened from its first failed contact until contact was back, its
last step, and the deliveries of the records that were made in it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from storage import times
from storage.cards import normalised
from storage.errors import StorageError

LAST = "last"
ALL_DEVICES = "*"
"""What a drill on all devices has for a device."""

Condition = tuple[str, tuple[str | int, ...]]

_LISTED = "SELECT value FROM json_each(?)"
_HAVE_DEVICE = ("jobs", "accounting", "logins", "logouts", "unlocks", "drills", "meters", "quarantine", "traps")


class WrongFilter(StorageError):
    """A filter makes no sense, or names what is not there."""


@dataclass(frozen=True, slots=True)
class Filters:
    """`first` and `last`: ms, both inclusive. `outage`: its name as `outages.started` has it, or "last"."""

    first: int | None = None
    last: int | None = None
    devices: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    outage: str = ""

    @property
    def any(self) -> bool:
        """Whether anything is filtered at all."""
        return self != ALL

    def said(self, naming_cards: bool) -> dict[str, str | int | list[str]]:
        """What is filtered, for people; without `naming_cards` they are only counted."""
        found: dict[str, str | int | list[str]] = {}
        if self.first is not None:
            found["from"] = times.text(self.first)
        if self.last is not None:
            found["to"] = times.text(self.last)
        if self.devices:
            found["devices"] = list(self.devices)
        if self.cards:
            found["cards"] = list(self.cards) if naming_cards else len(self.cards)
        if self.outage:
            found["outage"] = self.outage
        return found


ALL = Filters()


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is exported. `whole`: everything, and there is no table `chosen`; else `entries` of them are in that table.

    `first` and `through`: the entries by which the chain can be checked from checkpoint to checkpoint; 1 and 0: none.
    `filters`: as given, with the outage's name.
    """

    whole: bool
    entries: int
    first: int
    through: int
    filters: Filters


def moment(text: str, zone: ZoneInfo, end: bool = False) -> int:
    """The time (ms) that a person gave: a day, of which `end` takes the last millisecond, or an ISO 8601 time, in
    `zone` where it has no offset. Raises WrongFilter.
    """
    try:
        if len(text) == 10:
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            return _milliseconds(datetime(day.year, day.month, day.day, tzinfo=zone)) - (1 if end else 0)
        given = datetime.fromisoformat(text)
        return _milliseconds(given if given.tzinfo else given.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        raise WrongFilter(f"{text!r} is neither a day like 2026-11-23 nor a time like 2026-11-23T14:05") from None


def choose(connection: sqlite3.Connection, personal: str, filters: Filters) -> Chosen:
    """Find what is wanted; `personal` names the table with the cards. Raises WrongFilter for an outage that is not
    there, sqlite3.Error.
    """
    first, through = connection.execute("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM entries").fetchone()
    if not filters.any:
        return Chosen(True, through - first + 1, first, through, filters)
    filters = _with_name_of_outage(connection, filters)
    connection.execute("CREATE TABLE chosen (seq INTEGER PRIMARY KEY)")
    connection.create_function("normalised", 1, normalised, deterministic=True)
    conditions = [*_period(filters), *_devices(filters), *_cards(filters, personal), *_outage(connection, filters)]
    connection.execute(
        f"INSERT INTO chosen SELECT seq FROM entries WHERE {' AND '.join(text for text, _ in conditions)}",
        [value for _, values in conditions for value in values],
    )
    count, low, high = connection.execute("SELECT count(*), min(seq), max(seq) FROM chosen").fetchone()
    if not count:
        return Chosen(False, 0, 1, 0, filters)
    begin = connection.execute("SELECT max(seq) FROM checkpoints WHERE seq < ?", (low,)).fetchone()[0]
    end = connection.execute("SELECT min(seq) FROM checkpoints WHERE seq >= ?", (high,)).fetchone()[0]
    return Chosen(False, count, max(first, (begin or 0) + 1), through if end is None else end, filters)


def _milliseconds(at: datetime) -> int:
    found = round(at.timestamp() * 1000)
    times.text(found)
    return found


def _with_name_of_outage(connection: sqlite3.Connection, filters: Filters) -> Filters:
    if not filters.outage:
        return filters
    last = filters.outage == LAST
    where, given = ("", ()) if last else ("WHERE started = ?", (filters.outage,))
    row = connection.execute(f"SELECT started FROM outages {where} ORDER BY first_seq DESC LIMIT 1", given).fetchone()
    if row is None:
        what = "no outage is in this ledger" if last else f"no outage is called {filters.outage!r}"
        raise WrongFilter(f"{what}; give --outage last, or its `started` as the view `outages` has it")
    return replace(filters, outage=row[0])


def _period(filters: Filters) -> Iterator[Condition]:
    if filters.first is not None:
        yield "recorded_at >= ?", (times.text(filters.first),)
    if filters.last is not None:
        yield "recorded_at <= ?", (times.text(filters.last),)


def _devices(filters: Filters) -> Iterator[Condition]:
    if not filters.devices:
        return
    parts = [f"SELECT seq FROM {table} WHERE device IN ({_LISTED})" for table in _HAVE_DEVICE]
    parts.append(f"SELECT seq FROM app_log WHERE json_extract(context, '$.device') IN ({_LISTED})")
    parts += [
        f"SELECT seq FROM deliveries WHERE record IN (SELECT seq FROM {table} WHERE device IN ({_LISTED}))"
        for table in ("jobs", "accounting")
    ]
    parts.append(f"SELECT seq FROM trap_forwards WHERE trap IN (SELECT seq FROM traps WHERE device IN ({_LISTED}))")
    yield f"seq IN ({' UNION ALL '.join(parts)})", (json.dumps([*filters.devices, ALL_DEVICES]),) * len(parts)


def _cards(filters: Filters, personal: str) -> Iterator[Condition]:
    if not filters.cards:
        return
    own = f"SELECT seq FROM {personal} WHERE card <> '' AND normalised(card) IN ({_LISTED})"
    parts = [
        own,
        f"SELECT seq FROM deliveries WHERE record IN ({own})",
        f"SELECT seq FROM logouts WHERE session IN (SELECT session FROM logins WHERE session <> '' AND seq IN ({own}))",
    ]
    wanted = json.dumps([normalised(card) for card in filters.cards])
    yield f"seq IN ({' UNION ALL '.join(parts)})", (wanted,) * len(parts)


def _outage(connection: sqlite3.Connection, filters: Filters) -> Iterator[Condition]:
    if not filters.outage:
        return
    last = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
    spans = connection.execute(
        "SELECT first_seq, coalesce(recovered_seq, ?) FROM outages WHERE started = ?", (last, filters.outage)
    ).fetchall()
    within = " OR ".join("{0} BETWEEN ? AND ?" for _ in spans)
    ends = tuple(seq for span in spans for seq in span)
    yield (
        f"({within.format('seq')} OR seq IN (SELECT seq FROM deliveries WHERE {within.format('record')} "
        "UNION ALL SELECT seq FROM outage_events WHERE outage = ?))",
        (*ends, *ends, filters.outage),
    )
