"""Putting right what a sound file says wrongly: guards, views and indexes that are gone or altered, tables that are
gone, rows of the outbox that have no entry, counts.

All of it in one transaction of the caller's. What was changed in the evidence itself is not put right: the chain shows
it, and must.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from storage import migrations, rebuilding
from storage.errors import LedgerDamaged

COUNTED = "SELECT upstream, state, count(*) FROM outbox GROUP BY upstream, state ORDER BY 1, 2"
"""Query: what is in the outbox, by upstream and state."""
KEPT_COUNTS = "SELECT upstream, state, records FROM outbox_counts WHERE records <> 0 ORDER BY 1, 2"
"""Query: what its counts say of the same."""


@dataclass(frozen=True, slots=True)
class Mended:
    """One thing that a repair did; `lost`: it could not put right what it tells of."""

    words: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Thing:
    """A table, trigger, index or view, as `sqlite_schema` has it."""

    type: str
    name: str
    sql: str


def lost(lines: Iterable[str]) -> list[Mended]:
    """Lines about what a repair could not put right."""
    return [Mended(line, lost=True) for line in lines]


def put_right(connection: sqlite3.Connection) -> list[Mended]:
    """Put right what can be; what was done. Raises LedgerDamaged where the entries are gone, or sqlite3.Error."""
    back, tables = _guards_back(connection)
    if "entries" in tables:
        raise LedgerDamaged("the table of the entries is gone; put the newest backup in its place: locum ledger adopt")
    done = [Mended(words) for words in back]
    done += lost(rebuilding.without_entry(connection))
    if migrations.version(connection) == migrations.CURRENT:
        done += _filled(connection, tables)
    done += [Mended(words) for words in _recounted(connection)]
    return done


def _filled(connection: sqlite3.Connection, tables: list[str]) -> Iterator[Mended]:
    """Fill tables that were gone with what the entries say."""
    for table in tables:
        rows = rebuilding.plain_rows(connection, table)
        if rows:
            yield Mended(f"{rows} rows of {table} were written anew from the entries")
    if "outbox" in tables:
        number, unknown = rebuilding.outbox(connection)
        yield Mended(f"{rebuilding.records(number)} put back into the outbox, and counted as sent until the next start")
        yield from lost(unknown)


def differences(connection: sqlite3.Connection) -> tuple[list[Thing], list[Thing]]:
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


def _things(connection: sqlite3.Connection) -> dict[tuple[str, str], Thing]:
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE '%sqlite_%' ORDER BY rowid"
    )
    return {(kind, name): Thing(kind, name, sql) for kind, name, sql in rows}


def _same(wanted: Thing, there: Thing | None) -> bool:
    """A guard must be what it was word for word; the rest must be there."""
    return there is not None and (wanted.type != "trigger" or wanted.sql == there.sql)


def jobs(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many jobs there are, and how many the total says."""
    there = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
    kept = connection.execute("SELECT value FROM totals WHERE name = 'jobs'").fetchone()
    return there, kept[0] if kept else 0


def _guards_back(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """What was done, in words, and which tables were made anew, empty."""
    missing, strange = differences(connection)
    there = _things(connection)
    for thing in (*strange, *missing):
        if thing in strange or (thing.type, thing.name) in there:
            connection.execute(f'DROP {thing.type} "{thing.name}"')
        if thing in missing:
            connection.execute(thing.sql)
    words = []
    if missing:
        words.append(f"put back: {', '.join(f'{each.type} {each.name}' for each in missing)}")
    if strange:
        names = ", ".join(f"trigger {each.name}" for each in strange)
        words.append(f"taken out, because Locum did not make them: {names}")
    return words, [each.name for each in missing if each.type == "table"]


def _recounted(connection: sqlite3.Connection) -> Iterator[str]:
    if connection.execute(COUNTED).fetchall() != connection.execute(KEPT_COUNTS).fetchall():
        connection.execute("DELETE FROM outbox_counts")
        connection.execute(f"INSERT INTO outbox_counts {COUNTED}")
        yield "the counts of the outbox were wrong and are right now"
    there, kept = jobs(connection)
    if there != kept:
        connection.execute("INSERT OR REPLACE INTO totals VALUES ('jobs', ?)", (there,))
        yield f"the total of jobs was {kept} and is {there} now"
