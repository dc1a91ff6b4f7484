"""Looking after the ledger's file: what is wrong with it, putting that right, and giving room back.

`check` only reads, beside a running appliance too: SQLite's own check of every page, the guards and tables that ought
to be there, what is counted against the rows, the end of the chain. `repair` and `vacuum` hold the ledger's lock. The
whole proof is not checked here but by `verify`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage import copies, database, mending, migrations, proof, replacing, space, times
from storage.errors import LedgerBroken, LedgerDamaged, LedgerInUse, LedgerMissing, says_corrupt, translated
from storage.ledger import Ledger
from storage.locking import create_private, hold
from storage.mending import Mended
from storage.records import AppLogLine
from storage.verifying import opening

_MOST_FAULTS = 5
_CHAIN_END = 100
_REPAIR = "stop the appliance, then: locum ledger repair"
_VERIFY = "find out who changed it; see: locum ledger verify"
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `what`: pages, schema, outbox, totals, chain, signatures, room; `words`: how it
    is; `cure`: what to do, "" where nothing is wrong.
    """

    what: str
    words: str
    cure: str = ""

    @property
    def wrong(self) -> bool:
        return bool(self.cure)


def check(path: Path) -> list[Finding]:
    """Look at a ledger file, or at a backup, an archive or an export. Nothing is changed.

    Raises LedgerMissing, LedgerTooNew, LedgerBroken (no ledger at all) or another StorageError.
    """
    _refuse_nothing(path)
    found: list[Finding] = []
    try:
        with opening.opened(path) as copy:
            found.append(_pages(copy.connection))
            if not found[0].wrong:
                found += _inside(copy.connection, path)
    except opening.Damaged as error:
        found.append(Finding("pages", str(error), _REPAIR))
    except sqlite3.Error as error:
        raise translated(error, path) from error
    return found


def repair(path: Path, now: int) -> list[Mended]:
    """Put right what `check` finds and can be put right; what was done, nothing if nothing was wrong. App.Log says it.

    A damaged file is set aside and what can be read of it is recovered. `now` in ms. Raises StorageError.
    """
    with _alone(path):
        try:
            done = [Mended(words) for words in replacing.finish_interrupted(path)]
            damage = _damage(path)
            if damage:
                recovered = database.recover(path, now, damage, begin_anew=False)
                done += [Mended(recovered.words), *mending.lost(recovered.lost)]
            done += _put_right(path)
        except (sqlite3.Error, OSError) as error:
            raise translated(error, path) from error
    return done + _noted(path, now, done) if done else []


def _noted(path: Path, now: int, done: list[Mended]) -> list[Mended]:
    """Let App.Log say what was done, as a start does; what opening the ledger did by itself."""
    ledger = Ledger.open(path, now)
    try:
        opened = [Mended(words) for words in ledger.words]
        lines = [*done, *opened]
        ledger.commit([AppLogLine(now, "error" if each.lost else "warning", each.words) for each in lines])
    finally:
        ledger.close()
    return opened


def vacuum(path: Path, now: int) -> tuple[int, int]:
    """Rewrite the ledger without the room that nothing uses; bytes before and after. `now` in ms. Raises StorageError.

    The new file is built beside the old one: SQLite's own way would need as much, in memory or in another place.
    """
    with _alone(path):
        try:
            replacing.finish_interrupted(path)
            with opening.opened(path):
                before = database.bytes_on_disk(path)
            fresh = replacing.to_build(path, replacing.VACUUMED)
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                replacing.emptied_wal(connection, path)
                used, _ = _sizes(connection)
                replacing.demand_room(path.parent, used)
                create_private(fresh)
                _vacuum_into(connection, fresh)
            replacing.put_in_place(path, replacing.VACUUMED, times.compact(now))
        except opening.Damaged as error:
            raise LedgerDamaged(f"the ledger {path} is damaged ({error}); {_REPAIR}") from error
        except (sqlite3.Error, OSError) as error:
            raise translated(error, path) from error
    return before, database.bytes_on_disk(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The ledger's lock for the time of a `with`. Raises LedgerMissing, LedgerBroken, LedgerInUse or CannotStore."""
    if not replacing.is_there(path):
        _refuse_nothing(path)
    try:
        lock = hold(path)
    except LedgerInUse as error:
        raise LedgerInUse(f"the appliance runs (it holds the lock of {path}); stop it first") from error
    try:
        yield
    finally:
        os.close(lock)


def _refuse_nothing(path: Path) -> None:
    """Raises LedgerMissing or LedgerBroken where there is no file, or an empty one."""
    try:
        if path.stat().st_size or not path.is_file():
            return
    except FileNotFoundError as error:
        raise LedgerMissing(f"there is no ledger {path}; name a ledger, or start the appliance to begin one") from error
    except OSError:
        return
    raise LedgerBroken(
        f"the ledger {path} is empty; put the newest backup in its place (locum ledger adopt), or delete it "
        "and start the appliance to begin a new one"
    )


def _vacuum_into(connection: sqlite3.Connection, fresh: Path) -> None:
    try:
        connection.execute("VACUUM INTO ?", (str(fresh),))
    except sqlite3.Error:
        replacing.discard(fresh)
        raise


def integrity(connection: sqlite3.Connection) -> str:
    """What SQLite finds wrong with the file, in one line; "" nothing. Raises sqlite3.Error other than of damage."""
    try:
        faults = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_FAULTS})")]
    except sqlite3.Error as error:
        if not says_corrupt(error):
            raise
        return str(error)
    return "" if faults == ["ok"] else "; ".join(" ".join(fault.split()) for fault in faults)


