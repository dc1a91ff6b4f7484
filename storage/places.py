"""Where a copy of the ledger is to go: whether it can be put there, and what to say when the room runs out.

A backup and an archive are made beside their place under a name of their own and renamed at the end, so that there is
a whole file or none.
"""

from __future__ import annotations

import errno
import sqlite3
from contextlib import suppress
from pathlib import Path

from storage import replacing, space
from storage.errors import CannotStore, primary_code
from storage.locking import create_private

_ALMOST_NOTHING = 1 << 20


class CannotPlace(CannotStore):
    """Nothing can be put at this place; the text is one line."""


def unfinished(dest: Path) -> Path:
    """Under which name a file is made that shall be called `dest`."""
    return dest.with_name(dest.name + ".unfinished")


def begin(dest: Path) -> Path:
    """A new, empty file for what shall be called `dest`. Raises CannotPlace if it cannot be there."""
    fresh = unfinished(dest)
    try:
        if dest.exists() or dest.is_symlink():
            raise CannotPlace(f"{dest} is there already; name a file that is not")
        if not dest.parent.is_dir():
            raise CannotPlace(f"there is no folder {dest.parent}; make it, or name another")
        replacing.discard(fresh)
        create_private(fresh)
    except OSError as error:
        raise unwritable(error, dest) from error
    return fresh


def try_out(dest: Path) -> None:
    """Raises CannotPlace where `begin` would; nothing is left."""
    replacing.discard(begin(dest))


def unwritable(error: OSError, dest: Path) -> CannotPlace:
    """What is to be said if `dest` cannot be written."""
    if ran_out(error, dest.parent):
        return full(error, dest)
    return CannotPlace(
        f"{dest.parent} cannot be written to ({error.strerror or error}); look at its owner and how it is mounted"
    )


def full(error: Exception, dest: Path) -> CannotPlace:
    """What is to be said if there is no room for `dest`."""
    words = error.strerror if isinstance(error, OSError) else error
    return CannotPlace(
        f"{dest.parent}: the disk is full ({words}), and nothing is left of {dest.name}; make room there, or name "
        "another place"
    )


def ran_out(error: Exception, folder: Path) -> bool:
    """Whether an error on the way into a folder means that there is no room left; SQLite may call that an I/O error."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not isinstance(error, sqlite3.Error):
        return False
    if primary_code(error) == sqlite3.SQLITE_IOERR:
        with suppress(OSError):
            return space.measured(folder)[1] < _ALMOST_NOTHING
    return primary_code(error) == sqlite3.SQLITE_FULL
