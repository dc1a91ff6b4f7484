"""Opening any copy of a ledger to read it, and leaving no trace beside it.

A file without a WAL is read as unchanging (`immutable=1`), so that SQLite makes no files beside it and a read-only
medium will do; one that changes meanwhile is noticed. Where a WAL holds frames they belong to the ledger: SQLite reads
them if it finds or may make its `-shm` there, or else both are copied to a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage import migrations
from storage.errors import LedgerBroken, LedgerMissing, LedgerTooNew, StorageError
from storage.verifying.findings import Unreadable, damage

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_WAL_HEADER = 32
_CACHE_KB = 8_192


class CannotVerify(StorageError):
    """The file cannot be looked at. The text is one line."""


class Damaged(StorageError):
    """It is a ledger, or was one, that cannot be read: damaged, or copied in part only."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a ledger in a read transaction. `version`: of its schema; `remarks`: how it had to be read."""

    connection: sqlite3.Connection
    version: int
    remarks: tuple[str, ...] = ()


@contextmanager
def opened(path: Path) -> Iterator[Copy]:
    """Open a copy for the time of a `with`, as it stands at this moment, though an appliance writes on.

    Raises LedgerMissing, LedgerTooNew, LedgerBroken (no ledger), Damaged or CannotVerify.
    """
    _look_at_file(path)
    wal = _held_in(path, "-wal") > _WAL_HEADER
    if wal or _held_in(path, "-shm") >= 0 or _held_in(path, "-journal") > 0:
        try:
            with _reading(path, "mode=ro") as copy:
                yield copy
                return
        except _NotHere as error:
            if not wal:
                raise _unreadable(path, error) from error
        with _temporary(path) as copied, _reading(copied, "mode=ro") as copy:
            words = f"{path.name}-wal could not be read where it is; both files were read as a temporary copy"
            yield Copy(copy.connection, copy.version, (words,))
        return
    before = _stamp(path)
    _refuse_half(path)
    try:
        with _reading(path, "immutable=1") as copy:
            yield copy
    except _NotHere as error:
        raise _unreadable(path, error) from error
    if _stamp(path) != before or _held_in(path, "-wal") > 0:
        raise CannotVerify(f"{path} changed while it was read; verify it again, or a copy of it (locum ledger backup)")


class _NotHere(Exception):
    """SQLite cannot read the file without writing beside it."""


def _unreadable(path: Path, error: Exception) -> CannotVerify:
    return CannotVerify(
        f"{path} cannot be read where it is ({error}); copy it, and the files beside it, to where you may write"
    )


@contextmanager
def _reading(path: Path, how: str) -> Iterator[Copy]:
    uri = f"{path.absolute().as_uri()}?{how}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
    except sqlite3.Error as error:
        raise _NotHere(str(error)) from error
    with closing(connection):
        try:
            connection.execute("PRAGMA trusted_schema = 0")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
            connection.execute("BEGIN")
            version = _version_of(connection, path)
        except Unreadable as error:
            words = damage(error)
            raise Damaged(words) if words else _NotHere(str(error)) from error
        yield Copy(connection, version)


def _version_of(connection: sqlite3.Connection, path: Path) -> int:
    version = migrations.version(connection)
    if connection.execute("PRAGMA application_id").fetchone()[0] != migrations.APPLICATION_ID or version < 1:
        raise LedgerBroken(
            f"{path} is an SQLite file, but no ledger; give a ledger.db, a backup, an archive or an export"
        )
    if version > migrations.CURRENT:
        raise LedgerTooNew(
            f"the ledger {path} has schema {version}, this Locum knows up to {migrations.CURRENT}; "
            "verify it with the newer Locum that wrote it"
        )
    return version


def _look_at_file(path: Path) -> None:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise CannotVerify(f"{path} is no file; name the ledger to verify")
        with path.open("rb") as file:
            beginning = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        raise LedgerMissing(f"there is no file {path}; name the ledger to verify") from error
    except IsADirectoryError as error:
        raise CannotVerify(f"{path} is a directory; name the file, such as {path / 'ledger.db'}") from error
    except OSError as error:
        raise CannotVerify(f"{path} cannot be read ({error.strerror}); look at its owner and its mode") from error
    if not beginning:
        raise LedgerBroken(f"{path} is empty; copy it once more")
    if beginning != _MAGIC:
        raise LedgerBroken(
            f"{path} is no SQLite file, and so no ledger; give a ledger.db, a backup, an archive or an export; if "
            "it was this appliance's ledger and is damaged: locum ledger repair"
        )


def _refuse_half(path: Path) -> None:
    """Raises Damaged if the file is shorter than its header says; SQLite itself would read a last page in part."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    size = int.from_bytes(header[16:18], "big")
    # https://www.sqlite.org/fileformat.html#in_header_database_size: it counts only if these two agree
    if len(header) == _HEADER and header[24:28] == header[92:96]:
        whole = int.from_bytes(header[28:32], "big") * (65_536 if size == 1 else size)
        if path.stat().st_size >= whole:
            return
        raise Damaged(f"it was copied only in part: {path.stat().st_size} of {whole} bytes; copy it once more")
    if len(header) < _HEADER:
        raise Damaged(f"it was copied only in part: {len(header)} bytes; copy it once more")


def _held_in(path: Path, suffix: str) -> int:
    """The size of a file beside the ledger; -1: there is none."""
    try:
        return path.with_name(path.name + suffix).stat().st_size
    except OSError:
        return -1


def _stamp(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_size, told.st_mtime_ns


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="locum-verify-") as folder:
        target = Path(folder) / path.name
        try:
            for suffix in ("", "-wal"):
                shutil.copyfile(path.with_name(path.name + suffix), target.with_name(target.name + suffix))
        except OSError as error:
            raise CannotVerify(
                f"{path} and its -wal cannot be copied to {os.path.dirname(folder)} ({error.strerror}); copy them to "
                "a folder where you may write, and verify them there"
            ) from error
        yield target
