"""The views answer what they say they answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import database
from storage.ledger import Ledger
from storage.records import (
    Counts,
    Delivery,
    DrillStep,
    EraseCard,
    MeterReading,
    Note,
    OutboxState,
    Personal,
    Sign,
    UnlockStep,
)
from storage.signing import Signer
from tests.unit.storage_samples import NOW, job

SIGNER = Signer.new()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Any]:
    """`book(items)` keeps them; `book.rows(query)` asks."""
    ledger = Ledger.open(tmp_path / "ledger.db", NOW, SIGNER)
    yield Book(ledger)
    ledger.close()


class Book:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __call__(self, *items: Any) -> None:
        self._ledger.commit(items)

    def rows(self, query: str) -> list[Any]:
        with database.reading(self._ledger.path) as connection:
            connection.row_factory = sqlite3.Row
            return [tuple(row) for row in connection.execute(query)]


def made(number: int, pages: int, event: str = "stop", job_number: str = "7", card: str = "A", **changes: Any) -> Any:
    personal = Personal(card=card, user=changes.pop("user", ""))
    given = {"event": event, "session": "s", "job_number": job_number, "personal": personal, **changes}
    return job(number, counts=Counts("copy", pages), **given)


def test_a_job_reported_more_than_once_counts_once_in_every_sum(book: Any) -> None:
    book(made(1, 3, "interim"), made(2, 9, "interim"), made(3, 12), made(4, 5, "interim", "8"))
    assert book.rows("SELECT seq FROM jobs_counted ORDER BY seq") == [(3,), (4,)]
    assert book.rows("SELECT seq FROM jobs_full ORDER BY seq") == [(1,), (2,), (3,), (4,)]
    for name in ("card", "device", "day", "user"):
        assert book.rows(f"SELECT sum(jobs), sum(pages) FROM jobs_by_{name}") == [(2, 17)]


def test_the_same_number_on_another_device_or_in_another_session_is_another_job(book: Any) -> None:
    book(made(1, 3, "interim"), made(2, 9, session="t"), made(3, 9, device="copier-2"))
    assert len(book.rows("SELECT * FROM jobs_counted")) == 3


def test_jobs_that_name_neither_session_nor_number_are_not_taken_for_one(book: Any) -> None:
    book(*(made(number, 3, "interim", "", session="") for number in (1, 2, 3)))
    assert book.rows("SELECT jobs, pages FROM jobs_by_device") == [(3, 9)]


def test_pages_belong_to_whom_the_server_named_else_to_the_devices_user(book: Any) -> None:
    book(made(1, 1, job_number="1"), made(2, 2, job_number="2", user="ben"), made(3, 4, job_number="3", user="x"))
    book(Delivery(NOW, 1, "hq", "delivered", None, 1, user="ada"))
    book(Delivery(NOW, 3, "hq", "refused", OutboxState.REJECTED, 1, user="nobody"))
    book(Delivery(NOW, 3, "hq", "delivered", None, 2, user="ada"))
    assert book.rows("SELECT user, jobs, pages FROM jobs_by_user") == [("ada", 2, 5), ("ben", 1, 2)]


def test_readings_are_in_order_with_what_they_went_up_by(book: Any) -> None:
    def reading(at: int, value: int, event: str = "reading", device: str = "d") -> MeterReading:
        return MeterReading(NOW, device, "total", value, NOW + at, event)

    book(reading(3, 20), reading(1, 10), reading(5, 1, "reset"), reading(2, 7, device="e"), reading(9, 4))
    assert book.rows("SELECT device, value, since_before FROM readings") == [
        ("d", 10, None), ("d", 20, 10), ("d", 1, None), ("d", 4, 3), ("e", 7, None),
    ]  # fmt: skip


def test_the_last_reading_entered_for_a_moment_counts(book: Any) -> None:
    def reading(at: int, value: int, event: str = "reading") -> MeterReading:
        return MeterReading(NOW, "d", "total", value, NOW + at, event)

    book(reading(1, 10), reading(2, 0, "exchange"), reading(2, 150), reading(2, 15), reading(3, 4))
    assert book.rows("SELECT event, value, since_before FROM readings") == [
        ("reading", 10, None), ("reading", 15, 5), ("exchange", 0, None), ("reading", 4, 4),
    ]  # fmt: skip


def test_checkpoints_are_readable_without_json(book: Any) -> None:
    book(made(1, 1), Sign(NOW))
    [(number, seq, at, installation, key)] = book.rows(
        "SELECT number, seq, time, installation, public_key FROM checkpoints_full"
    )
    assert (number, seq, at) == (1, 1, "2026-11-22T10:15:03.120Z")
    assert (installation, key) == (SIGNER.installation, SIGNER.public_key.hex().upper())


def test_erasures_exports_and_what_was_done_by_hand(book: Any) -> None:
    book(
        made(1, 1, outbox=None),
        EraseCard(NOW, "A", "root, uid 0", "asked for"),
        Note(NOW, "export", {"to": "/srv/x.db", "format": "sqlite", "through": 2, "pseudonymised": 1}, "ada, uid 7"),
        Note(NOW, "backup", {"to": "/srv/b.db", "backup": "ab", "through": 3}, "ada, uid 7"),
        UnlockStep(NOW, "copier-1", "hq", "by-hand-unlocked", "once", who="ada, uid 7"),
        DrillStep(NOW, "*", "start", NOW + 5, "a test", "ada, uid 7"),
        MeterReading(NOW, "copier-1", "total", 12, NOW, who="ada, uid 7"),
    )
    assert book.rows("SELECT what, entries, reason, who FROM erasures") == [("card", 1, "asked for", "root, uid 0")]
    assert book.rows("SELECT note, file, format, through, pseudonymised FROM exports") == [
        ("export", "/srv/x.db", "sqlite", 2, 1),
        ("backup", "/srv/b.db", None, 3, None),
    ]
    did = [row[0] for row in book.rows("SELECT did FROM by_hand")]
    assert did == ["erased", "export", "backup", "by-hand-unlocked", "drill start", "meter reading"]


def test_what_was_not_taken_is_listed_with_and_without_counts(book: Any) -> None:
    book(made(1, 4), job(2, counts=None, event="start", session="z"))
    assert book.rows("SELECT seq, event, pages FROM records_not_taken") == [(1, "stop", 4), (2, "start", None)]
