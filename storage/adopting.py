"""Putting a ledger from elsewhere in place: an old disk's, a backup, or a copy.

The file is copied with its WAL, as bytes, and nothing beside it is opened or written: an old disk may be mounted
read-only, and it is evidence. The copy is checked, marked as an older copy if it is known to be one, and takes the
ledger's place as `replacing.py` has it; the ledger that was there is set aside. What follows from it is found out at
the next start (`inheriting.py`), whoever put the file there.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from storage import copies, database, keeping, replacing, times
from storage.errors import LedgerBroken, LedgerInUse, LedgerMissing, LedgerTooNew, StorageError, translated
from storage.locking import give_to_owner, held, in_use
from storage.verifying import opening
from storage.witness import Mark

_BESIDE = ("", "-wal", "-journal")
_WHOLE = ("", "backup")


class CannotAdopt(StorageError):
    """This file cannot take the ledger's place; the text is one line: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was adopted: its `entries`, and how many records are in its outbox. `aside`: where the ledger that was here
    is kept, None if there was none; `words`: what else is to be said, a line each.
    """

    entries: int
    records: int
    aside: Path | None
    words: tuple[str, ...]


def adopt(
    path: Path,
    source: Path,
    now: int,
    verify: Callable[[Path], str],
    *,
    anyway: bool = False,
    older: bool = False,
    witness: Mark | None = None,
) -> Adopted:
    """Let a copy of `source` take the place of the ledger at `path`. `now` in ms; `verify` gives what is wrong with the
    proof of a ledger file, "" nothing. `anyway`: also if it is damaged or does not verify, or the ledger that is here
    cannot be read. `older`: it is not the last state of that ledger; `witness`: the newest entry known of it, which
    may say the same.

    Raises CannotAdopt, LedgerMissing, LedgerBroken (no whole ledger), LedgerInUse or another StorageError; nothing is
    changed then.
    """
    if not source.is_file():
        raise LedgerMissing(f"there is no file {source}; name an old disk's ledger.db, or a backup")
    if path.exists() and path.samefile(source):
        raise CannotAdopt(f"{source} is the ledger in its place already; just start the appliance")
    if in_use(source):
        raise LedgerInUse(f"a Locum works on {source}; stop it first")
    with held(path):
        try:
            replacing.finish_interrupted(path)
            _refuse_while_records_wait(path, anyway)
            return _put_here(path, source, now, verify, anyway, older, witness)
        except (sqlite3.Error, OSError) as error:
            raise translated(error, path) from error


def _put_here(
    path: Path,
    source: Path,
    now: int,
    verify: Callable[[Path], str],
    anyway: bool,
    older: bool,
    witness: Mark | None,
) -> Adopted:
    fresh = replacing.to_build(path, replacing.ADOPTED)
    try:
        _copy(source, fresh)
        words = _made_sound(fresh, source, now, _look_at(fresh, source), anyway)
        wrong = verify(fresh)
        if wrong and not anyway:
            raise CannotAdopt(f"{source} does not verify: {wrong}; --anyway adopts it all the same")
        words += [f"it does not verify: {wrong}"] * bool(wrong)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            entries, records = _figures(connection)
            if older or (witness is not None and copies.beyond(connection, witness)):
                words.append("it is an older copy; what waits in it is not sent unnamed")
                if not copies.said_by(connection):
                    copies.mark(connection, {"kind": "backup", "backup": ""})
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        aside = replacing.put_in_place(path, replacing.ADOPTED, times.compact(now))
    except BaseException:
        replacing.discard(fresh)
        raise
    return Adopted(entries, records, aside if aside.exists() else None, tuple(words))


def _copy(source: Path, fresh: Path) -> None:
    try:
        total = sum(each.stat().st_size for each in _beside(source) if each.exists())
    except OSError as error:
        raise _unreadable(error, source) from error
    replacing.demand_room(fresh.parent, total)
    for each, copied in zip(_beside(source), _beside(fresh), strict=True):
        if not each.exists():
            continue
        try:
            old = each.open("rb")
        except OSError as error:
            raise _unreadable(error, each) from error
        descriptor = os.open(copied, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with old, os.fdopen(descriptor, "wb") as new:
            give_to_owner(descriptor, fresh.parent)
            shutil.copyfileobj(old, new, 1 << 20)


def _unreadable(error: OSError, source: Path) -> CannotAdopt:
    return CannotAdopt(f"{source} cannot be read ({error.strerror or error}); look at its owner, its mode and its disk")


def _beside(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + ending) for ending in _BESIDE)


def _look_at(fresh: Path, source: Path) -> str:
    """Refuse what is no whole ledger; how it is damaged, if that keeps it from being looked at. Only the copy is
    opened: SQLite would write to the files beside the source.
    """
    try:
        with opening.opened(fresh) as copy:
            kind = copies.said_by(copy.connection).get("kind", "")
    except opening.Damaged as error:
        return str(error.__cause__ or error)
    except (LedgerBroken, LedgerTooNew, opening.CannotVerify) as error:
        raise type(error)(str(error).replace(str(fresh), str(source))) from error
    if kind not in _WHOLE:
        raise LedgerBroken(f"{source} is an {kind}, not a whole ledger; name an old disk's ledger.db, or a backup")
    return ""


def _made_sound(fresh: Path, source: Path, now: int, damage: str, anyway: bool) -> list[str]:
    """Check the copy's pages, or with `anyway` recover what can be read; words about it."""
    if not damage:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            replacing.emptied_wal(connection, fresh)
            damage = keeping.integrity(connection)
    if not damage:
        return []
    if not anyway:
        raise CannotAdopt(f"{source} is damaged ({damage}); --anyway adopts what can be read of it")
    database.recover(fresh, now, damage)
    for aside in fresh.parent.glob(f"{fresh.name}{replacing.SALVAGED.aside}*"):
        aside.unlink()
    with closing(sqlite3.connect(fresh)) as connection:
        entries, _ = _figures(connection)
    if not entries:
        raise CannotAdopt(f"nothing of {source} can be read ({damage}); is it the right file?")
    return [f"it was damaged ({damage}); {entries} entries of it could be read"]


def _figures(connection: sqlite3.Connection) -> tuple[int, int]:
    entries: int = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    records: int = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
    return entries, records


def _refuse_while_records_wait(path: Path, anyway: bool) -> None:
    if not path.exists() or not path.stat().st_size:
        return
    try:
        with opening.opened(path) as copy:
            _, records = _figures(copy.connection)
    except (opening.Damaged, LedgerBroken) as error:
        if anyway:
            return
        raise CannotAdopt(
            f"the ledger that is here cannot be read ({error}); recover it (locum ledger repair), or --anyway sets it "
            "aside as it is"
        ) from error
    if records:
        raise CannotAdopt(
            f"{records} records are in the outbox of the ledger {path} that is here; let them be delivered first "
            "(locum run), or decide or drop them (locum outbox list)"
        )
