"""Low disk: ledger.md, Durability. The thresholds, the reserve, and a file system that is really full."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import proof, space
from storage.answers import Stored
from storage.database import reading
from storage.errors import CannotStore
from storage.ledger import Ledger
from storage.records import Delivery, Login, Note, OutboxState, Record, Take, UnlockStep
from storage.space import Level, SpaceWatch
from tests.unit.storage_samples import NOW, job, login

MIB = 1 << 20


class Disk:
    """A file system of which the test says how much is free; the reserve takes its share of that."""

    def __init__(self, folder: Path, total: int) -> None:
        self.folder, self.total, self.unused = folder, total, total

    def measure(self, folder: Path) -> tuple[int, int]:
        reserve = folder / "reserve"
        return self.total, self.unused - (reserve.stat().st_size if reserve.exists() else 0)


@pytest.mark.parametrize(
    ("total", "free", "level"),
    [
        (1000 * MIB, 500 * MIB, Level.ENOUGH),
        (1000 * MIB, 99 * MIB, Level.LOW),
        (1000 * MIB, 49 * MIB, Level.VERY_LOW),
        (1000 * MIB, 3 * MIB, Level.FULL),
        (16 * MIB, 14 * MIB, Level.ENOUGH),
        (16 * MIB, MIB // 3, Level.VERY_LOW),
        (16 * MIB, MIB // 5, Level.FULL),
    ],
)
def test_thresholds_are_relative_to_the_file_system(total: int, free: int, level: Level) -> None:
    assert space.level_of(total, free) is level


def test_the_reserve_is_made_released_when_full_and_made_again(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1000 * MIB)
    watch = SpaceWatch(tmp_path, disk.measure)
    reserve = tmp_path / "reserve"
    assert watch.look().level is Level.ENOUGH
    assert reserve.stat().st_size == 8 * MIB
    assert stat.S_IMODE(reserve.stat().st_mode) == 0o600
    disk.unused = 11 * MIB
    assert watch.look().level is Level.FULL
    assert not reserve.exists()
    assert watch.look().level is Level.FULL, "its own release is no new room"
    disk.unused = 100 * MIB
    assert watch.look().level is Level.LOW
    assert reserve.exists()


def test_full_ends_only_when_there_is_clearly_room_again(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1000 * MIB)
    watch = SpaceWatch(tmp_path, disk.measure)
    levels = []
    for unused in (11, 13, 15, 17, 15, 11):
        disk.unused = unused * MIB
        levels.append(watch.look().level)
    assert levels == [Level.FULL, Level.FULL, Level.FULL, Level.VERY_LOW, Level.VERY_LOW, Level.FULL]


def test_a_commit_that_failed_counts_as_full_at_once(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1000 * MIB)
    watch = SpaceWatch(tmp_path, disk.measure)
    watch.look()
    watch.failed()
    assert not (tmp_path / "reserve").exists()


def test_when_full_only_what_drains_the_outbox_is_kept() -> None:
    delivery = Delivery(NOW, 1, "hq", "delivered", None, 1)
    kept = [delivery, Take(NOW, "hq", (1,)), Note(NOW, "gap", {})]
    assert all(space.may_be_kept(item, Level.FULL) for item in kept)
    assert not any(space.may_be_kept(item, Level.FULL) for item in (job(1), login()))
    assert all(space.may_be_kept(item, Level.VERY_LOW) for item in (job(1), login()))
    assert {Record, Login} <= set(space._NEEDS_ROOM)


def test_when_full_nobody_is_let_unlock_but_what_ends_an_unlock_is_kept() -> None:
    tried = [UnlockStep(NOW, "d", "hq", outcome) for outcome in ("unlocked", "wrong-code", "too-many", "not-offline")]
    assert not any(space.may_be_kept(item, Level.FULL) for item in tried)
    ended = [UnlockStep(NOW, "d", "hq", "dropped"), UnlockStep(NOW, "d", "hq", "by-hand-unlocked", "once", "", "root")]
    assert all(space.may_be_kept(item, Level.FULL) for item in ended)


@pytest.mark.parametrize("step", [10, 30])
def test_the_reserve_has_room_for_what_the_wal_still_holds(small: Path, step: int) -> None:
    watch = SpaceWatch(small)
    ledger = Ledger.open(small / "ledger.db", NOW)
    watch.look()
    kept: list[int] = []
    with pytest.raises(CannotStore):
        fill(ledger, kept, step)
    watch.failed()
    for first in range(0, 1_000, 20):
        ledger.commit([Delivery(NOW, seq, "hq", "delivered", None, 1) for seq in kept[first : first + 20]])
    ledger.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root only")
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", os.fspath(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let a tmpfs be mounted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", os.fspath(folder)], check=True)


def fill(ledger: Ledger, kept: list[int], step: int = 20) -> None:
    """Keep jobs until it cannot."""
    for start in itertools.count(0, step):
        outcomes = ledger.commit([job(number) for number in range(start, start + step)])
        kept += [outcome.seq for outcome in outcomes if isinstance(outcome, Stored)]


def test_a_full_disk_refuses_loses_nothing_and_still_lets_the_outbox_drain(small: Path) -> None:
    path = small / "ledger.db"
    watch = SpaceWatch(small)
    ledger = Ledger.open(path, NOW)
    assert watch.look().level is Level.ENOUGH
    kept: list[int] = []
    with pytest.raises(CannotStore, match="disk is full"):
        fill(ledger, kept)
    assert ledger.head[0] == kept[-1]
    assert len(kept) > 2_000
    watch.failed()
    for first in range(0, 400, 20):
        ledger.commit([Delivery(NOW, seq, "hq", "delivered", None, 1) for seq in kept[first : first + 20]])
    ledger.close()
    with reading(path) as reader:
        assert [seq for (seq,) in reader.execute("SELECT seq FROM jobs ORDER BY seq")] == kept
        assert reader.execute("SELECT count(*) FROM outbox").fetchone() == (len(kept) - 400,)
        assert proof.walk(reader).ok


def test_a_watched_full_disk_never_comes_to_an_error(small: Path) -> None:
    watch = SpaceWatch(small)
    ledger = Ledger.open(small / "ledger.db", NOW)
    number = 0
    while watch.look().level < Level.FULL:
        ledger.commit([job(number + place) for place in range(20)])
        number += 20
    ledger.commit([Delivery(NOW, seq, "hq", "unanswered", OutboxState.WAITING, 1) for seq in range(1, 100)])
    ledger.close()
    assert number > 2_000
    with reading(small / "ledger.db") as reader:
        assert proof.walk(reader).ok
