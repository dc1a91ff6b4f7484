"""What a copier made between two readings of its meters, and the jobs that this is.

A counter that fell has begun anew by itself only where it is known to do so (a Counter32 at 2^32) and where that is no
more than the machine can have made in the time; else it was reset. A leap beyond that is a reset too: neither is ever
usage. The pages of the jobs always add up to what the total moved by, their colour to what the colour did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.meters.formula import Counter, Resolved, Value
from protocols.meters.identity import Profile
from protocols.meters.table import COLOR, FUNCTIONS, MONO, SCAN, TOTAL
from storage.records import Counts

PAGES_A_SECOND = 5
"""No copier is faster."""
SLACK = 500
"""Pages that may come at once, however short the time: a meter that is written to memory now and then."""
OTHER = "other"
"""The kind of a job whose function the meters do not tell."""

Usage = dict[str, int]
"""Pages by meaning; what is not there the meters do not tell."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What the meters moved by."""

    usage: Usage

    @property
    def pages(self) -> int:
        return self.usage.get(TOTAL, 0) + self.usage.get(SCAN, 0)


@dataclass(frozen=True, slots=True)
class Reset:
    """The total has begun anew, or cannot be compared; `why` in words."""

    why: str


Values = Mapping[Counter, Value]


def moved(known: Profile, before: Values, after: Values, seconds: float, *, rebooted: bool) -> Moved | Reset:
    """From one reading to the next, `seconds` later."""
    most = SLACK + int(PAGES_A_SECOND * max(0.0, seconds))
    usage: Usage = {}
    for meaning, formula in known.formulas.items():
        change = _change(formula, before, after, most, rebooted=rebooted)
        if isinstance(change, int):
            usage[meaning] = change
        elif meaning == TOTAL:
            return Reset(change)
    if TOTAL not in usage:
        return Reset("it has no counter of pages")
    if MONO in usage:
        usage.setdefault(COLOR, max(0, usage[TOTAL] - usage[MONO]))
    return Moved(usage)


def add(one: Usage, other: Usage) -> Usage:
    """Both together; what one of them does not tell is not lost of the other."""
    return {meaning: one.get(meaning, 0) + other.get(meaning, 0) for meaning in one.keys() | other.keys()}


def jobs(usage: Usage) -> list[Counts]:
    """The jobs that this usage is: one for each function, one for what no function accounts for, one for scans."""
    total = usage.get(TOTAL, 0)
    pages = {name: usage[name] for name in FUNCTIONS if usage.get(name, 0) > 0}
    while (above := sum(pages.values()) - total) > 0:
        largest = max(pages, key=lambda name: pages[name])
        pages[largest] -= min(above, pages[largest])
    pages[OTHER] = total - sum(pages.values())
    pages = {name: number for name, number in pages.items() if number}
    colors = _colors(usage, pages, total)
    made = [Counts(name, number, colors.get(name)) for name, number in pages.items()]
    if usage.get(SCAN, 0) > 0:
        made.append(Counts(SCAN, usage[SCAN]))
    return made


def _change(formula: Resolved, before: Values, after: Values, most: int, *, rebooted: bool) -> int | str:
    """How far a formula moved, or in words why that is not known."""
    change = 0
    for sign, counter in formula:
        if counter not in after or counter not in before:
            return "it does not answer as it did"
        was, now = before[counter].number, after[counter].number
        step = now - was
        if step < 0:
            modulus = after[counter].modulus
            if rebooted or not modulus or was >= modulus or step + modulus > most:
                return f"a counter went from {was:,} back to {now:,}"
            step += modulus
        if step > most:
            return f"a counter leapt from {was:,} to {now:,}, more than a copier makes in that time"
        change += sign * step
    return change if change >= 0 else 0


def _colors(usage: Usage, pages: Mapping[str, int], total: int) -> dict[str, int]:
    """Pages in colour by function. Where only their sum is known, they are dealt out as far as each function goes."""
    told = {name: min(usage[f"{name}_color"], number) for name, number in pages.items() if f"{name}_color" in usage}
    if COLOR not in usage:
        return told
    left = min(usage[COLOR], total)
    colors: dict[str, int] = {}
    for name in pages:
        colors[name] = min(told.get(name, 0), left)
        left -= colors[name]
    for name in sorted(pages, key=lambda each: (each in told, -pages[each])):
        more = min(left, pages[name] - colors[name])
        colors[name] += more
        left -= more
    return colors
