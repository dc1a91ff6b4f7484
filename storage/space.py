"""How much room is left for the ledger, and the reserve that is given back when there is none.

The thresholds are relative to the file system, so that a small one works too: a warning below 10 %, a second below 5
%, full below a floor of 4 MiB (or 1/64 of a small file system). When full, nothing new is acknowledged; the reserve
file (8 MiB, or 1/16) is released so that what waits can still be taken by the server and noted. The room that the
reserve will need again counts as used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from storage.records import DeviceSeen, Keepable, Login, Quarantined, Record, Trap, UnlockStep

RESERVE = "reserve"
_MIB = 1 << 20
_NEEDS_ROOM = (Record, Login, Quarantined, DeviceSeen, Trap)
_TRIES = ("unlocked", "wrong-code", "too-many", "not-offline")


class Level(IntEnum):
    """How full it is; the higher, the fuller."""

    ENOUGH = 0
    LOW = 1
    VERY_LOW = 2
    FULL = 3


@dataclass(frozen=True, slots=True)
class Space:
    """A reading in bytes: the file system's size, what is free to use beside the reserve, and what that means."""

    total: int
    free: int
    level: Level


def floor_of(total: int) -> int:
    """Below this many free bytes nothing new is kept."""
    return min(4 * _MIB, total // 64)


def reserve_of(total: int) -> int:
    """The size of the reserve file on a file system of this size."""
    return min(8 * _MIB, total // 16)


def level_of(total: int, free: int) -> Level:
    """What so many free bytes mean."""
    if free < floor_of(total):
        return Level.FULL
    if free * 20 < total:
        return Level.VERY_LOW
    if free * 10 < total:
        return Level.LOW
    return Level.ENOUGH


def may_be_kept(item: Keepable, level: Level) -> bool:
    """Whether a value is still kept at this level: when full, only what drains the outbox and says what happened."""
    return level < Level.FULL or not (isinstance(item, _NEEDS_ROOM) or _is_a_try(item))


def _is_a_try(item: Keepable) -> bool:
    """Whether this is somebody's try at a device to unlock it: no end of an unlock, and nothing by hand."""
    return isinstance(item, UnlockStep) and item.outcome in _TRIES and not item.who


def measured(folder: Path) -> tuple[int, int]:
    """Size and free bytes of the file system that holds a folder. Raises OSError."""
    stat = os.statvfs(folder)
    return stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize


def beside_reserve(folder: Path, total: int, free: int) -> int:
    """How many of the free bytes are left beside the reserve in this folder: what it will need again counts as used."""
    wanted = reserve_of(total)
    return free - (wanted - min(_held(folder / RESERVE), wanted))


def _held(reserve: Path) -> int:
    """The room that the reserve takes, in bytes."""
    try:
        return reserve.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


class SpaceWatch:
    """Watches the state directory's file system and owns the reserve file in it.

    `measure` gives total and free bytes; tests may bring their own.
    """

    def __init__(self, folder: Path, measure: Callable[[Path], tuple[int, int]] = measured) -> None:
        self._folder = folder
        self._measure = measure
        self._reserve = folder / RESERVE
        self._full = False

    def look(self) -> Space:
        """Measure, and release or make the reserve accordingly. Raises OSError if the file system cannot be asked."""
        total, free = self._measure(self._folder)
        wanted, spare = reserve_of(total), beside_reserve(self._folder, total, free)
        floor = floor_of(total)
        # Once full, it stays so until twice the floor is free: or else each job that fits would be the last one again.
        self._full = spare < (2 * floor if self._full else floor)
        if self._full:
            self.release()
        elif _held(self._reserve) < wanted and free - wanted >= floor:
            self._make(wanted)
        return Space(total, max(spare, 0), Level.FULL if self._full else level_of(total, spare))

    def failed(self) -> None:
        """A commit met a full disk: count it as full now, whatever the file system says, and give the reserve back."""
        self._full = True
        self.release()

    def release(self) -> None:
        """Give the reserve's room back."""
        with suppress(FileNotFoundError):
            self._reserve.unlink()

    def _make(self, size: int) -> None:
        try:
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            self.release()
        finally:
            os.close(descriptor)
