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

from storage import copies, database, keeping, replacing
from storage.errors import CannotStore, StorageError, translated
from storage.locking import create_private, sync

_PAGES = 2_000


class CannotBackUp(StorageError):
    """There can be no backup at this place; the text is one line."""


def refuse_place(dest: Path) -> None:
    """Raises CannotBackUp where a backup cannot be put, before anything is done."""
    if dest.exists() or dest.is_symlink():
        raise CannotBackUp(f"{dest} is there already; name a file that is not")
    if not dest.parent.is_dir():
        raise CannotBackUp(f"there is no folder {dest.parent}; make it, or name another")


def refuse(path: Path, dest: Path) -> None:
    """Raises a StorageError where the ledger cannot be backed up to `dest`, before anything is done or noted."""
    refuse_place(dest)
    try:
        replacing.demand_room(dest.parent, database.bytes_on_disk(path))
    except OSError as error:
        raise translated(error, dest) from error


def backup(path: Path, dest: Path, backup_id: str, made_at: str, tell: Callable[[int, int], None]) -> str:
    """Copy the ledger to `dest` as the backup `backup_id`; `tell` hears how many pages of how many are copied. Returns
    the copy's SHA-256 in hex. `made_at`: ISO 8601.

    Raises StorageError; nothing is left at `dest` then.
    """
    refuse_place(dest)
    unfinished = dest.with_name(dest.name + ".unfinished")
    said = {
        "kind": "backup",
        "backup": backup_id,
        "made_at": made_at,
        "plain": "whole",
        "personal": "whole",
        "pseudonymised": "0",
    }
    try:
        replacing.discard(unfinished)
        replacing.demand_room(dest.parent, database.bytes_on_disk(path))
        create_private(unfinished)
        _copy(path, unfinished, said, tell)
        sync(unfinished)
        with unfinished.open("rb") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
        unfinished.rename(dest)
        sync(dest.parent)
    except BaseException as error:
        replacing.discard(unfinished)
        if isinstance(error, sqlite3.Error | OSError):
            raise translated(error, dest) from error
        raise
    return digest


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
