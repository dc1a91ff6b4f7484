"""Readings of page meters as people enter them: one by one, or in a technician's sheet.

A sheet is CSV, with commas, semicolons or tabs, and a first line of names: `device`, `taken_at` and either `counter`
and `value` or a column for each counter; `event` and `remark` where there is something to say. Every mistake is named
with its line, and then nothing of the sheet is entered. So it is with readings that cannot be right: a device that the
ledger never saw, a time to come, a value below the one before it. A value that was mistyped may be entered once more
for its moment, with a remark that says why: the last one entered for a moment counts.
"""

from __future__ import annotations

import csv
import re
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from appliance.ledger_deeds import COUNTERS, EVENTS
from storage import proof, times
from storage.export.filters import WrongFilter, moment

READING = EVENTS[0]
_SKEW = 60_000
_WHOLE = re.compile(r"[0-9]{1,16}|[0-9]{1,3}([.,' \u00a0\u202f])[0-9]{3}(?:\1[0-9]{3}){0,4}")
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
    """The time (ms) of 2026-11-23T14:05, 2026-11-23 14:05 or 23.11.2026 14:05, in `zone`. Raises WrongReading, also
    where a clock in the zone showed that time twice or never.
    """
    try:
        if _GERMAN.fullmatch(text):
            form = "%d.%m.%Y %H:%M:%S" if text.count(":") > 1 else "%d.%m.%Y %H:%M"
            text = datetime.strptime(text, form).isoformat()
        if len(text) > len("2026-11-23"):
            local = datetime.fromisoformat(text)
            offsets = [local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)]
            if local.tzinfo is None and offsets[0] != offsets[1]:
                raise WrongReading(
                    f"{text!r} is in the hour in which clocks are changed; write it with its offset, like {text}+01:00"
                )
            at = moment(text, zone)
            if at < 0:
                raise WrongReading(f"{text!r} is before 1970")
            return at
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


def fresh(
    connection: sqlite3.Connection, readings: Iterable[Reading], now: int, *, new: bool, correct: bool = False
) -> list[Reading]:
    """Those that the ledger does not have yet. `now` in ms; `new`: devices may be unknown to it; `correct`: a value may
    take the place of another one of the same moment. Raises WrongReading for what cannot be right, sqlite3.Error.
    """
    known = {
        device
        for (device,) in connection.execute(
            "SELECT device FROM devices UNION SELECT device FROM jobs UNION SELECT device FROM meters"
        )
    }
    history: dict[tuple[str, str], list[_Taken]] = {}
    taken: list[Reading] = []
    wrong: list[str] = []
    for each in sorted(readings, key=lambda reading: reading.taken_at):
        key = each.device, each.counter
        if key not in history:
            history[key] = _history(connection, *key)
        own = _Taken(each.taken_at, each.event != READING, each.value, each.event)
        if own in history[key]:
            continue
        mistake = _mistake(each, known, history[key], now, new, correct)
        if mistake:
            wrong.append(f"{each.where}: {mistake}" if each.where else mistake)
            continue
        history[key] = sorted([*(one for one in history[key] if one.slot != own.slot), own])
        taken.append(each)
    if wrong:
        raise WrongReading(*wrong)
    return taken


class _Taken(NamedTuple):
    """A reading that counts, in the order of the view `readings`: at one moment, what it showed before counting began
    anew comes first.
    """

    at: int
    anew: bool
    value: int
    event: str

    @property
    def slot(self) -> tuple[int, bool]:
        return self.at, self.anew


def _history(connection: sqlite3.Connection, device: str, counter: str) -> list[_Taken]:
    rows = connection.execute(
        "SELECT taken_at, value, event FROM readings WHERE device = ? AND counter = ?", (device, counter)
    )
    return sorted(_Taken(times.milliseconds(at), event != READING, value, event) for at, value, event in rows)


def _mistake(each: Reading, known: set[str], history: list[_Taken], now: int, new: bool, correct: bool) -> str:
    if each.device not in known and not new:
        return (
            f"the ledger knows no device {each.device!r}; is it written as in 'locum devices'? --new enters it anyway"
        )
    if each.taken_at > now + _SKEW:
        return f"{times.text(each.taken_at)} is still to come"
    slot = each.taken_at, each.event != READING
    place = bisect_right(history, slot, key=lambda one: one.slot)
    before, after = history[:place], history[place:]
    if before and before[-1].slot == slot:
        if not correct:
            return (
                f"{each.device} has another reading of {each.counter} at that time: {before[-1].value:,}; if that is "
                "wrong, enter this one by locum meters add with --at and a --remark that says why"
            )
        before.pop()
    if before and each.event == READING and each.value < before[-1].value:
        return (
            f"{each.counter} of {each.device} is {each.value:,}, and was {before[-1].value:,} at "
            f"{times.text(before[-1].at)}; a reset, or another machine? then say so: event reset or exchange"
        )
    if after and not after[0].anew and after[0].value < each.value:
        return (
            f"{each.counter} of {each.device} is {each.value:,}, and was {after[0].value:,} later, at "
            f"{times.text(after[0].at)}"
        )
    return ""
