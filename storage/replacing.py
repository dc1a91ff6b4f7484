"""Putting a new file in the ledger's place, so that a power cut leaves the one or the other, whole.

The new file is built under a name of its own and brought to stable storage before it is called finished. Only then
does the old one make room: it is set aside, or deleted where the new one and another file have all that it held.
`finish_interrupted` completes what a cut broke off, and clears away what was never finished. All of it is for whoever
holds the ledger's lock.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage import space
from storage.errors import CannotStore
from storage.locking import sync

_WAL_HEADER = 32


@dataclass(frozen=True, slots=True)
class Kind:
    """Why a ledger is replaced. `building` and `finished` are the endings of the new file's name before it has its
    place, `aside` of the old one's afterwards ("": it is deleted); `what` and `old` are words for App.Log.
    """

    building: str
    finished: str
    aside: str
    what: str
    old: str = ""


SALVAGED = Kind(".salvaging", ".salvaged-", ".damaged-", "a recovery of the ledger", "damaged file")
ADOPTED = Kind(".adopting", ".adopted-", ".before-adopt-", "an adoption of a ledger", "ledger before it")
ARCHIVED = Kind(".archiving", ".archived-", "", "an archiving of the ledger")
VACUUMED = Kind(".vacuuming", ".vacuumed-", "", "a vacuum of the ledger")
KINDS = (SALVAGED, ADOPTED, ARCHIVED, VACUUMED)


def to_build(path: Path, kind: Kind) -> Path:
    """Where the new file is to be built; nothing is there."""
    fresh = path.with_name(path.name + kind.building)
    discard(fresh)
    return fresh


def put_in_place(path: Path, kind: Kind, stamp: str) -> Path:
    """The file that was built takes the place of the ledger at `path`; `stamp` is for the name of the old one, which is
    returned if it is kept. No connection may be open to either, and the old one's WAL must be empty if it is not kept.

    Raises OSError; the next start then completes it, or the old one stands.
    """
    fresh = path.with_name(path.name + kind.building)
    sync(fresh)
    fresh.rename(path.with_name(path.name + kind.finished + stamp))
    sync(path.parent)
    return swap(path, kind, stamp)


def finish_interrupted(path: Path) -> list[str]:
    """Complete what was cut off; returns lines for App.Log."""
    words = []
    for kind in KINDS:
        for finished in sorted(path.parent.glob(path.name + kind.finished + "*")):
            aside = swap(path, kind, finished.name.removeprefix(path.name + kind.finished))
            kept = f"; the {kind.old} is kept as {aside}" if kind.aside else ""
            words.append(f"{kind.what} that was interrupted is complete{kept}")
        discard(path.with_name(path.name + kind.building))
    return words


def is_there(path: Path) -> bool:
    """Whether there is a ledger, or a finished one that was about to take its place."""
    with suppress(FileNotFoundError):
        if path.stat().st_size or path.with_name(path.name + "-wal").stat().st_size:
            return True
    return any(each for kind in KINDS for each in path.parent.glob(f"{path.name}{kind.finished}*"))


def emptied_wal(connection: sqlite3.Connection, path: Path) -> None:
    """Move all of the WAL into the file, so that the file alone is the ledger. Raises CannotStore or sqlite3.Error."""
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise CannotStore(f"another program reads the ledger {path}; end that program and try again")


def demand_room(folder: Path, octets: int) -> None:
    """Raises CannotStore if so many bytes cannot be written there without filling the disk, or OSError."""
    total, free = space.measured(folder)
    needed = octets + octets // 20 + space.floor_of(total)
    if free < needed:
        raise CannotStore(f"{folder} has {free / 1e6:,.1f} MB free, {needed / 1e6:,.1f} MB are needed; make room there")


def swap(path: Path, kind: Kind, stamp: str) -> Path:
    """The last step: a finished file gets its place."""
    aside = path.with_name(path.name + kind.aside + stamp)
    if kind.aside:
        _drop_empty_wal(path)
        for old, new in zip(with_companions(path)[::-1], with_companions(aside)[::-1], strict=True):
            with suppress(FileNotFoundError):
                if not new.exists():
                    old.rename(new)
    else:
        for old in with_companions(path)[1:]:
            old.unlink(missing_ok=True)
    path.with_name(path.name + kind.finished + stamp).rename(path)
    sync(path.parent)
    return aside


def _drop_empty_wal(path: Path) -> None:
    """What SQLite keeps beside the file is of no use there without frames; the WAL's index is made anew at need."""
    _, wal, index = with_companions(path)
    index.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        if wal.stat().st_size <= _WAL_HEADER:
            wal.unlink()


def discard(path: Path) -> None:
    """Delete a file with its WAL and its journal, if they are there."""
    for each in (*with_companions(path), path.with_name(path.name + "-journal")):
        each.unlink(missing_ok=True)


def with_companions(path: Path) -> tuple[Path, Path, Path]:
    """The file and what SQLite keeps beside it, the WAL and its index."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")
