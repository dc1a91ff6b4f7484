"""A consistent copy of the ledger to work from, made while the appliance writes.

SQLite's backup runs in steps inside one read transaction of ours. So it never begins anew however busy the writer is,
and the WAL is kept from being reused only for as long as the file is copied (seconds for a GB), not for the minutes
that writing a spreadsheet takes or somebody keeps the command stopped. The price is room for the copy, beside the
export and not beside the ledger. Its name is removed as soon as it is open: whatever ends the program ends the copy.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from storage import migrations
from storage.errors import LedgerTooOld
from storage.verifying.opening import opened

_PAGES = 2_000


@contextmanager
def snapshot(source: Path, folder: Path, tell: Callable[[int, int], None]) -> Iterator[sqlite3.Connection]:
    """A private copy of `source`, made in `folder`, for the time of a `with`; `tell` hears how many pages of how many
    are copied.

    Raises LedgerTooOld and what `verifying.opening.opened` raises for the source, sqlite3.Error for the copy.
    """
    path = folder / "snapshot"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        with opened(source) as reader:
            if reader.version < migrations.CURRENT:
                raise LedgerTooOld(
                    f"{source} has schema {reader.version}, this Locum exports {migrations.CURRENT}; start the "
                    "appliance once on it, or on a copy of it (locum run)"
                )
            reader.connection.backup(copy, pages=_PAGES, progress=lambda status, left, total: tell(total - left, total))
        # What was copied says that it has a WAL; a file for one pair of hands needs none, and then not even a name.
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -8192", "trusted_schema = 0"):
            copy.execute(f"PRAGMA {pragma}").fetchall()
        path.unlink()
        yield copy
