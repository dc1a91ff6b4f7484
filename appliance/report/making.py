"""Makes a report: a private copy of the ledger, its summary, its verification, the page, and the PDF of it.

The figures come from a copy that is made first, so they agree with each other however much is written meanwhile. The
file itself is verified in full. What is made appears at its place when all of it is done, or not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from appliance.report import pdf
from appliance.report.page import is_one, page
from storage import places
from storage.errors import translated
from storage.export import files
from storage.export.filters import moment
from storage.export.manifest import newest_checkpoint
from storage.export.output import CannotExport, WrongPlace, private
from storage.export.pseudonyms import Pseudonyms
from storage.export.snapshot import snapshot
from storage.summary.scope import DEFAULT_DAYS, Scope, usual_period
from storage.summary.whole import summarise
from storage.verify import verify

_PDF = b"%PDF-"

Progress = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and of how much (0: not known)."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A report on `source`. `first` and `last`: ms, None: the usual period. `target`: None: named by the period, in
    `folder`. `now`: ms. `state_dir`: nothing may be put there.
    """

    source: Path
    zone: ZoneInfo
    now: int
    version: str
    folder: Path
    target: Path | None = None
    first: int | None = None
    last: int | None = None
    devices: tuple[str, ...] = ()
    pseudonymise: bool = False
    pdf: bool = False
    force: bool = False
    state_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What was made: the files, and whether the ledger was found sound (`wrong`: what is not)."""

    places: tuple[Path, ...]
    first: date
    last: date
    jobs: int
    wrong: str | None


def make(wish: Wish, progress: Progress) -> Made:
    """Make it. Raises WrongPlace, CannotExport, NoBrowser, or a StorageError about the ledger; nothing is left then."""
    browser = pdf.browser() if wish.pdf else None
    at_work = wish.target.parent if wish.target is not None else wish.folder
    try:
        if wish.target is not None:
            _refuse(wish, wish.target)
        with ExitStack() as stack:
            folder = stack.enter_context(
                files.workshop(at_work / (wish.target.name if wish.target else "locum-report"))
            )
            return _made(wish, folder, browser, progress)
    except (sqlite3.Error, OSError) as error:
        if places.ran_out(error, at_work):
            raise CannotExport(
                f"{at_work}: the disk is full; name a larger one, the report needs room for a copy of the ledger"
            ) from error
        if isinstance(error, sqlite3.Error):
            raise translated(error, wish.source) from error
        raise CannotExport(f"{at_work}: cannot be written to ({error.strerror}); look at its owner and mode") from error


def _made(wish: Wish, folder: Path, browser: str | None, progress: Progress) -> Made:
    with snapshot(wish.source, folder, lambda done, of: progress("copying the ledger", done, of)) as connection:
        scope = _scope(wish, connection)
        days = scope.days()
        target = wish.target or wish.folder / f"locum-report-{days[0]}-{days[-1]}.html"
        _refuse(wish, target)
        progress("adding up", 0, 0)
        summary = summarise(connection, scope, Pseudonyms() if wish.pseudonymise else None)
        through = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
        checkpoint = newest_checkpoint(connection, through)
    report = verify(wish.source, progress=lambda done, of: progress("checking the ledger", done, of))
    progress("drawing", 0, 0)
    made = {folder / target.name: target}
    with private(folder / target.name) as file:
        file.write(page(summary, report, checkpoint, wish.now, wish.version))
    if browser is not None:
        progress("printing", 0, 0)
        printed = folder / _pdf_of(target).name
        pdf.print_page(browser, folder / target.name, printed)
        made[printed] = _pdf_of(target)
    for path in made:
        files.settle(path)
    files.put(made, folder)
    return Made(
        tuple(made.values()), days[0], days[-1], summary.pages.jobs, str(report.wrong) if report.wrong else None
    )


def _refuse(wish: Wish, target: Path) -> None:
    beside = [wish.source.with_name(wish.source.name + ending) for ending in ("", "-wal", "-shm", ".lock")]
    for place in (target, _pdf_of(target)) if wish.pdf else (target,):
        files.refuse(place, wish.state_dir, tuple(beside), False, wish.force)
    _refuse_others(wish, target)


def _refuse_others(wish: Wish, target: Path) -> None:
    """Only a report is replaced: what is there and is none may be the only copy of something. A PDF is known by the
    page beside it.
    """
    printed = _pdf_of(target)
    for place in (target, printed) if wish.pdf else (target,):
        if place.exists() and not (target.exists() and is_one(target)):
            raise WrongPlace(f"{place}: is no report of ours; move it away, or name another place")
    if wish.pdf and printed.exists():
        with printed.open("rb") as stream:
            if stream.read(len(_PDF)) != _PDF:
                raise WrongPlace(f"{printed}: is no PDF; move it away, or name another place")


def _scope(wish: Wish, connection: sqlite3.Connection) -> Scope:
    begin, end = usual_period(connection, wish.zone)
    last = wish.last if wish.last is not None else moment(end.isoformat(), wish.zone, end=True)
    first = wish.first
    if first is None and wish.last is None:
        first = moment(begin.isoformat(), wish.zone)
    elif first is None:
        day = Scope(last, last, wish.zone).days()[0] - timedelta(days=DEFAULT_DAYS - 1)
        first = moment(day.isoformat(), wish.zone)
    return Scope(first, max(first, last), wish.zone, wish.devices)


def _pdf_of(target: Path) -> Path:
    return target.with_suffix(".pdf")
