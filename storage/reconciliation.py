"""Reconciliation: what a device's own page counters say, against what the ledger says of the same time.

Two readings of a counter, one after the other, are a segment: the meter's pages are the difference of its values, the
ledger's are those of the jobs that Locum took between them. A reset, an exchange of the machine, or a value that falls
without a word ends a segment; what was made between the reading before and that moment nobody knows, and it is said.
A job counts at the time when Locum took it (`at`): the devices' own clocks are not to be trusted. What they say of jobs
that came late is a remark.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

from storage import times

COUNTERS = ("total", "color", "mono", "copy", "print", "scan", "fax")
"""What a device counts. A scan makes no page on paper, so it is in `scan` only."""

LATEST = 31 * 24 * 3_600_000
"""A job that came later than so many ms after its end, by the device's clock, has a device whose clock is wrong."""

_READINGS = """SELECT device, counter, taken_at, value, event FROM readings
ORDER BY device, counter, taken_at, event <> 'reading'"""
_JOBS = """SELECT device, at, ended_at, kind, pages, color_pages FROM jobs_counted
WHERE at > ?1 AND (at <= ?2 OR ended_at <= ?2)"""
_BEGINNING = "SELECT recorded_at FROM entries ORDER BY seq LIMIT 1"
_BEGINS_ANEW = ("reset", "exchange")
_BY_COLOR = ("color", "mono")


class Reading(NamedTuple):
    """What a counter showed. `at`: ms."""

    value: int
    at: int


@dataclass(frozen=True, slots=True)
class Segment:
    """From one reading to the next: the pages that the meter counted, and those that the ledger has."""

    start: Reading
    end: Reading
    meter: int
    ledger: int


