"""Opening the ledger's file: one writer with everything it needs set, and readers that never hold it up.

WAL with `synchronous=FULL`: a commit has returned only when its WAL frames are on stable storage. A lock file beside
the ledger keeps a second Locum away (`locking.py`). At open the file is checked: the small tables and the end of the
chain always, the rest for as long as `CHECK_SECONDS` allow, so that a big ledger does not hold up a start. What is
damaged goes to `salvage.py`; what an older Locum wrote is copied, then migrated.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from storage import migrations, proof, replacing, salvage, space, times
from storage.errors import (
    CannotStore,
    LedgerBroken,
    LedgerDamaged,
    LedgerMissing,
    LedgerTooNew,
    LedgerTooOld,
    StorageError,
    says_corrupt,
    translated,
)
from storage.locking import create_private, hold

CHECK_SECONDS = 0.2
_CHECK_FIRST = ("outbox", "memory", "lives", "cards", "devices")
_CHAIN_END = 100
_STEPS_BETWEEN_LOOKS = 5_000
_WAL_LIMIT = 8 << 20
_PAGE_BYTES = 4096
_MOST_PAGES_IN_WAL = 1_000


class _Damaged(Exception):
    """The file has to be salvaged; says why."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The writer's connection, the held lock file's descriptor, and lines for App.Log about how it was opened."""

    connection: sqlite3.Connection
    lock: int
    words: tuple[str, ...]


def open_writer(
    path: Path, now: int, steps: Sequence[migrations.Step] = migrations.STEPS, recovers: bool = True
) -> Opened:
    """Open or create the ledger for its one writer. `now` in ms names files that are set aside or copied. What is
    damaged is recovered, or with `recovers` False refused.

    Raises CannotStore, LedgerTooNew, LedgerInUse, LedgerDamaged or LedgerBroken (not a ledger at all); nothing is
    changed then.
    """
    lock = hold(path)
    try:
        connection, words = _open_sound(path, now, steps, recovers)
    except (sqlite3.Error, OSError) as error:
        os.close(lock)
        raise translated(error, path) from error
    except StorageError:
        os.close(lock)
        raise
    return Opened(connection, lock, tuple(words))


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read, beside a running writer or without one; for use in one thread at a time.

    Raises LedgerMissing, LedgerTooNew, LedgerTooOld, LedgerBroken or CannotStore.
    """
    if not path.exists():
        raise LedgerMissing(
            f"there is no ledger {path} yet; start the appliance first (locum run), or name its state directory"
        )
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=2.0
        )
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("PRAGMA cache_size = -1024")
            _refuse_other_versions(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translated(error, path) from error
    return connection


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A reader for the time of a `with`."""
    with closing(open_reader(path)) as connection:
        yield connection


def bytes_on_disk(path: Path) -> int:
    """The ledger's size with what its WAL holds, in bytes."""
    total = 0
    for each in (path, path.with_name(path.name + "-wal")):
        with suppress(FileNotFoundError):
            total += each.stat().st_size
    return total


def _refuse_other_versions(connection: sqlite3.Connection, path: Path) -> None:
    number = migrations.version(connection)
    if number > migrations.CURRENT:
        raise _too_new(path, number, migrations.CURRENT)
    if number < migrations.CURRENT:
        raise LedgerTooOld(
            f"the ledger {path} has schema {number}, this Locum reads {migrations.CURRENT}; "
            "start the appliance once (locum run)"
        )


def _too_new(path: Path, number: int, known: int) -> LedgerTooNew:
    return LedgerTooNew(
        f"the ledger {path} has schema {number}, this Locum knows up to {known}; install the newer Locum that wrote it"
    )


def _open_sound(
    path: Path, now: int, steps: Sequence[migrations.Step], recovers: bool
) -> tuple[sqlite3.Connection, list[str]]:
    words = replacing.finish_interrupted(path)
    create_private(path)
    try:
        return _open_checked(path, now, steps, words)
    except _Damaged as damage:
        cause = str(damage)
    except sqlite3.Error as error:
        if not says_corrupt(error):
            raise
        cause = str(error)
    if not recovers:
        raise LedgerDamaged(
            f"the ledger {path} is damaged ({cause}), and nothing was done; recover it: locum ledger repair"
        )
    recovered = recover(path, now, cause)
    words += [recovered.words, *recovered.lost]
    try:
        return _open_checked(path, now, steps, words)
    except _Damaged as damage:
        raise LedgerBroken(f"the recovered ledger {path} is damaged too ({damage}); look at the disk") from damage


