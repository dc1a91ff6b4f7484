"""The outages of a ledger by name, and what of their records is still to be done.

An outage's name is the time of its first failed contact (`started` in the view `outages`). Its records are those that
were kept from then until contact was back, and those that were on their way when contact failed and have been in doubt
since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from storage.errors import StorageError
from storage.records import OutboxState

LAST = "last"

_LONGEST = 1 << 62
_COLUMNS = "SELECT upstream, started, offline, recovered, drained, first_seq, recovered_seq FROM outages"
_LAST = f"""{_COLUMNS} WHERE (offline IS NOT NULL OR recovered IS NULL) AND (?1 IS NULL OR upstream = ?1)
ORDER BY first_seq DESC LIMIT 1"""
_NAMED = f"{_COLUMNS} WHERE substr(started, 1, length(?1)) = ?1 ORDER BY first_seq"


class NoSuchOutage(StorageError):
    """A name is no outage's, or that of several."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One outage of one upstream. Times as ISO 8601 text, None: not yet. `first` and `last`: the entries between which
    its records were kept.
    """

    upstream: str
    started: str
    offline: str | None
    recovered: str | None
    drained: str | None
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of an outage's records: so many in the outbox by state, and so many dropped by hand. `decided`: when
    (ISO 8601) a person last decided one of them; None: never.
    """

    waiting: int
    sent: int
    in_doubt: int
    rejected: int
    dropped: int
    decided: str | None

    @property
    def open(self) -> bool:
        """Whether the server may yet get one of them, or may have it unknown."""
        return bool(self.waiting or self.sent or self.in_doubt)


def last(connection: sqlite3.Connection, upstream: str | None = None) -> Outage | None:
    """The last outage that led offline or still runs, of one upstream or of any. Raises sqlite3.Error."""
    row = connection.execute(_LAST, (upstream,)).fetchone()
    return _outage(row) if row else None


def named(connection: sqlite3.Connection, name: str) -> list[Outage]:
    """The outage whose name begins so, or that is the last one (`LAST`); of several upstreams, if it struck them in the
    same millisecond. Raises NoSuchOutage or sqlite3.Error.
    """
    if name == LAST:
        newest = last(connection)
        if newest is None:
            raise NoSuchOutage("no outage is in this ledger")
        name = newest.started
    found = [_outage(row) for row in connection.execute(_NAMED, (name,))]
    if not name or not found:
        raise NoSuchOutage(f"no outage is called {name!r}; give its `started` as the view `outages` has it, or: last")
    names = {each.started for each in found}
    if len(names) > 1:
        raise NoSuchOutage(f"{len(names)} outages began at {name}; give more of it, such as {found[0].started}")
    return found


def condition(outages: Sequence[Outage], table: str, record: str) -> tuple[str, list[str | int]]:
    """SQL that is true for the rows of `table` whose upstream and `record` (a column) make them records of these
    outages, with its values.
    """
    one = f"{table}.{record}"
    doubted = "SELECT record FROM deliveries WHERE seq BETWEEN ? AND ? AND state = 'in_doubt'"
    part = f"({table}.upstream = ? AND ({one} BETWEEN ? AND ? OR ({one} < ? AND {one} IN ({doubted}))))"
    given: list[str | int] = []
    for each in outages:
        given += [each.upstream, each.first, each.last, each.first, each.first, each.last]
    return f"({' OR '.join([part] * len(outages))})", given


def left(connection: sqlite3.Connection, outage: Outage) -> Left:
    """What is left of its records. Raises sqlite3.Error."""
    where, given = condition([outage], "o", "seq")
    counted = dict(connection.execute(f"SELECT state, count(*) FROM outbox o WHERE {where} GROUP BY state", given))
    where, given = condition([outage], "d", "record")
    dropped, decided = connection.execute(
        f"SELECT coalesce(sum(outcome = 'dropped'), 0), max(at) FROM deliveries d WHERE d.who <> '' AND d.seq > ? "
        f"AND {where}",
        (outage.first, *given),
    ).fetchone()
    waiting, sent, in_doubt, rejected = (counted.get(state, 0) for state in OutboxState)
    return Left(waiting, sent, in_doubt, rejected, dropped, decided)


def _outage(row: tuple[str, str, str | None, str | None, str | None, int, int | None]) -> Outage:
    upstream, started, offline, recovered, drained, first, end = row
    return Outage(upstream, started, offline, recovered, drained, first, _LONGEST if end is None else end)