@dataclass(frozen=True, slots=True)
class DeviceGap:
    """One counter of one device over its segments. `gap`: meter less ledger, in pages; above zero the device made pages
    that the ledger does not have. `percent`: of the meter, None where that counted nothing. `remarks`: what is not
    known, in words.
    """

    device: str
    counter: str
    first_reading: Reading
    last_reading: Reading
    meter: int
    ledger: int
    gap: int
    percent: float | None
    segments: tuple[Segment, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Taken:
    reading: Reading
    event: str


@dataclass(slots=True)
class _Open:
    """A segment whose jobs are being added up."""

    start: Reading
    end: Reading
    ledger: int = 0


@dataclass(slots=True)
class _Line:
    """The segments of a counter, in order, and pages of jobs that need a word: made in them by the device's clock but
    taken later, taken in them but made outside, and of jobs that do not say how many were in colour.
    """

    segments: list[_Open]
    remarks: list[str]
    made_in: int = 0
    made_outside: int = 0
    colorless: int = 0

    def at(self, moment: int) -> _Open | None:
        """The segment of a moment (ms): a job at the very moment of a reading was on the meter already."""
        place = bisect_left(self.segments, moment, key=lambda each: each.end.at)
        found = self.segments[place] if place < len(self.segments) else None
        return found if found is not None and found.start.at < moment else None


def reconcile(connection: sqlite3.Connection, first: int, last: int, device: str | None = None) -> list[DeviceGap]:
    """What meters and ledger say of the time from `first` to `last` (ms), by device and counter.

    The readings are those of that time; where these are fewer than two, with the nearest before and after it. So an
    outage, between whose ends nobody read a meter, is seen between the readings next around it. Raises sqlite3.Error.
    """
    rows = ((*row[:2], times.milliseconds(row[2]), *row[3:]) for row in connection.execute(_READINGS))
    lines: dict[tuple[str, str], _Line] = {}
    for key, readings in groupby(rows, itemgetter(0, 1)):
        if key[1] not in COUNTERS or (device is not None and key[0] != device):
            continue
        taken = [_Taken(Reading(value, at), event) for _, _, at, value, event in readings]
        remarks: list[str] = []
        segments = [_Open(*pair) for pair in _segments(_within(taken, first, last), remarks)]
        if segments:
            lines[key] = _Line(segments, remarks)
    if not lines:
        return []
    _add_up(connection, lines)
    row = connection.execute(_BEGINNING).fetchone()
    begins = times.milliseconds(row[0]) if row else 0
    return [_gap(key, line, begins) for key, line in lines.items()]


def _within(taken: Sequence[_Taken], first: int, last: int) -> Sequence[_Taken]:
    inside = [place for place, each in enumerate(taken) if first <= each.reading.at <= last]
    if len(inside) > 1:
        return taken[inside[0] : inside[-1] + 1]
    start = max((place for place, each in enumerate(taken) if each.reading.at < first), default=0)
    end = min((place for place, each in enumerate(taken) if each.reading.at > last), default=len(taken))
    return taken[start : end + 1]


def _segments(taken: Sequence[_Taken], remarks: list[str]) -> Iterator[tuple[Reading, Reading]]:
    """Pairs of readings between which the meter only counted; notes in `remarks` where it did not."""
    for before, after in pairwise(taken):
        start, end = before.reading, after.reading
        between = f"what was made from {times.text(start.at)} to {times.text(end.at)} is not known"
        if after.event in _BEGINS_ANEW:
            remarks.append(f"{after.event} at {times.text(end.at)}: {between}")
        elif end.value < start.value:
            remarks.append(f"it fell from {start.value:,} to {end.value:,} unexplained: {between}")
        else:
            yield start, end


def _add_up(connection: sqlite3.Connection, lines: dict[tuple[str, str], _Line]) -> None:
    """Add each job to the segments that it was taken in: one pass over the jobs, whatever the number of readings."""
    first = min(line.segments[0].start.at for line in lines.values())
    last = max(line.segments[-1].end.at for line in lines.values())
    for device, at, ended_at, kind, pages, color in connection.execute(_JOBS, (times.text(first), times.text(last))):
        taken, made = times.milliseconds(at), times.milliseconds_or_zero(ended_at)
        late = 0 < taken - made <= LATEST
        for counter, counted in _counted(kind, pages, color):
            line = lines.get((device, counter))
            if line is None:
                continue
            segment = line.at(taken)
            own = line.at(made) if late else segment
            if segment is not None:
                segment.ledger += counted
                line.made_outside += counted if own is None else 0
                line.colorless += pages if color is None and counter in _BY_COLOR else 0
            elif own is not None:
                line.made_in += counted


def _counted(kind: str, pages: int, color: int | None) -> Iterator[tuple[str, int]]:
    """What a job adds to which counters."""
    if kind in COUNTERS:
        yield kind, pages
    if kind != "scan":
        yield "total", pages
        yield "color", color or 0
        yield "mono", pages - (color or 0)


def _gap(key: tuple[str, str], line: _Line, begins: int) -> DeviceGap:
    found = line.segments
    segments = tuple(Segment(each.start, each.end, each.end.value - each.start.value, each.ledger) for each in found)
    meter, ledger = sum(each.meter for each in segments), sum(each.ledger for each in segments)
    return DeviceGap(
        *key,
        segments[0].start,
        segments[-1].end,
        meter,
        ledger,
        meter - ledger,
        round(100 * (meter - ledger) / meter, 2) if meter else None,
        segments,
        (*_beginning(segments[0].start.at, begins), *line.remarks, *_of_pages(line)),
    )


def _beginning(start: int, begins: int) -> Iterator[str]:
    if start < begins:
        yield f"the ledger begins at {times.text(begins)}: what was made before that is on the meter only"


def _of_pages(line: _Line) -> Iterator[str]:
    if line.made_in:
        yield f"by the device's clock {line.made_in:,} pages that were taken later were made in this time"
    if line.made_outside:
        yield f"by the device's clock {line.made_outside:,} pages of the ledger were made at another time"
    if line.colorless:
        yield f"{line.colorless:,} pages of the ledger do not say how many were in colour, and count as black"
