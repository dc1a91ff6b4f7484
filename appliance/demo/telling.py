"""How the demo is told: a line for each thing that happens, a bar while the outbox drains, a table at the end.

A line has the seconds since the start, who it is about, and what happened. On a terminal it is in colour and as wide as
the terminal; elsewhere it is plain text, and there is no bar.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from appliance.demo.figures import Audit

_PLAIN_WIDTH = 500
"""Columns where the output is no terminal, so that no line is broken."""
_STYLES = {"server": "magenta", "Locum": "bold cyan", "copiers": "green", "admin": "blue", "App.Log": "yellow"}


class Bar(Protocol):
    """Takes how many records have been forwarded so far."""

    def __call__(self, done: int) -> None: ...


class Teller:
    """Tells it on standard output, or says nothing at all."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self._began = time.monotonic()
        terminal = Console(highlight=False, markup=False, emoji=False, quiet=silent)
        self._console = (
            terminal
            if terminal.is_terminal
            else Console(highlight=False, markup=False, emoji=False, quiet=silent, width=_PLAIN_WIDTH)
        )

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def tell(self, who: str, text: str, style: str = "") -> None:
        """One thing that happened."""
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=7, justify="right")
        row.add_column(width=10)
        row.add_column(overflow="fold")
        row.add_row(
            Text(f"{self.seconds:.1f} s", style="dim"),
            Text(who, style=_STYLES.get(who, "green")),
            Text(text, style=style),
        )
        self._console.print(row)

    @contextmanager
    def draining(self, total: int) -> Iterator[Bar]:
        """A bar over so many records, where there is a terminal."""
        columns = (TextColumn("           Locum forwards"), BarColumn(), MofNCompleteColumn(), TextColumn("records"))
        shown = self._console.is_terminal and not self.silent
        with Progress(*columns, console=self._console, disable=not shown) as progress:
            task = progress.add_task("", total=total)
            yield lambda done: progress.update(task, completed=done)

    def close(self, audit: Audit, kept: Path | None) -> None:
        """The closing table, the figures, and what does not fit."""
        figures, console = audit.figures, self._console
        self.chapter("Do the figures add up?")
        console.print(
            Text(
                "What each copier counted itself, what Locum's ledger holds, and what stands in the server's own book, "
                "read from the server's own file. Jobs are compared one by one, and what everybody has left to spend."
            )
        )
        console.print()
        console.print(_table(audit))
        console.print()
        for name, text in (
            (
                "Logins",
                f"{figures.logins_online} let in by the server, {figures.logins_offline} by Locum, "
                f"{figures.logins_refused} refused; unlocked by the code: {figures.unlocks}",
            ),
            (
                "Jobs",
                f"{figures.jobs_acknowledged} acknowledged to the copiers, {figures.jobs_delivered} of them in the "
                f"server's book, {figures.lost} lost, {figures.duplicates} there twice",
            ),
            ("In doubt", f"{audit.doubted} records on their way when the server died, each decided by hand"),
            ("Unknown", f"cards that nobody has: {figures.unknown_cards}; their jobs are the user unknown's"),
            (
                "Money",
                f"{audit.charged} charged to {audit.people} users, {audit.charged_unknown} of it to the unknown one; "
                + ("each has left what is right" if audit.balances_fit else "what they have left is WRONG"),
            ),
            (
                "Ledger",
                ("its chain of hashes holds" if figures.chain_verified else "its chain of hashes is BROKEN")
                + f"; warnings in App.Log: {figures.app_log_warnings}",
            ),
        ):
            console.print(Text(f"{name:9}", style="bold") + Text(text))
        console.print()
        for complaint in audit.complaints:
            console.print(Text(f"Wrong: {complaint}", style="bold red"))
        verdict = "Every figure adds up" if figures.ok else "It does NOT add up"
        console.print(
            Text(f"{verdict}. The demo took {figures.seconds:.1f} s.", style="bold green" if figures.ok else "bold red")
        )
        if kept is not None:
            console.print(Text(f"Kept in {kept}: config, ledger (state/ledger.db), book (server/book.db) and logs."))


def _table(audit: Audit) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", show_footer=True)
    lines, all_fit = audit.lines, all(line.fits for line in audit.lines)
    table.add_column("copier", footer="all")
    for title, footer in (
        ("jobs", sum(line.sent for line in lines)),
        ("acknowledged", sum(line.acknowledged for line in lines)),
        ("Locum's ledger", sum(line.ledgered for line in lines)),
        ("server's book", sum(line.delivered for line in lines)),
        ("pages", sum(line.pages for line in lines)),
        ("server's pages", sum(line.pages_delivered for line in lines)),
    ):
        table.add_column(title, footer=f"{footer:,}", justify="right")
    table.add_column("", footer=_mark(all_fit))
    for line in lines:
        counts = (line.sent, line.acknowledged, line.ledgered, line.delivered, line.pages, line.pages_delivered)
        table.add_row(line.device, *(f"{count:,}" for count in counts), _mark(line.fits))
    return table


def _mark(fits: bool) -> Text:
    return Text("same", style="green") if fits else Text("DIFFERENT", style="bold red")
