"""A job is known for ever by its device and the device's own number: offline-mode.md, Jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.answers import Repeat, Stored
from storage.errors import CannotStore, NotStorable
from storage.ledger import Ledger
from storage.records import Record
from tests.unit.storage_samples import DAY, NOW, job, key_of
from tests.unit.test_storage_database import damage, page_of


def numbered(number: int, content: str = "", **changes: Any) -> Record:
    """A job of a device that numbers its jobs for ever."""
    keys = (key_of(f"number {number}"), key_of(content or f"content {number}"))
    given: dict[str, Any] = {"dialect": "terminal", "repeat_scope": "KM-A4F-000123", "for_ever": True}
    return job(number, **{**given, "repeat_keys": keys, **changes})


class Shelf:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger.open(path, NOW)

    def keep(self, *records: Record) -> list[str]:
        told = []
        for outcome in self.ledger.commit(records):
            if isinstance(outcome, Repeat):
                told.append(f"repeat of {outcome.seq}")
            else:
                assert isinstance(outcome, Stored)
                told.append("conflict" if outcome.conflict else "new")
        return told

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.path, NOW)

    def ask(self, query: str) -> list[Any]:
        return self.ledger._connection.execute(query).fetchall()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "ledger.db")
    yield made
    made.ledger.close()


def test_the_same_number_with_the_same_content_is_a_repeat_years_later_too(shelf: Shelf) -> None:
    assert shelf.keep(numbered(1)) == ["new"]
    assert shelf.keep(numbered(1, at=NOW + 3_000 * DAY)) == ["repeat of 1"]
    shelf.reopen()
    assert shelf.keep(numbered(1)) == ["repeat of 1"]
    assert shelf.ledger.head[0] == 1


def test_a_repeat_names_the_id_that_was_given_first(shelf: Shelf) -> None:
    first = shelf.ledger.commit([numbered(1)])[0]
    assert isinstance(first, Stored)
    assert shelf.ledger.commit([numbered(1)]) == [Repeat(first.seq, first.id)]


def test_the_same_number_with_another_content_is_stored_as_a_conflict(shelf: Shelf) -> None:
    assert shelf.keep(numbered(1)) == ["new"]
    assert shelf.keep(numbered(1, "another")) == ["conflict"]
    assert shelf.ask("SELECT seq, job_number, event FROM jobs") == [(1, "1", "stop"), (2, "1", "conflict")]
    assert shelf.ask("SELECT count(*) FROM outbox") == [(2,)]


def test_a_repeat_of_either_content_is_a_repeat_of_its_own(shelf: Shelf) -> None:
    shelf.keep(numbered(1), numbered(1, "another"))
    for _ in range(2):
        assert shelf.keep(numbered(1, "another"), numbered(1)) == ["repeat of 2", "repeat of 1"]
        shelf.reopen()
    assert shelf.keep(numbered(1, "a third")) == ["conflict"]


def test_all_of_it_within_one_batch(shelf: Shelf) -> None:
    told = shelf.keep(numbered(1), numbered(1), numbered(1, "b"), numbered(1, "b"), numbered(1), numbered(2))
    assert told == ["new", "repeat of 1", "conflict", "repeat of 2", "repeat of 1", "new"]


def test_the_same_number_of_another_device_is_another_job(shelf: Shelf) -> None:
    assert shelf.keep(numbered(1), numbered(1, repeat_scope="KM-B")) == ["new", "new"]


def test_a_conflict_without_counts_is_marked_too(shelf: Shelf) -> None:
    shelf.keep(numbered(1, counts=None), numbered(1, "b", counts=None))
    assert shelf.ask("SELECT event FROM accounting ORDER BY seq") == [("stop",), ("conflict",)]


def test_numbers_for_ever_and_keys_for_a_day_do_not_meet(shelf: Shelf) -> None:
    shelf.keep(numbered(1))
    plain = job(1, repeat_scope="KM-A4F-000123", repeat_keys=numbered(1).repeat_keys)
    assert shelf.keep(plain, plain) == ["new", "repeat of 2"]
    assert shelf.keep(numbered(1)) == ["repeat of 1"]


def test_numbers_are_known_wherever_they_lie(shelf: Shelf) -> None:
    for start in range(0, 5_000, 250):
        assert set(shelf.keep(*[numbered(number) for number in range(start, start + 250)])) == {"new"}
    assert shelf.ask("SELECT count(*) > 0 FROM job_numbers") == [(1,)]
    assert shelf.ask("SELECT count(*) > 0 FROM recent_job_numbers") == [(1,)]
    for _ in range(2):
        again = shelf.keep(*[numbered(number) for number in range(5_000)])
        assert again == [f"repeat of {number + 1}" for number in range(5_000)]
        shelf.reopen()
    assert shelf.keep(numbered(7, "b"), numbered(4_990, "b")) == ["conflict", "conflict"]
    assert shelf.keep(numbered(7, "b"), numbered(4_990, "b")) == ["repeat of 5001", "repeat of 5002"]


@pytest.mark.parametrize("keys", [(), (b"1",), (b"1", b"2", b"3"), ("1", b"2"), None])
def test_a_record_known_for_ever_has_a_number_and_a_content_or_is_not_storable(shelf: Shelf, keys: Any) -> None:
    outcomes = shelf.ledger.commit([numbered(1, repeat_keys=keys), numbered(2)])
    assert [type(outcome) for outcome in outcomes] == [NotStorable, Stored]


def test_a_batch_that_failed_leaves_no_numbers(shelf: Shelf) -> None:
    shelf.ledger._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(CannotStore):
        shelf.keep(numbered(1))
    shelf.ledger._connection.execute("PRAGMA query_only = 0")
    assert shelf.keep(numbered(1), numbered(1)) == ["new", "repeat of 1"]


def test_one_bad_value_in_a_batch_costs_no_number(shelf: Shelf) -> None:
    bad = numbered(2, at=10**20)
    assert [type(o) for o in shelf.ledger.commit([numbered(1), bad, numbered(1, "b")])] == [Stored, NotStorable, Stored]
    assert shelf.keep(numbered(2)) == ["new"]


def test_old_numbers_are_never_forgotten(shelf: Shelf) -> None:
    for start in range(0, 3_000, 500):
        shelf.keep(*[numbered(number) for number in range(start, start + 500)])
    for day in range(1, 4):
        shelf.keep(job(10_000 + day, at=NOW + day * 400 * DAY))
    assert shelf.ask("SELECT (SELECT count(*) FROM job_numbers) + (SELECT count(*) FROM recent_job_numbers)") == [
        (3_000,)
    ]


def test_a_recovery_keeps_what_can_be_read_and_makes_the_index_anew(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "ledger.db")
    for start in range(0, 6_000, 500):
        shelf.keep(*[numbered(number) for number in range(start, start + 500)])
    held = shelf.ask("SELECT count(*) FROM job_numbers")[0][0]
    shelf.ledger.close()
    damage(shelf.path, [*page_of(shelf.path, "job_numbers_mark")[:2], *page_of(shelf.path, "job_numbers")[5:6]])
    damage(shelf.path, page_of(shelf.path, "lives"))
    shelf.ledger = Ledger.open(shelf.path, NOW)
    assert "6000 entries were recovered" in shelf.ledger.words[0]
    kept = shelf.ask("SELECT count(*) FROM job_numbers")[0][0]
    assert held - 100 < kept < held
    told = shelf.keep(*[numbered(number) for number in range(6_000)])
    assert told.count("new") == held - kept
    assert shelf.ask("PRAGMA integrity_check") == [("ok",)]
    shelf.ledger.close()
