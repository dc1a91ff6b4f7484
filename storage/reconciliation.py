"""Reconciliation: what a device's own page counters say, against what the ledger says of the same time.

Two readings of a counter, one after the other, are a segment: the meter's pages are the difference of its values, the
ledger's are those of the jobs that Locum took between them. A reset, an exchange of the machine, or a value that falls
without a word ends a segment; what was made between the reading before and that moment nobody knows, and it is said.
A job counts at the time when Locum took it (`at`): the devices' own clocks are not to be trusted.
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

_READINGS = "SELECT device, counter, taken_at, value, event FROM meters ORDER BY device, counter, taken_at, seq"
_JOBS = "SELECT device, at, kind, pages, color_pages FROM jobs_counted WHERE at > ? AND at <= ?"
_BEGINS_ANEW = ("reset", "exchange")


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


def reconcile(connection: sqlite3.Connection, first: int, last: int, device: str | None = None) -> list[DeviceGap]:
    """What meters and ledger say of the time from `first` to `last` (ms), by device and counter.

    The readings are those of that time; where these are fewer than two, with the nearest before and after it. So an
    outage, between whose ends nobody read a meter, is seen between the readings next around it. Raises sqlite3.Error.
    """
    rows = ((*row[:2], times.milliseconds(row[2]), *row[3:]) for row in connection.execute(_READINGS))
    segments: dict[tuple[str, str], list[_Open]] = {}
    remarks: dict[tuple[str, str], list[str]] = {}
    for key, readings in groupby(rows, itemgetter(0, 1)):
        if key[1] not in COUNTERS or (device is not None and key[0] != device):
            continue
        taken = [_Taken(Reading(value, at), event) for _, _, at, value, event in readings]
        remarks[key] = []
        segments[key] = [_Open(*pair) for pair in _segments(_within(taken, first, last), remarks[key])]
    _add_up(connection, segments)
    return [_gap(key, found, remarks[key]) for key, found in segments.items() if found]


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


def _add_up(connection: sqlite3.Connection, segments: dict[tuple[str, str], list[_Open]]) -> None:
    """Add each job to the segments that it was made in: one pass over the jobs, whatever the number of readings."""
    every = [each for found in segments.values() for each in found]
    if not every:
        return
    first, last = min(each.start.at for each in every), max(each.end.at for each in every)
    # A job at the very moment of a reading was on the meter already.
    ends = {key: [each.end.at for each in found] for key, found in segments.items()}
    for device, at, kind, pages, color in connection.execute(_JOBS, (times.text(first), times.text(last))):
        made = times.milliseconds(at)
        for counter, counted in _counted(kind, pages, color):
            found = segments.get((device, counter))
            if not found:
                continue
            place = bisect_left(ends[device, counter], made)
            if place < len(found) and found[place].start.at < made:
                found[place].ledger += counted


def _counted(kind: str, pages: int, color: int | None) -> Iterator[tuple[str, int]]:
    """What a job adds to which counters."""
    if kind in COUNTERS:
        yield kind, pages
    if kind != "scan":
        yield "total", pages
        yield "color", color or 0
        yield "mono", pages - (color or 0)


def _gap(key: tuple[str, str], found: Sequence[_Open], remarks: Sequence[str]) -> DeviceGap:
    segments = tuple(Segment(each.start, each.end, each.end.value - each.start.value, each.ledger) for each in found)
    meter, ledger = sum(each.meter for each in segments), sum(each.ledger for each in segments)
    return DeviceGap(
        *key,
        segments[0].start,
        segments[-1].end,
        meter,
        ledger,
        meter - ledger,
        100 * (meter - ledger) / meter if meter else None,
        segments,
        tuple(remarks),
    )
