"""Closing old entries into an archive: a ledger file of its own that proves itself, and to which what goes on refers.

All entries up to a checkpoint go: with their plain rows, their personal data and their signatures. What stays begins
with the entry after it, whose `prev_hash` is the archived head; the checkpoint is in both files, and a note `archive`
names the file by its SHA-256. The archive is complete and read back before the ledger is touched, and the ledger's new
file takes its place as `replacing.py` has it. Nothing that is still at work goes: what waits in the outbox, an outage
that goes on, a session, the last day.

Erasures are counted by notes, but an entry may have been erased before the archiving by a note after it. So that both
files still add up, the note says in `erased` how many; the rule is: commitments without a row = `entries` of the notes
`erased` - `erased` of the notes `archive` in the same file (whose `through` is before its first entry) + `erased` of
`export_info`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from storage import checkpoints, copies, database, keeping, places, replacing, schema, times
from storage.batch import Batch, Chain
from storage.errors import CannotStore, LedgerMissing, StorageError, translated
from storage.ledger import end_of_chain
from storage.locking import held, sync
from storage.records import Note, Sign
from storage.repeats import Repeats
from storage.signing import Signer
from storage.verifying import opening

DAY = 24 * 3_600_000

_LAST_BEFORE = """SELECT number, seq, body, signature, public_key FROM checkpoints
WHERE json_extract(body, '$.time') < ? ORDER BY number DESC LIMIT 1"""
_OPEN_OUTAGES = """SELECT l.upstream FROM outage_events l
WHERE l.seq IN (SELECT max(seq) FROM outage_events GROUP BY upstream) AND l.state <> 'online'
AND EXISTS (SELECT 1 FROM outage_events b WHERE b.upstream = l.upstream AND b.outage = l.outage AND b.seq <= ?)"""
_SESSIONS = "SELECT count(*) FROM logins WHERE session <> '' AND outcome = 'granted' AND seq <= ? AND expires_at > ?"
_ERASED = """SELECT
(SELECT count(*) FROM entries e WHERE e.seq <= ?1 AND json_extract(e.body, '$.data.personal') IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM personal p WHERE p.seq = e.seq))
- (SELECT coalesce(sum(json_extract(data, '$.entries')), 0) FROM notes WHERE note = 'erased' AND seq <= ?1)
+ (SELECT coalesce(sum(json_extract(data, '$.erased')), 0) FROM notes WHERE note = 'archive' AND seq <= ?1)"""

_ARCHIVED_IN = """SELECT json_extract(data, '$.hash') FROM notes
WHERE note = 'archive' AND json_extract(data, '$.through') = ?"""
_USED = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_SHARE = "SELECT total(length(body)) FILTER (WHERE seq <= ?) / max(total(length(body)), 1) FROM entries"


class CannotArchive(StorageError):
    """This part of the ledger cannot be archived; the text is one line: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What went: `entries` of them, from `first` through `through`. `sha256`: of the archive, hex; `erased`: as the
    module says. `before` and `after`: the ledger's bytes.
    """

    entries: int
    first: int
    through: int
    sha256: str
    erased: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class _Plan:
    first: int
    through: int
    head: bytes
    erased: int


def archive(
    path: Path, dest: Path, before: int, now: int, signer: Signer, who: str, tell: Callable[[str], object] = str
) -> Archived:
    """Close the entries up to the last checkpoint made before `before` (ms) into `dest`; `tell` hears what is being
    done.

    Raises CannotArchive, or another StorageError; the ledger is as it was then.
    """
    refuse(path, dest)
    opened = database.open_writer(path, now, recovers=False)
    stamp = times.compact(now)
    try:
        size = database.bytes_on_disk(path)
        with closing(opened.connection) as source:
            plan = _plan(source, before, now)
            replacing.emptied_wal(source, path)
            _demand_room(source, path, dest, plan)
            tell("writing the archive")
            with _about(dest):
                _write_archive(source, dest, plan, now)
            with _removed_on_failure(dest), dest.open("rb") as stream:
                tell("writing the ledger that goes on")
                digest = file_digest(stream, "sha256").hexdigest()
                data: dict[str, str | int] = {
                    "to": str(dest),
                    "sha256": digest,
                    "first": plan.first,
                    "through": plan.through,
                    "hash": plan.head.hex(),
                    "erased": plan.erased,
                }
                _write_rest(source, path, plan, Note(now, "archive", data, who), signer)
        replacing.put_in_place(path, replacing.ARCHIVED, stamp)
    except (sqlite3.Error, OSError) as error:
        raise translated(error, path) from error
    finally:
        os.close(opened.lock)
    entries = plan.through - plan.first + 1
    return Archived(entries, plan.first, plan.through, digest, plan.erased, size, database.bytes_on_disk(path))


def refuse(path: Path, dest: Path) -> None:
    """Raises a StorageError if there can be no archive at `dest`, before anything is done. An archiving that was cut
    off when the archive was made and the ledger had only to get its place is completed first.
    """
    if not path.exists():
        raise LedgerMissing(f"there is no ledger {path}; name its state directory")
    with held(path):
        try:
            replacing.finish_interrupted(path)
        except OSError as error:
            raise translated(error, path) from error
    if dest.is_file():
        _refuse_what_is_there(path, dest)
    places.try_out(dest)


def _refuse_what_is_there(path: Path, dest: Path) -> None:
    """Raises CannotArchive if `dest` is an archive of this ledger, made by an archiving that was cut off."""
    try:
        with opening.opened(dest) as there:
            said = copies.said_by(there.connection)
            last = there.connection.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        if said.get("kind") != "archive" or last is None:
            return
        with database.reading(path) as ledger:
            still = ledger.execute("SELECT 1 FROM entries WHERE seq = ? AND hash = ?", last).fetchone()
            gone = ledger.execute(_ARCHIVED_IN, last[:1]).fetchall()
    except (StorageError, sqlite3.Error):
        return
    if still:
        raise CannotArchive(
            f"{dest} is an archive of this ledger through entry {last[0]} from an archiving that was cut off, and the "
            "ledger still has all of it; delete that file, or name another, and archive again"
        )
    if (last[1].hex(),) in gone:
        raise CannotArchive(
            f"{dest} is the archive of this ledger through entry {last[0]}, whole, and the ledger goes on from there; "
            "keep it, and to archive more name another file"
        )


def _plan(source: sqlite3.Connection, before: int, now: int) -> _Plan:
    if copies.said_by(source):
        raise CannotArchive("this ledger was put here and has not been started yet; run the appliance once, then stop")
    if before > now - DAY:
        raise CannotArchive("the last 24 hours stay in the ledger, which works with them; name an earlier date")
    row = source.execute(_LAST_BEFORE, (times.text(before),)).fetchone()
    first = source.execute("SELECT min(seq) FROM entries").fetchone()[0]
    if row is None or first is None or row[1] < first:
        raise CannotArchive(f"the ledger has no checkpoint from before {times.text(before)}; name a later date")
    signed = checkpoints.Checkpoint(*row)
    said = signed.said()
    through = signed.seq
    found = source.execute("SELECT hash FROM entries WHERE seq = ?", (through,)).fetchone()
    if said is None or not signed.signed() or found is None or found[0] != said.hash:
        raise CannotArchive(f"the checkpoint of entry {through} does not hold; see: locum ledger verify")
    _refuse_at_work(source, through, now)
    return _Plan(first, through, said.hash, source.execute(_ERASED, (through,)).fetchone()[0])


def _refuse_at_work(source: sqlite3.Connection, through: int, now: int) -> None:
    waiting, oldest = source.execute("SELECT count(*), min(at) FROM outbox WHERE seq <= ?", (through,)).fetchone()
    if waiting:
        raise CannotArchive(
            f"{waiting} records from before then are in the outbox, the oldest of {oldest}; let them be delivered, "
            "decide or drop them (locum outbox list), or name an earlier date"
        )
    outage = source.execute(_OPEN_OUTAGES, (through,)).fetchone()
    if outage:
        raise CannotArchive(f"an outage of '{outage[0]}' from before then is not over; wait, or name an earlier date")
    if source.execute(_SESSIONS, (through, times.text(now - DAY))).fetchone()[0]:
        raise CannotArchive(
            "a session from before then is open, or was within the last 24 hours; wait, or name an earlier date"
        )


def _demand_room(source: sqlite3.Connection, path: Path, dest: Path, plan: _Plan) -> None:
    """What an entry takes is taken to be in proportion to its body."""
    used = source.execute(_USED).fetchone()[0]
    share = source.execute(_SHARE, (plan.through,)).fetchone()[0]
    try:
        if path.parent.stat().st_dev == dest.parent.stat().st_dev:
            replacing.demand_room(path.parent, used)
        else:
            replacing.demand_room(dest.parent, round(used * share))
            replacing.demand_room(path.parent, round(used * (1 - share)))
    except OSError as error:
        raise translated(error, path) from error


@contextmanager
def _about(dest: Path) -> Iterator[None]:
    """What goes wrong within a `with` is about the archive's disk, not the ledger's."""
    try:
        yield
    except OSError as error:
        raise places.unwritable(error, dest) from error
    except sqlite3.Error as error:
        if places.ran_out(error, dest.parent):
            raise places.full(error, dest) from error
        raise


def _write_archive(source: sqlite3.Connection, dest: Path, plan: _Plan, now: int) -> None:
    unfinished = places.begin(dest)
    said = {
        "kind": "archive",
        "made_at": times.text(now),
        "first": str(plan.first),
        "through": str(plan.through),
        "erased": str(plan.erased),
        "plain": "whole",
        "personal": "whole",
        "pseudonymised": "0",
    }
    with _removed_on_failure(unfinished):
        with _attached(source, unfinished):
            for table in schema.EVIDENCE:
                _copy(source, table, "seq <= ?", (plan.through,))
            _count_jobs(source)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as target:
            copies.mark(target, said)
            damage = keeping.integrity(target)
            if damage:
                raise CannotStore(f"the archive was not written as it should be ({damage}); look at the disk")
        sync(unfinished)
        unfinished.rename(dest)
        sync(dest.parent)


def _write_rest(source: sqlite3.Connection, path: Path, plan: _Plan, note: Note, signer: Signer) -> None:
    fresh = replacing.to_build(path, replacing.ARCHIVED)
    with _removed_on_failure(fresh):
        with _attached(source, fresh):
            for table in schema.EVIDENCE:
                condition = "seq >= ?" if table == "checkpoints" else "seq > ?"
                _copy(source, table, condition, (plan.through,))
            for table in schema.WORKING:
                if table not in ("outbox_counts", "totals"):
                    _copy(source, table)
            _count_jobs(source)
        _append(fresh, end_of_chain(source), note, signer)


def _append(fresh: Path, chain: Chain, note: Note, signer: Signer) -> None:
    with closing(sqlite3.connect(fresh, isolation_level=None)) as target:
        target.execute("BEGIN")
        Batch(target, chain, Repeats(target), signer).write([note, Sign(note.at)])
        target.execute("COMMIT")


@contextmanager
def _attached(source: sqlite3.Connection, file: Path) -> Iterator[None]:
    """A new, empty ledger file as `made`, in one transaction."""
    database.new_file(file).close()
    source.execute("ATTACH ? AS made", (str(file),))
    try:
        source.execute("BEGIN")
        yield
        source.execute("COMMIT")
    finally:
        if source.in_transaction:
            source.execute("ROLLBACK")
        source.execute("DETACH made")


def _copy(source: sqlite3.Connection, table: str, condition: str = "1", given: tuple[int, ...] = ()) -> None:
    columns = ", ".join(row[1] for row in source.execute(f"PRAGMA made.table_info({table})"))
    source.execute(f"INSERT INTO made.{table} ({columns}) SELECT {columns} FROM main.{table} WHERE {condition}", given)


def _count_jobs(source: sqlite3.Connection) -> None:
    source.execute("INSERT OR REPLACE INTO made.totals SELECT 'jobs', count(*) FROM made.jobs")


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        replacing.discard(file)
        raise
