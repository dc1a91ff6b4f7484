"""Meters against the ledger: what a counter went up by, against the jobs that were taken in the same time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import database
from storage.ledger import Ledger
from storage.reconciliation import DeviceGap, Reading, reconcile
from storage.records import Counts, MeterReading
from tests.unit.storage_samples import NOW, job

HOUR = 3_600_000
DEVICE = "KM-A4F-000123"


def at(hour: float) -> int:
    return NOW + round(hour * HOUR)


def reading(hour: float, value: int, counter: str = "total", event: str = "reading", device: str = DEVICE) -> Any:
    return MeterReading(at(hour), device, counter, value, at(hour), event)


def made(number: int, hour: float, pages: int, kind: str = "copy", color: int | None = None, **changes: Any) -> Any:
    return job(number, at=at(hour), counts=Counts(kind, pages, color), **changes)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Any]:
    """`book(items)` keeps them and gives a connection that reads the ledger."""
    ledger = Ledger.open(tmp_path / "ledger.db", NOW)
    connections: list[sqlite3.Connection] = []

    def keep(*items: Any) -> sqlite3.Connection:
        ledger.commit(items)
        connections.append(database.open_reader(ledger.path))
        return connections[-1]

    yield keep
    for each in connections:
        each.close()
    ledger.close()


def only(found: list[DeviceGap]) -> DeviceGap:
    [gap] = found
    return gap


def test_the_gap_is_what_the_meter_counted_less_the_jobs_between_its_readings(book: Any) -> None:
    connection = book(reading(0, 1000), made(1, 0.5, 40), made(2, 0.9, 50), reading(1, 1100), made(3, 1.5, 999))
    gap = only(reconcile(connection, at(-1), at(2)))
    assert (gap.meter, gap.ledger, gap.gap, gap.percent) == (100, 90, 10, 10.0)
    assert (gap.first_reading, gap.last_reading) == (Reading(1000, at(0)), Reading(1100, at(1)))
    assert gap.remarks == ()


def test_a_job_at_the_moment_of_a_reading_was_on_the_meter_already(book: Any) -> None:
    connection = book(reading(0, 0), made(1, 0, 7), made(2, 1, 5), reading(1, 5), reading(2, 5))
    assert [each.ledger for each in only(reconcile(connection, at(-1), at(3))).segments] == [5, 0]


def test_each_counter_counts_its_own_and_a_scan_makes_no_page(book: Any) -> None:
    jobs = [made(1, 0.1, 8, "copy", 3), made(2, 0.2, 4, "print"), made(3, 0.3, 2, "fax"), made(4, 0.4, 9, "scan", 9)]
    counters = ("total", "color", "mono", "copy", "print", "scan", "fax")
    readings = [reading(hour, 0, counter) for hour in (0, 1) for counter in counters]
    found = reconcile(book(*readings, *jobs), at(-1), at(2))
    assert {each.counter: each.ledger for each in found} == {
        "total": 14, "color": 3, "mono": 11, "copy": 8, "print": 4, "scan": 9, "fax": 2,
    }  # fmt: skip


@pytest.mark.parametrize("event", ["reset", "exchange"])
def test_what_was_made_before_a_reset_is_not_known_and_counted_on_neither_side(book: Any, event: str) -> None:
    connection = book(
        reading(0, 500), made(1, 0.5, 10), reading(1, 510), made(2, 1.5, 99), reading(2, 0, event=event),
        made(3, 2.5, 20), reading(3, 25),
    )  # fmt: skip
    gap = only(reconcile(connection, at(-1), at(4)))
    assert (gap.meter, gap.ledger, gap.gap) == (35, 30, 5)
    assert [(each.start.at, each.end.at) for each in gap.segments] == [(at(0), at(1)), (at(2), at(3))]
    [remark] = gap.remarks
    assert remark.startswith(f"{event} at ")
    assert remark.endswith("is not known")


def test_a_value_that_falls_without_a_word_is_named(book: Any) -> None:
    connection = book(reading(0, 500), reading(1, 510), reading(2, 3), reading(3, 8))
    gap = only(reconcile(connection, at(-1), at(4)))
    assert gap.meter == 15
    assert "it fell from 510 to 3 unexplained" in gap.remarks[0]


def test_a_value_entered_once_more_takes_the_place_of_the_first(book: Any) -> None:
    connection = book(reading(0, 500), reading(1, 9010), reading(1, 510), reading(2, 520))
    gap = only(reconcile(connection, at(-1), at(3)))
    assert (gap.meter, gap.remarks) == (20, ())


def test_what_a_meter_counted_before_the_ledger_began_is_named(book: Any) -> None:
    connection = book(made(1, 0.5, 10), reading(-1, 100), reading(1, 170))
    [remark] = only(reconcile(connection, at(-2), at(2))).remarks
    assert remark.startswith("the ledger begins at ")


def test_jobs_that_came_late_are_counted_when_they_were_taken_and_named(book: Any) -> None:
    connection = book(
        reading(0, 0),
        made(1, 0.1, 7, ended_at=at(-0.2)),
        made(2, 0.5, 20, ended_at=at(0.4)),
        reading(1, 25),
        made(3, 1.5, 5, ended_at=at(0.9)),
    )
    gap = only(reconcile(connection, at(-1), at(1.2)))
    assert (gap.ledger, gap.gap) == (27, -2)
    assert gap.remarks == (
        "by the device's clock 5 pages that were taken later were made in this time",
        "by the device's clock 7 pages of the ledger were made at another time",
    )


def test_a_device_whose_clock_is_years_behind_is_not_believed(book: Any) -> None:
    connection = book(reading(0, 0), made(1, 0.1, 7, ended_at=5_000), reading(1, 7))
    assert only(reconcile(connection, at(-1), at(2))).remarks == ()


def test_pages_that_may_be_in_colour_or_not_are_named(book: Any) -> None:
    readings = [reading(hour, hour * 8, counter) for hour in (0, 1) for counter in ("total", "mono")]
    mono, total = reconcile(book(*readings, made(1, 0.1, 8)), at(-1), at(2))
    assert (total.remarks, mono.ledger) == ((), 8)
    assert mono.remarks[0].startswith("8 pages of the ledger do not say how many were in colour")


def test_a_job_reported_twice_counts_once(book: Any) -> None:
    same: dict[str, Any] = {"session": "s", "job_number": "7"}
    connection = book(
        reading(0, 0),
        made(1, 0.1, 3, event="interim", **same),
        made(2, 0.2, 9, event="interim", **same),
        made(3, 0.3, 12, event="stop", **same),
        made(4, 0.4, 5, event="interim", session="died", job_number="8"),
        reading(1, 17),
    )
    assert only(reconcile(connection, at(-1), at(2))).ledger == 12 + 5


def test_a_period_without_two_readings_is_seen_between_those_next_around_it(book: Any) -> None:
    connection = book(
        reading(-90, 1), reading(-5, 100), made(1, 0.5, 10), reading(4, 112), reading(50, 900), made(2, 45, 5)
    )
    gap = only(reconcile(connection, at(0), at(1)))
    assert (gap.first_reading.value, gap.last_reading.value, gap.gap) == (100, 112, 2)


def test_a_counter_that_was_read_once_says_nothing(book: Any) -> None:
    connection = book(reading(0, 5), reading(0, 1, device="other"), reading(1, 2, device="other"))
    assert [each.device for each in reconcile(connection, at(-1), at(2))] == ["other"]
    assert reconcile(connection, at(-1), at(2), DEVICE) == []


def test_readings_are_in_the_order_in_which_they_were_taken_not_entered(book: Any) -> None:
    connection = book(reading(2, 30), reading(0, 10), made(1, 1, 20))
    assert only(reconcile(connection, at(-1), at(3))).gap == 0


def test_a_meter_that_stood_still_has_no_percentage(book: Any) -> None:
    gap = only(reconcile(book(reading(0, 5), made(1, 0.5, 2), reading(1, 5)), at(-1), at(2)))
    assert (gap.gap, gap.percent) == (-2, None)
