"""A backup of the ledger, made while the appliance writes: one file, whole, that says that it is a backup.

SQLite's online backup, in steps inside one read transaction, so that it never begins anew however busy the writer is.
The copy is checked page by page before it gets its name. By the mark in `export_info` the next start on it knows that
it is an older copy, and that what waits in it may have been delivered since (`inheriting.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import file_digest
from pathlib import Path

from storage import copies, database, keeping, places, replacing
from storage.errors import CannotStore, StorageError, says_corrupt, translated
from storage.locking import sync

_PAGES = 2_000


def refuse(path: Path, dest: Path) -> None:
    """Raises a StorageError where the ledger cannot be backed up to `dest`, before anything is done or noted."""
    places.try_out(dest)
    try:
        replacing.demand_room(dest.parent, database.bytes_on_disk(path))
    except OSError as error:
        raise places.unwritable(error, dest) from error


def backup(
    path: Path,
    dest: Path,
    backup_id: str,
    made_at: str,
    tell: Callable[[int, int], None],
    noted: Callable[[str], object] = str,
) -> str:
    """Copy the ledger to `dest` as the backup `backup_id`; `tell` hears how many pages of how many are copied, `noted`
    the copy's SHA-256 in hex, when it is whole and has not got its name yet: if it raises, there is no backup. Returns
    the same. `made_at`: ISO 8601.

    Raises StorageError; nothing is left at `dest` then.
    """
    said = {
        "kind": "backup",
        "backup": backup_id,
        "made_at": made_at,
        "plain": "whole",
        "personal": "whole",
        "pseudonymised": "0",
    }
    unfinished = places.begin(dest)
    try:
        replacing.demand_room(dest.parent, database.bytes_on_disk(path))
        _copy(path, unfinished, said, tell)
        sync(unfinished)
        with unfinished.open("rb") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
        noted(digest)
        unfinished.rename(dest)
        sync(dest.parent)
    except BaseException as error:
        replacing.discard(unfinished)
        if isinstance(error, sqlite3.Error):
            raise _failed(error, path, dest) from error
        if isinstance(error, OSError):
            raise places.unwritable(error, dest) from error
        raise
    return digest


def _failed(error: sqlite3.Error, path: Path, dest: Path) -> StorageError:
    """Damage is the ledger's, and it is the copy that cannot be written."""
    if places.ran_out(error, dest.parent):
        return places.full(error, dest)
    return translated(error, path if says_corrupt(error) else dest)


def _copy(path: Path, unfinished: Path, said: dict[str, str], tell: Callable[[int, int], None]) -> None:
    def heard(status: int, remaining: int, total: int) -> None:
        tell(total - remaining, total)

    with database.reading(path) as source, closing(sqlite3.connect(unfinished, isolation_level=None)) as target:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        source.backup(target, pages=_PAGES, progress=heard)
        source.execute("ROLLBACK")
        # What is copied says that it has a WAL; a backup is one file.
        target.execute("PRAGMA journal_mode = DELETE").fetchone()
        copies.mark(target, said)
        damage = keeping.integrity(target)
        if damage:
            raise CannotStore(f"the backup is not sound ({damage}); run: locum ledger check")
