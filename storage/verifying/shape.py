"""What a ledger's file must look like: the evidence tables of its schema version, the guards on them, and what it says
it is.

A file that is no whole ledger (an export, an archive, a backup) says so in `export_info`; what such a file leaves out
is told, never what is there left unchecked.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

from storage import copies, migrations, schema_1, schema_2, schema_3, schema_4, views
from storage.verifying.findings import Broken, Wrong

_STEPS = (schema_1.statements, schema_2.statements, schema_3.statements, schema_4.statements)
_EVIDENCE = (schema_1.EVIDENCE, schema_2.EVIDENCE, schema_3.EVIDENCE, schema_4.EVIDENCE)
_WHOLE = {"ledger", "backup"}
_KINDS = ("backup", "archive", "export")
_COUNTING = ("outbox_in", "outbox_out", "outbox_moved")

Columns = tuple[tuple[str, str, int, int], ...]
"""Name, type, not null, place in the key."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is: ledger, backup, archive or export. `plain` and `personal`: whole, filtered, none."""

    name: str = "ledger"
    plain: str = "whole"
    personal: str = "whole"
    pseudonymised: bool = False
    erased: int = 0
    """So many of its entries were erased by notes that are not in it."""
    through: int | None = None
    """The last entry of an archive."""
    marked: bool = False
    """The file says all this itself; a ledger at work says nothing."""

    @property
    def guarded(self) -> bool:
        """Whether its evidence tables must refuse changes."""
        return self.name in _WHOLE

    def words(self) -> list[str]:
        """What it leaves out."""
        said = []
        if self.name != "ledger":
            said.append(f"this file says that it is {'an' if self.name[0] in 'ae' else 'a'} {self.name}")
        if self.plain != "whole":
            said.append("rows of plain tables were left out; those that are there were checked")
        if self.pseudonymised:
            said.append("it is pseudonymised: no personal data is there to be checked, and a pseudonym proves nothing")
        elif self.personal != "whole":
            said.append("rows of personal data were left out, so erasures cannot be counted")
        return said


@dataclass(frozen=True, slots=True)
class Shape:
    """The evidence tables of a schema version with the columns of each, as they must be, and the statements that
    made them and all triggers: the guards on them, and those that count the outbox.
    """

    tables: dict[str, Columns]
    statements: dict[str, str]

    def names(self, table: str) -> tuple[str, ...]:
        """The names of a table's columns."""
        return tuple(column[0] for column in self.tables[table])


def shape_of(version: int) -> Shape:
    """What step by step leads to this schema version."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        for step in _STEPS[:version]:
            for statement in step():
                model.execute(statement)
        names = dict.fromkeys(name for made in _EVIDENCE[:version] for name in made)
        tables = {name: _columns(model, name) for name in names}
        return Shape(tables, _statements(model, tables))


def kind_of(connection: sqlite3.Connection) -> Kind:
    """What the file says it is. Raises sqlite3.Error."""
    said = copies.said_by(connection)
    if not said:
        return Kind()
    pseudonymised = said.get("pseudonymised", "0") == "1"
    return Kind(
        said.get("kind", "export"),
        said.get("plain", "whole"),
        said.get("personal", "none" if pseudonymised else "whole"),
        pseudonymised,
        _number(said.get("erased", "")) or 0,
        _number(said.get("through", "")),
        True,
    )


def _number(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else None


def check_kind(kind: Kind) -> None:
    """Raise `Broken` if a file says of itself what no file of Locum's says: whoever leaves something out of a whole
    ledger would say so in order that it is not missed.
    """
    if not kind.marked:
        return
    if kind.name not in _KINDS:
        raise Broken(0, "the file", "it says in export_info that it is something that Locum does not make")
    if kind.name != "export" and (kind.plain, kind.personal, kind.pseudonymised) != ("whole", "whole", False):
        raise Broken(
            0, "the file", f"it says of itself: a {kind.name} with something left out; Locum makes no such {kind.name}"
        )
    if kind.erased and kind.name == "backup":
        raise Broken(0, "the file", "it says of erasures what only an archive says")


def check_tables(connection: sqlite3.Connection, shape: Shape, version: int) -> None:
    """Raise `Broken` if an evidence table is missing, or is another than Locum makes."""
    listed = connection.execute("PRAGMA main.table_list").fetchall()
    strict = {name for _, name, type_, _, _, strict in listed if strict and type_ == "table"}
    for name, columns in shape.tables.items():
        there = _columns(connection, name)
        if not there:
            raise Broken(0, "the file", f"the table {name} is missing")
        if name not in strict or there != columns:
            raise Broken(0, "the file", f"the table {name} is not as schema {version} makes it")


def check_statements(
    connection: sqlite3.Connection, shape: Shape, kind: Kind, version: int
) -> tuple[Wrong | None, list[str]]:
    """What is wrong with the guards, the views and the statements that made the tables, and what is worth a remark."""
    there = _statements(connection, shape.tables)
    for name, statement in shape.statements.items():
        if there.get(name) == statement:
            continue
        if name in shape.tables:
            if kind.guarded:
                return Wrong("the file", f"the statement that made the table {name} was altered"), []
        elif kind.guarded or name in there:
            happened = "was altered" if name in there else "was removed"
            trigger = (
                f"trigger {name}, which counts the outbox"
                if name in _COUNTING
                else f"guard {name}, which refuses changes"
            )
            return Wrong("the file", f"the {trigger}, {happened}"), []
    strange = sorted(set(there) - set(shape.statements))
    if strange and kind.name != "export":
        return Wrong("the file", f"the trigger {strange[0]} is not Locum's: it may change or hide what is written"), []
    if version == migrations.CURRENT and kind.name != "export":
        said = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'view'"))
        for name, statement in zip(views.VIEWS, views.statements(), strict=True):
            if said.get(name) != statement:
                happened = "was altered" if name in said else "was removed"
                return Wrong("the file", f"the view {name} {happened}: it does not answer what it says"), []
    return None, [f"the trigger {name} is not Locum's" for name in strange]


def _columns(connection: sqlite3.Connection, table: str) -> Columns:
    found = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,))
    return tuple((name, type_, notnull, pk) for name, type_, notnull, pk in found)


def _statements(connection: sqlite3.Connection, tables: dict[str, Columns]) -> dict[str, str]:
    """The statements of these tables and of all triggers."""
    rows = connection.execute("SELECT name, type, sql FROM sqlite_schema WHERE type IN ('table', 'trigger')")
    return {name: sql for name, type_, sql in rows if type_ == "trigger" or name in tables}
