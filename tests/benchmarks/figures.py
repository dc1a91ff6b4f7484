"""What a benchmark hands back, and the table in which it is printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `goal` is met at or above it, or below it where `lower` is better; None: no goal.

    `freeradius` and `pyrad` hold their figure for the same thing, `beside` that of another peer or of a limit, which
    `beside_is` names; NaN where they cannot or were not asked; infinity says that they did not get there in the time
    given.
    """

    what: str
    unit: str
    locum: float
    goal: float | None = None
    lower: bool = False
    freeradius: float = math.nan
    pyrad: float = math.nan
    beside: float = math.nan
    beside_is: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.locum < self.goal if self.lower else self.locum >= self.goal

    def ratio(self, peer: float) -> str:
        """How many times better Locum is than a peer."""
        if math.isnan(peer) or math.isnan(self.locum):
            return ""
        if math.isinf(peer):
            return "peer never"
        better = (
            (peer / self.locum if self.locum else math.inf) if self.lower else (self.locum / peer if peer else math.inf)
        )
        return f"{better:.2f}"


def in_words(value: float, unit: str) -> str:
    """A figure with three digits that count."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "never"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    table = Table(title="Locum, and peers in the same run", show_lines=False)
    peers = ("FreeRADIUS", "pyrad", "beside", "vs FreeRADIUS", "vs pyrad", "vs beside")
    for name in ("figure", "Locum", "to reach", "", *peers, "note"):
        table.add_column(name, justify="left" if name in ("figure", "note") else "right")
    for each in figures:
        goal = "" if each.goal is None else ("< " if each.lower else "") + in_words(each.goal, each.unit)
        verdict = {None: "", True: "yes", False: "NO"}[each.met]
        table.add_row(
            each.what,
            in_words(each.locum, each.unit),
            goal,
            verdict,
            in_words(each.freeradius, each.unit),
            in_words(each.pyrad, each.unit),
            f"{each.beside_is} {in_words(each.beside, each.unit)}" if each.beside_is else "",
            each.ratio(each.freeradius),
            each.ratio(each.pyrad),
            each.ratio(each.beside),
            each.note,
        )
    Console(width=220).print(table)
