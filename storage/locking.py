"""The lock file beside a ledger, which keeps a second Locum away from it.

SQLite's own locks must not be mixed with ours on one file, so ours is on a file of its own. What is made here by root
belongs to the owner of the folder, so that the service can use it afterwards.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.errors import LedgerInUse, translated


def hold(path: Path) -> int:
    """Take the lock of the ledger at `path`; the descriptor to be closed. Raises LedgerInUse or CannotStore."""
    try:
        lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise translated(error, path) from error
    try:
        give_to_owner(lock, path.parent)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise LedgerInUse(
            f"another Locum works on the ledger {path}; stop it first, or give this one a state directory of its own"
        ) from error
    return lock


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock for the time of a `with`. Raises as `hold`."""
    lock = hold(path)
    try:
        yield
    finally:
        os.close(lock)


def in_use(path: Path) -> bool:
    """Whether a Locum works on this ledger, as far as one can tell without writing beside it."""
    try:
        lock = os.open(_lock_of(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def give_to_owner(descriptor: int, folder: Path) -> None:
    """Where root works: the open file belongs to whom the folder belongs to."""
    if os.geteuid() == 0:
        about = folder.stat()
        with suppress(PermissionError):
            os.fchown(descriptor, about.st_uid, about.st_gid)


def create_private(path: Path) -> None:
    """Make an empty file that its owner alone may read, if it is not there. Raises OSError."""
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            give_to_owner(descriptor, path.parent)
        finally:
            os.close(descriptor)
        sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file or a folder to stable storage. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
