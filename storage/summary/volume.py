"""Pages: by day and kind, by device, by person, and under cards that nobody has.

A person is called by the name under which the server took the records; where it said none, by the one that the device
sent, or that card memory has; else by the card. What the server took for a card that nobody has is one line of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from operator import attrgetter

from storage import times
from storage.summary.scope import Source

MOST = 20
OFFLINE = ("offline", "drill")


class Naming(StrEnum):
    """What the name of a line of volume is."""

    DEVICE = "device"
    USER = "user"
    CARD = "card"
    UNKNOWN = "unknown"
    NOBODY = "nobody"
    OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Volume:
    """Pages of one device or person; `parts`: by kind of job for a device, by who let them in for a person.

    For `Naming.OTHERS` the name is how many of them there are.
    """

    naming: Naming
    name: str
    jobs: int
    pages: int
    color_pages: int
    parts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Volumes:
    """The largest `MOST`, the others together if there are more, and how many there are of all."""

    rows: tuple[Volume, ...]
    many: int
    pages: int


@dataclass(frozen=True, slots=True)
class Pages:
    """`by_day`: day, then kind ("" where the device said none), then pages. `jobs`, `pages`, `color_pages`: in all.

    `superseded`: rows of the ledger's `jobs` in the period that are not counted, as a later one says the same job.
    """

    by_day: dict[date, dict[str, int]]
    by_kind: dict[str, int]
    jobs: int
    pages: int
    color_pages: int
    superseded: int


@dataclass(frozen=True, slots=True)
class UnknownCard:
    """A card that nobody has. `first` and `last`: ms, of its records in the period."""

    card: str
    jobs: int
    pages: int
    devices: int
    first: int
    last: int


def pages(source: Source) -> Pages:
    """Raises sqlite3.Error."""
    by_day: dict[date, dict[str, int]] = defaultdict(dict)
    by_kind: dict[str, int] = defaultdict(int)
    rows = source.connection.execute("SELECT day, kind, sum(pages) FROM report_jobs GROUP BY 1, 2 ORDER BY 1, 2")
    for day, kind, number in rows:
        by_day[date.fromisoformat(day)][kind] = number
        by_kind[kind] += number
    jobs, made, color = source.connection.execute(
        "SELECT count(*), coalesce(sum(pages), 0), coalesce(sum(color_pages), 0) FROM report_jobs"
    ).fetchone()
    all_rows = source.connection.execute(
        f"SELECT count(*) FROM jobs WHERE at BETWEEN ? AND ? AND {source.of_devices()}", source.period
    ).fetchone()[0]
    return Pages(dict(by_day), dict(by_kind), jobs, made, color, all_rows - jobs)


def by_device(source: Source) -> Volumes:
    """Raises sqlite3.Error."""
    rows = source.connection.execute(
        """SELECT 'device', device, kind, count(*), sum(pages), coalesce(sum(color_pages), 0) FROM report_jobs
        GROUP BY device, kind"""
    )
    return _largest(rows)


def by_user(source: Source) -> Volumes:
    """Raises sqlite3.Error."""
    rows = source.connection.execute(
        f"""SELECT CASE WHEN unknown THEN 'unknown' WHEN name <> '' THEN 'user' WHEN card <> '' THEN 'card'
            ELSE 'nobody' END AS naming,
          CASE WHEN unknown THEN '' WHEN name <> '' THEN name ELSE card END AS called,
          mode, count(*), sum(pages), coalesce(sum(color_pages), 0)
        FROM (SELECT coalesce(f.unknown, 0) AS unknown,
            coalesce(nullif(f.user, ''), nullif(j.user, ''), c.user, '') AS name,
            normalised(j.card) AS card, j.mode, j.pages, j.color_pages
          FROM report_jobs j LEFT JOIN report_fates f ON f.record = j.seq
          LEFT JOIN {source.names_of_cards} c ON c.card = normalised(j.card) AND j.card <> '')
        GROUP BY naming, called, mode"""
    )
    found = _largest(rows)
    return Volumes(tuple(_disguised(source, row) for row in found.rows), found.many, found.pages)


def unknown_cards(source: Source) -> list[UnknownCard]:
    """The largest first. Raises sqlite3.Error."""
    rows = source.connection.execute(
        f"""SELECT normalised(coalesce(p.card, '')) AS known_as, count(j.seq), coalesce(sum(j.pages), 0),
          count(DISTINCT r.device), min(r.at), max(r.at)
        FROM report_fates f JOIN records r ON r.seq = f.record
        LEFT JOIN report_jobs j ON j.seq = f.record
        LEFT JOIN {source.persons} p ON p.seq = f.record
        WHERE f.unknown AND r.at BETWEEN ? AND ? AND {source.of_devices("r.device")}
        GROUP BY known_as ORDER BY 3 DESC, 1""",
        source.period,
    )
    return [
        UnknownCard(
            source.person("card", card), jobs, number, devices, times.milliseconds(first), times.milliseconds(last)
        )
        for card, jobs, number, devices, first, last in rows
    ]


def _largest(rows: Iterable[tuple[str, str, str, int, int, int]]) -> Volumes:
    """`rows`: naming, name, part, jobs, pages, pages in colour."""
    found: dict[tuple[str, str], Volume] = {}
    for naming, name, part, jobs, number, color in rows:
        before = found.get((naming, name)) or Volume(Naming(naming), name, 0, 0, 0, {})
        found[naming, name] = _added(before, jobs, number, color, {part: number})
    order = sorted(found.values(), key=attrgetter("name"))
    order.sort(key=attrgetter("pages"), reverse=True)
    largest, rest = order[:MOST], order[MOST:]
    if rest:
        others = Volume(Naming.OTHERS, str(len(rest)), 0, 0, 0, {})
        for each in rest:
            others = _added(others, each.jobs, each.pages, each.color_pages, each.parts)
        largest.append(others)
    return Volumes(tuple(largest), len(order), sum(each.pages for each in order))


def _added(one: Volume, jobs: int, number: int, color: int, parts: dict[str, int]) -> Volume:
    together = {part: one.parts.get(part, 0) + parts.get(part, 0) for part in {**one.parts, **parts}}
    return Volume(one.naming, one.name, one.jobs + jobs, one.pages + number, one.color_pages + color, together)


def _disguised(source: Source, row: Volume) -> Volume:
    if row.naming not in (Naming.USER, Naming.CARD):
        return row
    return Volume(row.naming, source.person(row.naming, row.name), row.jobs, row.pages, row.color_pages, row.parts)
