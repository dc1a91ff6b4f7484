"""Looking after the ledger's file: what is wrong with it, putting that right, and giving room back.

`check` only reads, beside a running appliance too: SQLite's own check of every page, the guards and tables that ought
to be there, what is counted against the rows, the end of the chain. `repair` and `vacuum` hold the ledger's lock. The
whole proof is not checked here but by `verify`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from storage import copies, database, migrations, proof, replacing, space, times
from storage.errors import LedgerBroken, says_corrupt, translated
from storage.locking import create_private, held
from storage.verifying import opening

_MOST_FAULTS = 5
_CHAIN_END = 100
_REPAIR = "stop the appliance, then: locum ledger repair"
_VERIFY = "find out who changed it; see: locum ledger verify"
_COUNTED = "SELECT upstream, state, count(*) FROM outbox GROUP BY upstream, state ORDER BY 1, 2"
_KEPT_COUNTS = "SELECT upstream, state, records FROM outbox_counts WHERE records <> 0 ORDER BY 1, 2"
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


@dataclass(frozen=True, slots=True)
class _Thing:
    """A table, trigger, index or view, as `sqlite_schema` has it."""

    type: str
    name: str
    sql: str


def check(path: Path) -> list[Finding]:
    """Look at a ledger file, or at a backup, an archive or an export. Nothing is changed.

    Raises LedgerMissing, LedgerTooNew, LedgerBroken (no ledger at all) or another StorageError.
    """
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


def repair(path: Path, now: int) -> list[str]:
    """Put right what `check` finds and can be put right; lines that say what was done, none if nothing was wrong.

    A damaged file is set aside and what can be read of it is recovered. `now` in ms. Raises StorageError.
    """
    with held(path):
        try:
            words = replacing.finish_interrupted(path)
            damage = _damage(path)
            if damage:
                words.append(database.recover(path, now, damage))
            return words + _put_right(path)
        except (sqlite3.Error, OSError) as error:
            raise translated(error, path) from error


def vacuum(path: Path, now: int) -> tuple[int, int]:
    """Rewrite the ledger without the room that nothing uses; bytes before and after. `now` in ms. Raises StorageError.

    The new file is built beside the old one: SQLite's own way would need as much, in memory or in another place.
    """
    with held(path):
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
        except (sqlite3.Error, OSError) as error:
            raise translated(error, path) from error
    return before, database.bytes_on_disk(path)


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
        missing, strange = _differences(connection)
        yield _schema(connection, missing, strange)
        if any(thing.type == "table" for thing in missing):
            return
        yield _outbox(connection)
        yield _totals(connection)
    yield _chain(connection)
    yield _signatures(connection)
    if kind == "ledger":
        yield _room(path)


def _schema(connection: sqlite3.Connection, missing: list[_Thing], strange: list[_Thing]) -> Finding:
    number = migrations.version(connection)
    known = f"version {number}" if number == migrations.CURRENT else f"version {number}, older than this Locum's"
    if not missing and not strange:
        return Finding("schema", f"{known}, with all its guards")
    named = [f"{each.type} {each.name} is missing or altered" for each in missing]
    named += [f"trigger {each.name} is not Locum's" for each in strange]
    return Finding("schema", f"{known}: {'; '.join(named[:_MOST_FAULTS])}", f"{_VERIFY}; then: locum ledger repair")


def _differences(connection: sqlite3.Connection) -> tuple[list[_Thing], list[_Thing]]:
    """What a ledger of this version has and this file has not, and the triggers that it has and ought not to."""
    number = migrations.version(connection)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrations.migrate(fresh, migrations.STEPS[:number])
        wanted = _things(fresh)
    there = _things(connection)
    kinds = {"table", "trigger", "index", "view"} if number == migrations.CURRENT else {"table", "trigger"}
    missing = [thing for key, thing in wanted.items() if thing.type in kinds and not _same(thing, there.get(key))]
    strange = [thing for key, thing in there.items() if thing.type == "trigger" and key not in wanted]
    return missing, strange


def _things(connection: sqlite3.Connection) -> dict[tuple[str, str], _Thing]:
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE '%sqlite_%' ORDER BY rowid"
    )
    return {(kind, name): _Thing(kind, name, sql) for kind, name, sql in rows}


def _same(wanted: _Thing, there: _Thing | None) -> bool:
    """A guard must be what it was word for word; the rest must be there."""
    return there is not None and (wanted.type != "trigger" or wanted.sql == there.sql)


def _outbox(connection: sqlite3.Connection) -> Finding:
    counted = connection.execute(_COUNTED).fetchall()
    lost = connection.execute(
        "SELECT count(*) FROM outbox WHERE NOT EXISTS (SELECT 1 FROM entries WHERE entries.seq = outbox.seq)"
    ).fetchone()[0]
    records = sum(row[2] for row in counted)
    if lost:
        return Finding("outbox", f"{lost} of {records} records have no entry", _VERIFY)
    if counted != connection.execute(_KEPT_COUNTS).fetchall():
        return Finding("outbox", f"{records} records, but its counts say otherwise", _REPAIR)
    return Finding("outbox", f"{records} records, as counted")


def _totals(connection: sqlite3.Connection) -> Finding:
    jobs, kept = _jobs(connection)
    if jobs != kept:
        return Finding("totals", f"{jobs} jobs, but the total says {kept}", _REPAIR)
    return Finding("totals", f"{jobs} jobs, as counted")


def _jobs(connection: sqlite3.Connection) -> tuple[int, int]:
    jobs = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
    kept = connection.execute("SELECT value FROM totals WHERE name = 'jobs'").fetchone()
    return jobs, kept[0] if kept else 0


def _chain(connection: sqlite3.Connection) -> Finding:
    rows = connection.execute(
        "SELECT seq, body, prev_hash, hash FROM entries ORDER BY seq DESC LIMIT ?", (_CHAIN_END,)
    ).fetchall()
    if not rows:
        return Finding("chain", "no entries")
    after = None
    for seq, body, before, own in rows:
        if proof.entry_hash(before, body.encode()) != own or after not in (None, (seq, own)):
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


def _put_right(path: Path) -> list[str]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        words = [*_guards_back(connection), *_recounted(connection)]
        connection.execute("COMMIT")
    return words


def _guards_back(connection: sqlite3.Connection) -> Iterator[str]:
    missing, strange = _differences(connection)
    there = _things(connection)
    for thing in (*strange, *missing):
        if thing in strange or (thing.type, thing.name) in there:
            connection.execute(f'DROP {thing.type} "{thing.name}"')
        if thing in missing:
            connection.execute(thing.sql)
    if missing:
        yield f"put back: {', '.join(f'{each.type} {each.name}' for each in missing)}"
    if strange:
        yield f"taken out, because Locum did not make them: {', '.join(f'trigger {each.name}' for each in strange)}"


def _recounted(connection: sqlite3.Connection) -> Iterator[str]:
    if connection.execute(_COUNTED).fetchall() != connection.execute(_KEPT_COUNTS).fetchall():
        connection.execute("DELETE FROM outbox_counts")
        connection.execute(f"INSERT INTO outbox_counts {_COUNTED}")
        yield "the counts of the outbox were wrong and are right now"
    jobs, kept = _jobs(connection)
    if jobs != kept:
        connection.execute("INSERT OR REPLACE INTO totals VALUES ('jobs', ?)", (jobs,))
        yield f"the total of jobs was {kept} and is {jobs} now"


def _sizes(connection: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the pages in use, and of those that nothing uses."""
    size, count, unused = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return (count - unused) * size, unused * size
