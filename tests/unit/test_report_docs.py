"""docs/report.md: its queries give the figures that the report has."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from storage import times
from storage.export.filters import moment
from storage.export.snapshot import snapshot
from storage.summary.scope import Scope
from storage.summary.volume import Naming
from storage.summary.whole import Summary, summarise
from tests.benchmarks.history import make
from tests.docs_pages import DOCS

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "ledger.db"
    make(path, 12_000, days=20)
    return path


@pytest.fixture(scope="module")
def summary(book: Path) -> Summary:
    scope = Scope(moment("2026-11-05", BERLIN), moment("2026-11-21", BERLIN, end=True), BERLIN)
    with snapshot(book, book.parent, lambda done, of: None) as connection:
        return summarise(connection, scope, None)


@pytest.fixture(scope="module")
def said(book: Path, summary: Summary) -> dict[str, list[list[Any]]]:
    """The rows of each query on the page, by its heading."""
    page = (DOCS / "report.md").read_text("utf-8")
    found: dict[str, list[list[Any]]] = {}
    period = {"first": times.text(summary.scope.first), "last": times.text(summary.scope.last)}
    with closing(sqlite3.connect(book)) as connection:
        connection.execute("CREATE INDEX deliveries_record ON deliveries(record)")
        for chapter in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
            title = chapter.split("\n", 1)[0]
            queries = [
                query for block in re.findall(r"```sql\n(.*?)```", chapter, re.DOTALL) for query in block.split(";")
            ]
            found[title] = [connection.execute(query, period).fetchall() for query in queries if query.strip()]
    return found


def test_pages(said: dict[str, list[list[Any]]], summary: Summary) -> None:
    (rows,) = said["Pages"]
    by_day = [
        (day.isoformat(), kind, pages) for day, kinds in summary.pages.by_day.items() for kind, pages in kinds.items()
    ]
    assert rows == by_day
    assert len(rows) > 30


def test_outages(said: dict[str, list[list[Any]]], summary: Summary) -> None:
    (rows,) = said["Outages"]
    assert [(times.milliseconds(row[1]), *row[6:]) for row in rows] == [
        (each.started, each.let_in, each.jobs, each.pages) for each in summary.outages
    ]
    assert rows


def test_copiers(said: dict[str, list[list[Any]]], summary: Summary) -> None:
    (rows,) = said["Copiers"]
    assert len(rows) == summary.devices.many
    assert {(row.name, row.jobs, row.pages, row.color_pages) for row in summary.devices.rows[:-1]} <= set(rows)


def test_people(said: dict[str, list[list[Any]]], summary: Summary) -> None:
    (rows,) = said["People"]
    called = {Naming.UNKNOWN: "unknown card", Naming.NOBODY: "no card"}
    assert len(rows) == summary.users.many
    assert {(called.get(row.naming, row.name), row.jobs, row.pages) for row in summary.users.rows[:-1]} <= set(rows)


def test_unknown_cards(said: dict[str, list[list[Any]]], summary: Summary) -> None:
    (rows,) = said["Unknown cards"]
    found = {
        (each.card, each.jobs, each.pages or None, times.text(each.first), times.text(each.last))
        for each in summary.unknown_cards
    }
    assert set(rows) == found
    assert rows


def test_records(said: dict[str, list[list[Any]]], summary: Summary) -> None:
    fates, still_open = said["Records for the server"]
    assert dict(fates) == {
        name: many
        for name, many in (
            ("taken", summary.fates.delivered),
            ("waiting", summary.fates.waiting),
            ("rejected", summary.fates.rejected),
            ("nothing to forward", summary.fates.other),
        )
        if many
    }
    assert [(row[0], row[2], row[3], row[4] or 0) for row in still_open] == [
        (each.state, each.reason, each.records, each.pages) for each in summary.open
    ]


def test_unlocks_and_drills(said: dict[str, list[list[Any]]], summary: Summary) -> None:
    outcomes, drills = said["Unlocks and drills"]
    assert dict(outcomes) == summary.unlocks.counts
    assert [row[1:] for row in drills] == [(each.device, each.did, each.reason, each.who) for each in summary.drills]