def _pages(connection: sqlite3.Connection) -> Finding:
    damage = integrity(connection)
    if damage:
        return Finding("pages", f"damaged: {damage}", _REPAIR)
    used, unused = _sizes(connection)
    spare = f", {unused / 1e6:,.1f} MB of it unused" if unused else ""
    return Finding("pages", f"sound, {(used + unused) / 1e6:,.1f} MB{spare}")


def _inside(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    kind = copies.said_by(connection).get("kind", "ledger")
    if kind != "export":
        missing, strange = mending.differences(connection)
        yield _schema(connection, missing, strange)
        if any(thing.type == "table" for thing in missing):
            return
        yield _outbox(connection)
        yield _totals(connection)
    yield _chain(connection)
    yield _signatures(connection)
    if kind == "ledger":
        yield _room(path)


def _schema(connection: sqlite3.Connection, missing: list[mending.Thing], strange: list[mending.Thing]) -> Finding:
    number = migrations.version(connection)
    known = f"version {number}" if number == migrations.CURRENT else f"version {number}, older than this Locum's"
    if not missing and not strange:
        return Finding("schema", f"{known}, with all its guards")
    named = [f"{each.type} {each.name} is missing or altered" for each in missing]
    named += [f"trigger {each.name} is not Locum's" for each in strange]
    return Finding("schema", f"{known}: {'; '.join(named[:_MOST_FAULTS])}", f"{_VERIFY}; then: locum ledger repair")


def _outbox(connection: sqlite3.Connection) -> Finding:
    counted = connection.execute(mending.COUNTED).fetchall()
    lost = connection.execute(
        "SELECT count(*) FROM outbox WHERE NOT EXISTS (SELECT 1 FROM entries WHERE entries.seq = outbox.seq)"
    ).fetchone()[0]
    records = sum(row[2] for row in counted)
    if lost:
        return Finding("outbox", f"{lost} of {records} records have no entry", _REPAIR)
    if counted != connection.execute(mending.KEPT_COUNTS).fetchall():
        return Finding("outbox", f"{records} records, but its counts say otherwise", _REPAIR)
    return Finding("outbox", f"{records} records, as counted")


def _totals(connection: sqlite3.Connection) -> Finding:
    jobs, kept = mending.jobs(connection)
    if jobs != kept:
        return Finding("totals", f"{jobs} jobs, but the total says {kept}", _REPAIR)
    return Finding("totals", f"{jobs} jobs, as counted")


def _chain(connection: sqlite3.Connection) -> Finding:
    rows = connection.execute(
        "SELECT seq, CAST(body AS BLOB), prev_hash, hash FROM entries ORDER BY seq DESC LIMIT ?", (_CHAIN_END,)
    ).fetchall()
    if not rows:
        return Finding("chain", "no entries")
    after = None
    for seq, body, before, own in rows:
        if proof.entry_hash(before, body) != own or after not in (None, (seq, own)):
            return Finding("chain", f"entry {seq} was changed, or what follows it", _VERIFY)
        after = (seq - 1, before)
    return Finding("chain", f"ends at entry {rows[0][0]}, and its last {len(rows)} hold")


def _signatures(connection: sqlite3.Connection) -> Finding:
    if migrations.version(connection) < 3:
        return Finding("signatures", "none: this schema had no checkpoints")
    signed = connection.execute("SELECT max(seq) FROM checkpoints").fetchone()[0] or 0
    head = connection.execute("SELECT max(seq) FROM entries").fetchone()[0] or 0
    if signed > head:
        return Finding("signatures", f"entry {signed} is signed, but the last one is {head}", _VERIFY)
    unsigned = head - signed
    return Finding("signatures", f"signed through entry {signed}" + (f", {unsigned} after it not yet" * bool(unsigned)))


def _room(path: Path) -> Finding:
    total, free = space.measured(path.parent)
    words = f"{free / 1e6:,.0f} MB of {total / 1e6:,.0f} MB are free"
    if space.level_of(total, free) > space.Level.ENOUGH:
        return Finding("room", words, "make room on that disk, or: locum ledger archive")
    return Finding("room", words)


def _damage(path: Path) -> str:
    """What is wrong with the file that only a recovery mends; "" nothing."""
    try:
        with opening.opened(path) as copy:
            return integrity(copy.connection)
    except opening.Damaged as error:
        return str(error.__cause__ or error)
    except LedgerBroken:
        # In this place it was a ledger; a start would recover what can be read, too.
        with path.open("rb") as stream:
            beginning = stream.read(len(_MAGIC))
        if beginning in (b"", _MAGIC):
            raise
        return "its first bytes are not those of an SQLite file"


def _put_right(path: Path) -> list[Mended]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        done = mending.put_right(connection)
        connection.execute("COMMIT")
    return done


def _sizes(connection: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the pages in use, and of those that nothing uses."""
    size, count, unused = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return (count - unused) * size, unused * size
