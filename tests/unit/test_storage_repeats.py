"""When a record is the same as one before: offline-mode.md, Jobs; dialects/radius.md, Accounting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.answers import Repeat, Stored
from storage.ledger import Ledger
from storage.records import Record
from tests.unit.storage_samples import DAY, NOW, job, key_of, mark, restart


class Shelf:
    """A ledger that can be closed and opened again, and says of each record whether it was new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger.open(path, NOW)

    def keep(self, *records: Record) -> list[str]:
        return ["new" if isinstance(outcome, Stored) else "repeat" for outcome in self.ledger.commit(records)]

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.path, NOW)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path / "ledger.db")
    yield made
    made.ledger.close()


def test_a_repeat_is_answered_with_the_first_ones_number_and_stored_once(shelf: Shelf) -> None:
    first = shelf.ledger.commit([job(1)])[0]
    assert isinstance(first, Stored)
    assert shelf.ledger.commit([job(1, at=NOW + 5)]) == [Repeat(first.seq, first.id)]
    assert shelf.ledger.head[0] == 1


def test_a_repeat_within_the_same_batch_is_found_too(shelf: Shelf) -> None:
    outcomes = shelf.ledger.commit([job(1), job(2), job(1)])
    assert isinstance(outcomes[0], Stored)
    assert outcomes[2] == Repeat(outcomes[0].seq, outcomes[0].id)


def test_a_repeat_is_known_across_a_restart(shelf: Shelf) -> None:
    shelf.keep(job(1))
    shelf.reopen()
    assert shelf.keep(job(1)) == ["repeat"]


def test_the_same_key_from_another_client_is_no_repeat(shelf: Shelf) -> None:
    assert shelf.keep(job(1), job(1, repeat_scope="10.7.0.32")) == ["new", "new"]


def test_one_shared_key_of_several_is_enough(shelf: Shelf) -> None:
    keys = [key_of(name) for name in "abc"]
    assert shelf.keep(job(1, repeat_keys=(keys[0], keys[1]))) == ["new"]
    assert shelf.keep(job(1, repeat_keys=(keys[2], keys[1]))) == ["repeat"]
    assert shelf.keep(job(1, repeat_keys=(keys[2],))) == ["new"]


def test_a_record_without_keys_is_never_a_repeat(shelf: Shelf) -> None:
    assert shelf.keep(job(1, repeat_keys=()), job(1, repeat_keys=())) == ["new", "new"]


def test_after_a_day_the_same_bytes_are_a_new_record(shelf: Shelf) -> None:
    assert shelf.keep(job(1)) == ["new"]
    assert shelf.keep(job(1, at=NOW + DAY)) == ["repeat"]
    assert shelf.keep(job(1, at=NOW + DAY + 1)) == ["new"]
    assert shelf.keep(job(1, at=NOW + DAY + 2)) == ["repeat"]


def test_old_marks_are_forgotten_in_the_file_too(shelf: Shelf) -> None:
    for start in range(0, 6_000, 500):
        shelf.keep(*[job(number) for number in range(start, start + 500)])
    held = "SELECT (SELECT count(*) FROM repeats) + (SELECT count(*) FROM recent_repeats)"
    assert shelf.ledger._connection.execute(held).fetchone()[0] == 6_000
    for minute in range(1, 6):
        shelf.keep(job(10_000 + minute, at=NOW + DAY + minute * 60_001))
    assert shelf.ledger._connection.execute(held).fetchone()[0] < 2_100


def test_marks_are_known_wherever_they_lie(shelf: Shelf) -> None:
    for start in range(0, 5_000, 250):
        assert set(shelf.keep(*[job(number) for number in range(start, start + 250)])) == {"new"}
    assert set(shelf.keep(*[job(number) for number in range(5_000)])) == {"repeat"}
    shelf.reopen()
    assert set(shelf.keep(*[job(number) for number in range(5_000)])) == {"repeat"}


def test_session_ids_used_again_after_an_accounting_on_are_no_repeats(shelf: Shelf) -> None:
    assert shelf.keep(mark("start", key="s1"), job(1)) == ["new", "new"]
    assert shelf.keep(restart()) == ["new"]
    assert shelf.keep(mark("start", key="s1"), job(1)) == ["new", "new"]
    assert shelf.keep(mark("start", key="s1"), job(1)) == ["repeat", "repeat"]


def test_an_accounting_on_ends_repeats_within_a_batch(shelf: Shelf) -> None:
    assert shelf.keep(job(1), restart(), job(1), job(1)) == ["new", "new", "new", "repeat"]


def test_an_accounting_on_ends_repeats_across_a_restart_of_locum(shelf: Shelf) -> None:
    shelf.keep(job(1), restart())
    shelf.reopen()
    assert shelf.keep(job(1), job(1)) == ["new", "repeat"]


def test_an_accounting_on_of_one_device_leaves_the_others_alone(shelf: Shelf) -> None:
    shelf.keep(job(1), restart(repeat_scope="10.7.0.32"))
    assert shelf.keep(job(1)) == ["repeat"]


def test_an_accounting_on_repeats_only_the_very_last_record(shelf: Shelf) -> None:
    assert shelf.keep(restart(), restart()) == ["new", "repeat"]
    shelf.reopen()
    assert shelf.keep(restart()) == ["repeat"]
    assert shelf.keep(job(1), restart()) == ["new", "new"]
    assert shelf.keep(job(1)) == ["new"]


def test_a_record_without_keys_comes_between_all_the_same(shelf: Shelf) -> None:
    assert shelf.keep(restart(), job(1, repeat_keys=()), restart()) == ["new", "new", "new"]


def test_accounting_off_and_on_follow_each_other(shelf: Shelf) -> None:
    off = mark("off", key="off", ends_repeats=True)
    assert shelf.keep(off, restart(), off, restart()) == ["new"] * 4
    assert shelf.keep(restart()) == ["repeat"]


def test_a_batch_that_failed_leaves_no_marks(shelf: Shelf) -> None:
    shelf.ledger._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(Exception, match="cannot store"):
        shelf.keep(job(1), restart())
    shelf.ledger._connection.execute("PRAGMA query_only = 0")
    assert shelf.keep(job(1), restart(), job(1)) == ["new", "new", "new"]