def _open_checked(
    path: Path, now: int, steps: Sequence[migrations.Step], words: list[str]
) -> tuple[sqlite3.Connection, list[str]]:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=256
    )
    try:
        number = migrations.version(connection)
        if number > len(steps):
            raise _too_new(path, number, len(steps))
        _refuse_foreign(connection, path, number)
        _set_up(connection, path)
        if number:
            words += _check(connection)
        if 0 < number < len(steps):
            copy = _copy(connection, path, number, now)
            words.append(
                f"the ledger was migrated from schema {number} to {len(steps)}; as it was it is kept as {copy}"
            )
        if number < len(steps):
            migrations.migrate(connection, steps)
    except BaseException:
        connection.close()
        raise
    return connection, words


def _refuse_foreign(connection: sqlite3.Connection, path: Path, number: int) -> None:
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE '%sqlite_%'").fetchone()[0]
    if mark != migrations.APPLICATION_ID and (number or tables):
        raise LedgerBroken(
            f"{path} is an SQLite file of another program, not a ledger; move it away or name another state directory"
        )


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise CannotStore(f"the file system of {path} does not support SQLite's WAL; keep the ledger on a local disk")
    for pragma in (
        "synchronous = FULL",
        "secure_delete = ON",
        f"journal_size_limit = {_WAL_LIMIT}",
        f"wal_autocheckpoint = {_pages_in_wal(path)}",
        "cache_size = -4096",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _pages_in_wal(path: Path) -> int:
    """After how many pages the WAL is moved into the file. The file may grow by all of them, and on a full disk there
    is the reserve only to grow into.
    """
    try:
        total, _ = space.measured(path.parent)
    except OSError:
        return _MOST_PAGES_IN_WAL
    return min(_MOST_PAGES_IN_WAL, space.reserve_of(total) // 2 // _PAGE_BYTES)


def _copy(connection: sqlite3.Connection, path: Path, number: int, now: int) -> Path:
    target = path.with_name(f"{path.name}.schema-{number}-{times.compact(now)}")
    create_private(target)
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
    return target


def _check(connection: sqlite3.Connection) -> list[str]:
    """Raise `_Damaged` or sqlite3.DatabaseError if the file is not sound, as far as the time allows to look.

    A chain that does not hold is no damage that a recovery could mend: it is said, and the work goes on.
    """
    for table in _CHECK_FIRST:
        _check_part(connection, f"('{table}')")
    words = _check_chain_end(connection)
    end = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
    try:
        _check_part(connection, "")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        connection.set_progress_handler(None, 0)
    return words


def _check_part(connection: sqlite3.Connection, part: str) -> None:
    found = connection.execute(f"PRAGMA quick_check{part}").fetchone()[0]
    if found != "ok":
        raise _Damaged(" ".join(found.split()))


def _check_chain_end(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT seq, CAST(body AS BLOB), prev_hash, hash FROM entries ORDER BY seq DESC LIMIT ?", (_CHAIN_END,)
    ).fetchall()
    changed = [seq for seq, body, prev_hash, own_hash in rows if proof.entry_hash(prev_hash, body) != own_hash]
    if not changed:
        return []
    return [f"the ledger was changed by another hand: entry {changed[-1]} does not fit its hash; find out whose"]


def recover(path: Path, now: int, cause: str, *, begin_anew: bool = True) -> salvage.Recovered:
    """Recover what can be read of the ledger into a new file in its place; lines that say so. Only for whoever holds
    its lock. If no entry can be read, a new ledger begins with `begin_anew`, so that a start can keep what comes.

    Raises salvage.NothingRead, sqlite3.Error or OSError.
    """
    return salvage.salvage(path, now, cause, new_file, begin_anew=begin_anew)


def new_file(path: Path) -> sqlite3.Connection:
    """A new, empty ledger file without a WAL, to be filled by whoever makes it. Raises sqlite3.Error or OSError."""
    create_private(path)
    fresh = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(fresh)
    return fresh
