"""A consistent copy of the ledger to work from, made while the appliance writes.

SQLite's backup runs in steps inside one read transaction of ours. So it never begins anew however busy the writer is,
and the WAL is kept from being reused only for as long as the file is copied (seconds for a GB), not for the minutes
that writing a spreadsheet takes or somebody keeps the command stopped. The price is room for the copy, beside the
export and not beside the ledger. Its name is removed as soon as it is open: whatever ends the program ends the copy.

Of the file its rows are taken and nothing else: what is defined in it, views and triggers, is not run, for whoever
forged it may have altered that too. The copy gets our own views.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from storage import copies, migrations, schema
from storage.errors import LedgerTooOld
from storage.export.output import CannotExport
from storage.export.pseudonyms import with_pseudonyms
from storage.verifying import shape
from storage.verifying.findings import Broken
from storage.verifying.opening import opened
from storage.views import VIEWS

CHOSEN = "chosen"
"""The table with the numbers of the entries that are wanted."""

_PAGES = 2_000
_STEPS_BETWEEN_LOOKS = 50_000


@contextmanager
def snapshot(source: Path, folder: Path, tell: Callable[[int, int], None]) -> Iterator[sqlite3.Connection]:
    """A private copy of `source`, made in `folder`, for the time of a `with`; `tell` hears how many pages of how many
    are copied.

    Raises LedgerTooOld, CannotExport if a table is none of a ledger's, what `verifying.opening.opened` raises for the
    source, and sqlite3.Error for the copy.
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
        interruptible(copy)
        try:
            _own_definitions(copy)
        except Broken as error:
            raise CannotExport(f"{source} is no ledger of ours ({error}); see: locum ledger verify {source}") from error
        yield copy


def interruptible(connection: sqlite3.Connection) -> None:
    """Let signals reach Python while a statement runs, however long it takes."""
    connection.set_progress_handler(lambda: 0, _STEPS_BETWEEN_LOOKS)


def _own_definitions(copy: sqlite3.Connection) -> None:
    """Raises Broken if a table of the ledger's is missing, or is another thing under its name."""
    for kind, name in copy.execute("SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'trigger')").fetchall():
        copy.execute(f"DROP {kind} IF EXISTS {_quoted(name)}")
    kinds = {name: kind for _, name, kind, *_ in copy.execute("PRAGMA main.table_list").fetchall()}
    for name in (*VIEWS, CHOSEN):
        if name in kinds:
            copy.execute(f"DROP TABLE {_quoted(name)}")
    shape.check_tables(copy, shape.shape_of(migrations.CURRENT), migrations.CURRENT)
    hidden = "pseudonyms" in kinds
    for name in ("outbox", "devices", *(() if hidden else ("cards",))):
        if name not in kinds:
            raise Broken(0, "the file", f"the table {name} is missing")
    for name in (*schema.WORKING, "pseudonyms", copies.TABLE):
        if kinds.get(name, "table") != "table":
            raise Broken(0, "the file", f"{name} is no table")
    for name, query in VIEWS.items():
        copy.execute(f"CREATE VIEW {name} AS {with_pseudonyms(query) if hidden else query}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
