"""The chapter on meters: what the copiers' own counters say beside the ledger's figures."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from appliance.report import gaps
from storage.ledger import Ledger
from storage.records import MeterReading
from storage.summary.meters import Gap
from storage.summary.whole import Summary
from tests.peers.skips import skip
from tests.unit.test_report_figures import ask, at, write


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    write(path)
    return path


@pytest.fixture
def summary(book: Path) -> Summary:
    return ask(book, "2026-11-22", "2026-11-23")


def test_without_readings_a_sentence_says_so(summary: Summary) -> None:
    chapter = gaps.meters(summary)
    assert (chapter.chart, chapter.tables) == (None, ())
    assert "No readings" in chapter.says[0]


def test_a_gap_is_told_in_pages_and_percent(summary: Summary) -> None:
    found = (
        Gap("KM-1", "total", at(0), at(600), 1_000, 900, 100, 10.0, ("an unexplained fall",)),
        Gap("KM-2", "total", at(0), at(600), 200, 200, 0, 0.0),
        Gap("KM-2", "color", at(0), at(600), 0, 5, -5, None),
    )
    chapter = gaps.meters(replace(summary, gaps=found))
    assert "of 2 copiers counted 1,200 pages, and the ledger has 1,100 of the same times: 100 fewer" in chapter.says[0]
    assert "8 %" in chapter.says[0]
    rows = [(row[0], row[1], *row[4:]) for row in chapter.tables[0].rows]
    assert rows == [
        ("KM-1", "total", "1,000", "900", "+100", "+10.0 %", "an unexplained fall"),
        ("KM-2", "total", "200", "200", "+0", "+0.0 %", ""),
        ("KM-2", "color", "0", "5", "-5", gaps.wording.NOT_THERE, ""),
    ]
    assert chapter.chart is not None
    assert "1,000" in chapter.chart


def test_the_ledgers_readings_are_reconciled(book: Path) -> None:
    if find_spec("storage.reconciliation") is None:
        skip("storage.reconciliation is not there")
    with closing(Ledger.open(book, at(1000))) as ledger:
        ledger.commit(
            [
                MeterReading(at(1000), "KM-A4F-000123", "total", value, at(minutes), who="technician")
                for minutes, value in ((0, 5_000), (60, 5_030))
            ]
        )
    (gap,) = [each for each in ask(book, "2026-11-22", "2026-11-22").gaps if each.counter == "total"]
    assert (gap.device, gap.meter, gap.ledger, gap.gap) == ("KM-A4F-000123", 30, 22, 8)
