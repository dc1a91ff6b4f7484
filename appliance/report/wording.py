"""How times, days, numbers and names stand in the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime

from appliance.cli.words import clean, count, length
from storage import times
from storage.summary.scope import Scope
from storage.summary.volume import Naming, Volume

__all__ = [
    "and_so_on", "axis_day", "called", "clean", "count", "day", "length", "moment", "number", "percent", "share",
    "span", "spoken", "words_of", "written",
]  # fmt: skip

LONGEST_WORDS = 200
LONGEST_VALUE = 40
NOT_THERE = "–"  # noqa: RUF001, a dash stands for what is not there


def number(value: int | None) -> str:
    """1,234."""
    return NOT_THERE if value is None else f"{value:,}"


def day(value: date) -> str:
    """Sunday, 22 November 2026: a day that cannot be read the other way round."""
    return f"{value:%A}, {value.day} {value:%B %Y}"


def moment(scope: Scope, at: int | None) -> str:
    """A time (ms) by the clock of the report's zone."""
    return NOT_THERE if at is None else f"{scope.local(at):%Y-%m-%d %H:%M:%S}"


def spoken(scope: Scope, at: int) -> str:
    """22 November 2026, 10:15, for sentences."""
    local = scope.local(at)
    return f"{local.day} {local:%B %Y, %H:%M}"


def written(scope: Scope, at: str) -> str:
    """The same for a time as the ledger writes it (ISO 8601, UTC)."""
    try:
        return spoken(scope, times.milliseconds(at))
    except (ValueError, OverflowError):
        return clean(at)


def span(milliseconds: int) -> str:
    """2 h 3 min."""
    return length(milliseconds / 1000)


def percent(part: float, whole: float) -> str:
    """12.3 %, for tables."""
    return f"{100 * part / whole:.1f} %" if whole else "0.0 %"


def share(part: float, whole: float) -> str:
    """12 %, for sentences."""
    if not whole:
        return "0 %"
    found = 100 * part / whole
    return f"{found:.0f} %" if found >= 1 or not found else "less than 1 %"


def and_so_on(names: Sequence[str], most: int = 5) -> str:
    """a, b and 3 more."""
    shown = [clean(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {count(len(names) - most, 'more', 'more')}"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def called(volume: Volume) -> str:
    """How a device or a person is called."""
    if volume.naming is Naming.OTHERS:
        return f"{int(volume.name):,} others"
    if volume.naming is Naming.UNKNOWN:
        return "unknown card"
    if volume.naming is Naming.NOBODY:
        return "no card"
    if volume.naming is Naming.CARD:
        return f"card {clean(volume.name)}"
    return clean(volume.name) or "no name"


def words_of(text: str) -> str:
    """What was typed, or the members of a JSON object, on one line that is not too long."""
    try:
        said = json.loads(text)
    except ValueError:
        said = text
    if isinstance(said, dict):
        said = ", ".join(f"{key}: {_short(_plain(value))}" for key, value in said.items())
    line = clean(" ".join(str(said).split()))
    return line if len(line) <= LONGEST_WORDS else line[: LONGEST_WORDS - 1] + "…"


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"


def axis_day(value: date | datetime, with_year: bool = False) -> str:
    """22 Nov: short, for an axis."""
    return f"{value.day} {value:%b %Y}" if with_year else f"{value.day} {value:%b}"
