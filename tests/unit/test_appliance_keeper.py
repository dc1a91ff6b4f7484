"""The keeper: stops taking new things before the disk does, and lets the outbox drain on the reserve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import keeper as module
from appliance.keeper import FULL, Keeper
from storage.answers import Stored, Taken
from storage.errors import CannotStore
from storage.ledger import Ledger
from storage.records import AppLogLine, Delivery, Keepable, Mode, OutboxState, Personal, Record, Take
from storage.space import Level, SpaceWatch

WALL = 1_795_000_000_000
MIB = 1 << 20


def record(number: int) -> Record:
    return Record(
        WALL, "radius", "hq", "c1", "10.0.0.1", "interim", "s", Mode.OFFLINE, f"k{number}", Personal(raw=b"raw")
    )


class Disk:
    """A file system of 1 GiB whose room the test says."""

    def __init__(self) -> None:
        self.free = 900 * MIB
        self.gone = False

    def measure(self, folder: Path) -> tuple[int, int]:
        if self.gone:
            raise OSError(5, "Input/output error")
        return 1024 * MIB, self.free


class Failing:
    """A ledger that meets a full disk when told to."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.full_for: tuple[type, ...] = ()

    def commit(self, batch: list[Keepable]) -> list[object]:
        if any(isinstance(item, self.full_for) for item in batch):
            raise CannotStore("cannot store: the disk is full")
        return list(self.ledger.commit(batch))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    ledger = Ledger.open(tmp_path / "ledger.db", WALL)
    yield Failing(ledger)
    ledger.close()


@pytest.fixture
def make_keeper(tmp_path: Path, disk: Disk, failing: Failing, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Keeper]:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.0)
    return lambda: Keeper(failing, SpaceWatch(tmp_path, disk.measure))  # type: ignore[arg-type]


def test_with_room_everything_is_kept(make_keeper: Callable[[], Keeper]) -> None:
    keeper = make_keeper()
    assert all(isinstance(result, Stored) for result in keeper.commit([record(1), AppLogLine(WALL, "info", "x")]))
    assert keeper.space is not None
    assert keeper.space.level is Level.ENOUGH
    assert keeper.error == ""


def test_nearly_full_nothing_new_is_kept_but_the_outbox_drains(make_keeper: Callable[[], Keeper], disk: Disk) -> None:
    keeper = make_keeper()
    (stored,) = keeper.commit([record(1)])
    assert isinstance(stored, Stored)
    disk.free = MIB
    done = Delivery(WALL, stored.seq, "hq", "delivered", None, 1)
    results = keeper.commit([Take(WALL, "hq", (stored.seq,)), record(2), done, AppLogLine(WALL, "error", "full")])
    assert [type(result) for result in results] == [Taken, CannotStore, Stored, Stored]
    assert str(results[1]) == FULL
    assert keeper.space is not None
    assert keeper.space.level is Level.FULL


def test_with_room_again_records_are_kept_again(make_keeper: Callable[[], Keeper], disk: Disk) -> None:
    keeper = make_keeper()
    disk.free = MIB
    assert isinstance(keeper.commit([record(1)])[0], CannotStore)
    disk.free = 900 * MIB
    assert isinstance(keeper.commit([record(1)])[0], Stored)


def test_a_commit_that_meets_a_full_disk_gives_the_reserve_back_and_saves_what_drains(
    make_keeper: Callable[[], Keeper], failing: Failing, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = make_keeper()
    (stored,) = keeper.commit([record(1)])
    assert isinstance(stored, Stored)
    assert (tmp_path / "reserve").exists()
    monkeypatch.setattr(module, "LOOK_EVERY", 3600.0)
    disk.free = MIB
    failing.full_for = (Record,)
    back = Delivery(WALL, stored.seq, "hq", "unanswered", OutboxState.WAITING, 1)
    results = keeper.commit([record(2), back])
    assert [type(result) for result in results] == [CannotStore, Stored]
    assert not (tmp_path / "reserve").exists()


def test_what_fails_altogether_is_said_and_well_again_afterwards(
    make_keeper: Callable[[], Keeper], failing: Failing
) -> None:
    keeper = make_keeper()
    failing.full_for = (Record, AppLogLine)
    with pytest.raises(CannotStore):
        keeper.commit([record(1), AppLogLine(WALL, "info", "x")])
    assert "the disk is full" in keeper.error
    failing.full_for = ()
    keeper.commit([AppLogLine(WALL, "info", "x")])
    assert keeper.error == ""


def test_a_file_system_that_cannot_be_asked_stops_nothing(make_keeper: Callable[[], Keeper], disk: Disk) -> None:
    keeper = make_keeper()
    disk.gone = True
    assert isinstance(keeper.commit([record(1)])[0], Stored)


def test_an_empty_batch_is_a_look_at_the_room(make_keeper: Callable[[], Keeper], disk: Disk, tmp_path: Path) -> None:
    keeper = make_keeper()
    assert keeper.commit([]) == []
    assert (tmp_path / "reserve").exists()
    disk.free = MIB
    keeper.commit([])
    assert keeper.space is not None
    assert keeper.space.level is Level.FULL
    assert not (tmp_path / "reserve").exists(), "what waits can drain at once"


def test_another_look_is_due_two_seconds_after_the_last(make_keeper: Callable[[], Keeper]) -> None:
    keeper = make_keeper()
    assert keeper.looks_again(time.monotonic())
    keeper.commit([record(1)])
    assert not keeper.looks_again(time.monotonic())
    assert keeper.looks_again(time.monotonic() + 2)


def test_what_failed_is_well_again_when_something_was_stored_and_not_by_a_look(
    make_keeper: Callable[[], Keeper], failing: Failing
) -> None:
    """A quota may be full on a file system that has room."""
    keeper = make_keeper()
    keeper.commit([record(1)])
    failing.full_for = (Record,)
    assert isinstance(keeper.commit([record(2)])[0], CannotStore)
    keeper.commit([])
    assert keeper.space is not None
    assert keeper.space.level is Level.FULL
    assert "the disk is full" in keeper.error
    failing.full_for = ()
    assert isinstance(keeper.commit([record(2)])[0], Stored)
    assert (keeper.space.level, keeper.error) == (Level.ENOUGH, "")


def test_what_cannot_be_asked_is_said_until_it_can(make_keeper: Callable[[], Keeper], disk: Disk) -> None:
    keeper = make_keeper()
    disk.gone = True
    keeper.commit([record(1)])
    assert "cannot be asked for its room: Input/output error" in keeper.error
    disk.gone = False
    keeper.commit([])
    assert keeper.error == ""
