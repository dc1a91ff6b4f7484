"""What can go wrong with the ledger, each as one line for a person: what, where, and what to do.

`StorageError` is the base; whoever calls the ledger catches that. `sqlite3`'s own errors never leave this package:
`translated` turns them into one of these. A value that cannot be stored at all (a bug of whoever made it) is
`NotStorable`; the others of its batch are kept.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")

_ALMOST_NO_ROOM = 1 << 20
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CANNOT = {
    sqlite3.SQLITE_FULL: "the disk is full; make space there",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write; look into the kernel's log",
    sqlite3.SQLITE_READONLY: "it may not be written; look at its owner, its mode and how the file system is mounted",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at its folder, its owner and its mode",
    sqlite3.SQLITE_PERM: "it may not be opened; look at its owner and its mode",
    sqlite3.SQLITE_BUSY: "another program holds it; end that program's transaction",
    sqlite3.SQLITE_LOCKED: "another program holds it; end that program's transaction",
    sqlite3.SQLITE_NOMEM: "there is no memory left; end other programs",
}


class StorageError(Exception):
    """The ledger could not do what was asked. The text is one line."""


class CannotStore(StorageError):
    """Nothing of the batch was kept: disk full, I/O error, no permission, or held by another program. It may be tried
    again.
    """


class NotStorable(StorageError):
    """This one value has a shape that the ledger does not take: a bug. The others of its batch were kept."""


class LedgerMissing(StorageError):
    """There is no ledger at this path yet."""


class LedgerTooNew(StorageError):
    """A newer Locum wrote this file; this one would damage it."""


class LedgerTooOld(StorageError):
    """An older Locum wrote this file and it has not been migrated yet."""


class LedgerInUse(StorageError):
    """Another Locum works on this file."""


class LedgerBroken(StorageError):
    """The file is damaged, or no ledger at all."""


class LedgerDamaged(StorageError):
    """The file is a ledger, and damaged; it was left as it is."""


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code of an error; 0 where Python raised it by itself."""
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF


def says_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged."""
    return primary_code(error) in _CORRUPT


def in_our_words(method: Callable[_Given, _Answer]) -> Callable[_Given, _Answer]:
    """Decorates what asks the file: SQLite's errors leave it as `StorageError`."""

    @wraps(method)
    def asking(*args: _Given.args, **kwargs: _Given.kwargs) -> _Answer:
        try:
            return method(*args, **kwargs)
        except sqlite3.Error as error:
            raise translated(error) from error

    return asking


def translated(error: sqlite3.Error | OSError, path: Path | None = None) -> StorageError:
    """The error of ours that an error of SQLite's or of the operating system's stands for; `path`: the ledger's."""
    where = f"the ledger {path}" if path is not None else "the ledger"
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return CannotStore(f"cannot store in {where}: {_CANNOT[sqlite3.SQLITE_FULL]} ({error.strerror})")
        return CannotStore(
            f"cannot store in {where}: {error.strerror or error}; look at its folder, owner, mode and space"
        )
    if says_corrupt(error):
        return LedgerBroken(f"{where} is damaged ({error}); stop Locum, then recover it: locum ledger repair")
    # On a full disk SQLite cannot make its index of the WAL either, and calls that an I/O error.
    full = primary_code(error) == sqlite3.SQLITE_IOERR and path is not None and _without_room(path.parent)
    advice = _CANNOT.get(sqlite3.SQLITE_FULL if full else primary_code(error))
    if advice is not None:
        return CannotStore(f"cannot store in {where}: {advice} ({error})")
    return StorageError(f"{where} refused a statement ({error}); please report this")


def _without_room(folder: Path) -> bool:
    try:
        told = os.statvfs(folder)
    except OSError:
        return False
    return told.f_bavail * told.f_frsize < _ALMOST_NO_ROOM


def blames_the_value(error: Exception) -> bool:
    """Whether an error on the way into the file is about the values given, not about the file or the disk."""
    if not isinstance(error, sqlite3.Error):
        return True
    known = primary_code(error)
    return known not in _CANNOT and known not in _CORRUPT
