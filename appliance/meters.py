"""Readings of page meters as people enter them: one by one, or in a technician's sheet.

A sheet is CSV, with commas, semicolons or tabs, and a first line of names: `device`, `taken_at` and either `counter`
and `value` or a column for each counter; `event` and `remark` where there is something to say. Every mistake is named
with its line, and then nothing of the sheet is entered. So it is with readings that cannot be right: a device that the
ledger never saw, a time to come, a value below the one before it.
"""

from __future__ import annotations

import csv
import re
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from appliance.ledger_deeds import COUNTERS, EVENTS
from storage import proof, times
from storage.export.filters import WrongFilter, moment

READING = EVENTS[0]
_SKEW = 60_000
_WHOLE = re.compile(r"[0-9]+|[0-9]{1,3}(?:[.,' \u00a0\u202f][0-9]{3})+")
_GERMAN = re.compile(r"[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4} [0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?")
_LONG = {"device", "taken_at", "counter", "value"}
_SAID = {"event", "remark"}


class WrongReading(Exception):
    """A reading, or a sheet, is wrong. `lines`: one line for a person about each mistake."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Reading:
    """What a counter showed. `taken_at`: ms; `where`: how a mistake in it is introduced, such as "line 3"."""

    device: str
    counter: str
    value: int
    taken_at: int
    event: str = READING
    remark: str = ""
    where: str = ""

    def asked(self, source: str) -> dict[str, Any]:
        """As the command `meters-add` wants it. source: by-hand, csv."""
        given = {**asdict(self), "source": source}
        del given["where"]
        return given


def counter_of(name: str) -> str:
    """Raises WrongReading."""
    if name not in COUNTERS:
        raise WrongReading(f"no such counter: {name!r}; known are {', '.join(COUNTERS)}")
    return name


def event_of(name: str) -> str:
    """Raises WrongReading."""
    if name not in EVENTS:
        raise WrongReading(f"no such event: {name!r}; known are {', '.join(EVENTS)}")
    return name


def value_of(text: str) -> int:
    """A whole number, with or without a sign between its thousands. Raises WrongReading."""
    if not _WHOLE.fullmatch(text):
        raise WrongReading(f"{text!r} is no whole number of pages")
    value = int(re.sub("[^0-9]", "", text))
    if value > proof.SAFE:
        raise WrongReading(f"{value} is more than any counter shows")
    return value


def time_of(text: str, zone: ZoneInfo) -> int:
    """The time (ms) of 2026-11-23T14:05, 2026-11-23 14:05 or 23.11.2026 14:05, in `zone`. Raises WrongReading."""
    try:
        if _GERMAN.fullmatch(text):
            form = "%d.%m.%Y %H:%M:%S" if text.count(":") > 1 else "%d.%m.%Y %H:%M"
            text = datetime.strptime(text, form).isoformat()
        if len(text) > len("2026-11-23"):
            return moment(text, zone)
    except (ValueError, WrongFilter):
        pass
    raise WrongReading(f"{text!r} is no time like 2026-11-23T14:05 or 23.11.2026 14:05")


def sheet(text: str, zone: ZoneInfo) -> list[Reading]:
    """The readings of a sheet. Raises WrongReading."""
    lines = text.removeprefix("\ufeff").splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    table = csv.reader(lines, delimiter=delimiter, strict=True)
    readings: list[Reading] = []
    wrong: list[str] = []
    columns: list[str] = []
    try:
        for row in table:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not columns:
                columns = _columns(cells)
                continue
            try:
                readings += _row(dict(zip(columns, cells, strict=True)), f"line {table.line_num}", zone)
            except ValueError:
                wrong.append(f"line {table.line_num}: {len(cells)} columns, the first line has {len(columns)}")
            except WrongReading as error:
                wrong += [f"line {table.line_num}: {line}" for line in error.lines]
    except csv.Error as error:
        wrong.append(f"line {table.line_num}: {error}")
    if wrong:
        raise WrongReading(*wrong)
    if not readings:
        raise WrongReading("there is no reading in it")
    return readings


def _columns(names: list[str]) -> list[str]:
    columns = [name.lower() for name in names]
    wide = [name for name in columns if name in COUNTERS]
    known = {"device", "taken_at", *wide} if wide else _LONG
    missing, unknown = known - set(columns), set(columns) - known - _SAID
    if missing or unknown or len(set(columns)) < len(columns):
        what = [f"lacks {', '.join(sorted(missing))}"] * bool(missing)
        what += [f"has {', '.join(sorted(unknown))}"] * bool(unknown) or ["names a column twice"] * (not missing)
        raise WrongReading(
            f"the first line {' and '.join(what)}; it should be device,taken_at,counter,value or "
            "device,taken_at,total,color, with event and remark where needed"
        )
    return columns


def _row(cells: dict[str, str], where: str, zone: ZoneInfo) -> Iterator[Reading]:
    device, at = cells["device"], time_of(cells["taken_at"], zone)
    if not device:
        raise WrongReading("no device is named")
    event, remark = event_of(cells.get("event") or READING), cells.get("remark", "")
    given = {cells["counter"].lower(): cells["value"]} if "counter" in cells else cells
    for counter in [name for name in given if name in COUNTERS or "counter" in cells]:
        if given[counter] or "counter" in cells:
            yield Reading(device, counter_of(counter), value_of(given[counter]), at, event, remark, where)


def fresh(connection: sqlite3.Connection, readings: Iterable[Reading], now: int, *, new: bool) -> list[Reading]:
    """Those that the ledger does not have yet. `now` in ms; `new`: devices may be unknown to it. Raises WrongReading
    for what cannot be right, sqlite3.Error.
    """
    known = {device for (device,) in connection.execute("SELECT device FROM devices UNION SELECT device FROM jobs")}
    history: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    taken: list[Reading] = []
    wrong: list[str] = []
    for each in sorted(readings, key=lambda reading: reading.taken_at):
        key = each.device, each.counter
        if key not in history:
            history[key] = _history(connection, *key)
        if (each.taken_at, each.value) in [(at, value) for at, value, _ in history[key]]:
            continue
        mistake = _mistake(each, known, history[key], now, new)
        if mistake:
            wrong.append(f"{each.where}: {mistake}" if each.where else mistake)
            continue
        history[key].insert(bisect_left(history[key], (each.taken_at,)), (each.taken_at, each.value, each.event))
        taken.append(each)
    if wrong:
        raise WrongReading(*wrong)
    return taken


def _history(connection: sqlite3.Connection, device: str, counter: str) -> list[tuple[int, int, str]]:
    rows = connection.execute(
        "SELECT taken_at, value, event FROM meters WHERE device = ? AND counter = ? ORDER BY taken_at, seq",
        (device, counter),
    )
    return [(times.milliseconds(at), value, event) for at, value, event in rows]


def _mistake(each: Reading, known: set[str], history: list[tuple[int, int, str]], now: int, new: bool) -> str:
    if each.device not in known and not new:
        return (
            f"the ledger knows no device {each.device!r}; is it written as in 'locum devices'? --new enters it anyway"
        )
    if each.taken_at > now + _SKEW:
        return f"{times.text(each.taken_at)} is still to come"
    place = bisect_left(history, (each.taken_at,))
    before = history[place - 1] if place else None
    after = history[place] if place < len(history) else None
    if after is not None and after[0] == each.taken_at:
        return f"{each.device} has another reading of {each.counter} at that time: {after[1]:,}"
    if before is not None and each.event == READING and each.value < before[1]:
        return (
            f"{each.counter} of {each.device} is {each.value:,}, and was {before[1]:,} at {times.text(before[0])}; "
            "a reset, or another machine? then say so: event reset or exchange"
        )
    if after is not None and after[2] == READING and after[1] < each.value:
        return (
            f"{each.counter} of {each.device} is {each.value:,}, and was {after[1]:,} later, at {times.text(after[0])}"
        )
    return ""
