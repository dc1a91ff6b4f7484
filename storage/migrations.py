"""The steps that lead from an empty file to the present schema, numbered, each in a transaction of its own.

The number of the last step done is the file's `user_version`, set in the step's own transaction: so a start that has
nothing to migrate learns that from one pragma, and sqlite-utils (10 MB, 60 ms) is not even imported. Its `Migrations`
run the steps and note in the file when each was done. A step, once released, is never changed: what follows is a new
one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from storage import schema_1, schema_2, schema_3, schema_4, views

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x4C6F636D  # "Locm"

Step = Callable[["Database"], None]


def first_ledger(database: Database) -> None:
    """Version 1: all tables, their guards, the counting triggers and the views."""
    for statement in [*schema_1.statements(), *views.statements(views.OF_VERSION_1)]:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def unlocking_and_drills(database: Database) -> None:
    """Version 2: what unlocking, drills and servers that cannot recognise a repeat need."""
    _with_views_anew(database, schema_2.statements())


def proof_and_meters(database: Database) -> None:
    """Version 3: checkpoints, and readings of page meters."""
    _with_views_anew(database, schema_3.statements())


def traps(database: Database) -> None:
    """Version 4: traps of copiers, kept and forwarded."""
    _with_views_anew(database, schema_4.statements())


def _with_views_anew(database: Database, statements: Iterable[str]) -> None:
    known = database.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
    for statement in [*(f"DROP VIEW {name}" for (name,) in known), *statements, *views.statements()]:
        database.execute(statement)


STEPS: tuple[Step, ...] = (first_ledger, unlocking_and_drills, proof_and_meters, traps)
CURRENT = len(STEPS)


def version(connection: sqlite3.Connection) -> int:
    """The schema version of the file: 0 for an empty one."""
    number: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return number


def migrate(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Do the steps that the file lacks. Raises sqlite3.Error; the file then stands after the last step that went."""
    from sqlite_utils import Database, Migrations

    migrations = Migrations("locum")
    for number, step in enumerate(steps, 1):
        migrations(name=f"{number:03d} {step.__name__}")(_numbered(number, step))
    migrations.apply(Database(connection))


def _numbered(number: int, step: Step) -> Step:
    def run(database: Database) -> None:
        step(database)
        database.execute(f"PRAGMA user_version = {number}")

    return run
