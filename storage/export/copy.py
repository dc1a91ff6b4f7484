"""SQLite: a ledger that is read and never written to, in one file, with everything that makes it provable.

It is made anew, table by table, so that nothing of what is left out can remain in free pages. Evidence comes as it is,
with its guards. All entries between two checkpoints come along, for without them the chain cannot be checked and they
hold no personal data; plain and personal rows are those that were asked for. Of the working tables there are those an
auditor asks for. With pseudonyms the table `personal` is empty and the table `pseudonyms` takes its place in the views.

An export does not change, so it has indexes for the usual look-ups, and views that read a whole table for a short
answer are tables in it, worked out when it was made; the query itself is the view of the same name with `_anew`, with
which they can be compared.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from storage import copies, migrations, schema
from storage.cards import normalised
from storage.export.output import Tell, Written
from storage.export.pseudonyms import FIELDS, with_pseudonyms
from storage.export.snapshot import interruptible
from storage.export.subjects import Source
from storage.views import VIEWS

WORKING = ("outbox", "outbox_counts", "totals", "devices", "cards")
"""Working tables that an auditor may ask for."""
PSEUDONYMS = """CREATE TABLE pseudonyms ( -- in place of `personal`: who is the same person, and not who
  seq INTEGER PRIMARY KEY REFERENCES entries(seq),
  card TEXT NOT NULL, -- the beginning of HMAC-SHA-256(a key that was thrown away, name of the column || value)
  user TEXT NOT NULL,
  document TEXT NOT NULL,
  account TEXT NOT NULL
) STRICT"""
WORKED_OUT = (
    "jobs_by_card",
    "jobs_by_user",
    "jobs_by_device",
    "jobs_by_day",
    "unknown_cards",
    "records_not_taken",
    "maybe_forwarded_twice",
)
"""Views that read all of a large table for a short answer; they are tables here."""
ANEW = "_anew"
INDEXES = {
    "entries": ("kind", "recorded_at"),
    "jobs": ("at", "device, at", "device, session, job_number"),
    "accounting": ("at", "device, at"),
    "logins": ("at", "device, at", "session"),
    "deliveries": ("record", "at"),
    "app_log": ("at",),
}
"""Columns of further indexes by table."""
_OF_PERSONS = ("card", "user")
_SEQS_AT_ONCE = 20_000


def write(source: Source, target: Path, info: Mapping[str, str], tell: Tell) -> Written:
    """Make the file `target`; `info` goes into its table `export_info`. Raises sqlite3.Error."""
    with closing(sqlite3.connect(target, isolation_level=None)) as made:
        _careless(made)
        _Making(source, made).tables(info)
    source.connection.execute("ATTACH ? AS made", (str(target),))
    try:
        _careless(source.connection, "made.")
        _fill(source, tell)
    finally:
        source.connection.execute("DETACH made")
    with closing(sqlite3.connect(target, isolation_level=None)) as made:
        _careless(made)
        making = _Making(source, made)
        making.rest()
        counts = {name: made.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in making.names}
    return Written(counts)


def _careless(connection: sqlite3.Connection, where: str = "") -> None:
    """The file is thrown away if anything goes wrong: it needs no journal."""
    interruptible(connection)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -16384"):
        connection.execute(f"PRAGMA {where}{pragma}").fetchall()


class _Making:
    """The file's schema, which is Locum's own, whatever the snapshot's was altered to: `names` of its tables."""

    def __init__(self, source: Source, made: sqlite3.Connection) -> None:
        self._made = made
        self.hidden = _hidden(source)
        working = [name for name in WORKING if not (self.hidden and name == "cards")]
        self.names = [*schema.EVIDENCE, *working, *(["pseudonyms"] if self.hidden else [])]
        self._known = _ours()

    def tables(self, info: Mapping[str, str]) -> None:
        """Make the tables, and fill in `info`."""
        self._made.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
        self._made.execute(f"PRAGMA user_version = {migrations.CURRENT}")
        for statement in self._of("table"):
            self._made.execute(statement)
        if self.hidden:
            self._made.execute(PSEUDONYMS)
        copies.mark(self._made, info)

    def rest(self) -> None:
        """Indexes, guards and views, when all rows are there."""
        for statement in [*self._of("index"), *_more_indexes("pseudonyms" if self.hidden else "personal")]:
            self._made.execute(statement)
        for statement in self._of("trigger"):
            self._made.execute(statement)
        for name, query in VIEWS.items():
            query = with_pseudonyms(query) if self.hidden else query
            if name in WORKED_OUT:
                self._made.execute(f"CREATE VIEW {name}{ANEW} AS {query}")
                self._made.execute(f"CREATE TABLE {name} AS SELECT * FROM {name}{ANEW}")
            else:
                self._made.execute(f"CREATE VIEW {name} AS {query}")
        self._made.execute("ANALYZE")

    def _of(self, kind: str) -> Iterator[str]:
        tables = {*self.names} - {"pseudonyms"}
        return (sql for each, _, table, sql in self._known if each == kind and table in tables)


def _ours() -> list[tuple[str, str, str, str]]:
    """Type, name, table and statement of all that an empty ledger has."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        for statement in schema.statements():
            model.execute(statement)
        return model.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid"
        ).fetchall()


def _hidden(source: Source) -> bool:
    return source.pseudonyms is not None or source.personal != "personal"


def _more_indexes(personal: str) -> Iterator[str]:
    for table, lists in {**INDEXES, personal: _OF_PERSONS}.items():
        for columns in lists:
            name = "_".join(["export", table, *re.findall(r"\w+", columns)])
            yield f"CREATE INDEX IF NOT EXISTS {name} ON {table}({columns})"


def _fill(source: Source, tell: Tell) -> None:
    connection = source.connection
    hidden = _hidden(source)
    chosen = source.chosen
    within = f"seq BETWEEN {chosen.first} AND {chosen.through}"
    done = 0
    for table in schema.EVIDENCE:
        if table == "personal" and hidden:
            continue
        wanted = within if table == "entries" else source.wanted()
        if table == "checkpoints":
            if chosen.entries:
                connection.execute(
                    f"INSERT INTO made.checkpoints SELECT * FROM main.checkpoints "
                    f"WHERE seq BETWEEN {chosen.first - 1} AND {chosen.through}"
                )
            continue
        done = _copy_rows(source, table, "*", wanted, done, tell)
    if hidden:
        _fill_pseudonyms(source, done, tell)
    _fill_working(source, hidden)


def _copy_rows(source: Source, table: str, columns: str, wanted: str, done: int, tell: Tell, into: str = "") -> int:
    """Copy in pieces, so that an interruption need not wait for the end of a statement of minutes."""
    connection = source.connection
    last = connection.execute(f"SELECT coalesce(max(seq), 0) FROM main.{table}").fetchone()[0]
    place = connection.execute(f"SELECT coalesce(min(seq), 1) FROM main.{table}").fetchone()[0] - 1
    while place < last:
        done += connection.execute(
            f"INSERT INTO made.{into or table} SELECT {columns} FROM main.{table} "
            f"WHERE seq > ? AND seq <= ? AND {wanted} ORDER BY seq",
            (place, place + _SEQS_AT_ONCE),
        ).rowcount
        place += _SEQS_AT_ONCE
        tell(done)
    return done


def _fill_pseudonyms(source: Source, done: int, tell: Tell) -> None:
    columns = "seq, " + ", ".join(FIELDS)
    if source.pseudonyms is not None:
        source.connection.create_function("pseudonym", 2, source.pseudonyms.of)
        columns = "seq, " + ", ".join(f"pseudonym('{name}', {name})" for name in FIELDS)
    _copy_rows(source, source.personal, columns, source.wanted(), done, tell, "pseudonyms")


def _fill_working(source: Source, hidden: bool) -> None:
    connection = source.connection
    names = [row[1] for row in connection.execute("PRAGMA made.table_info(outbox)")]
    # The order in which they are sent names users and cards where the server wants it by these.
    blank = {"order_key", "evidence", "corrections"} if hidden else set()
    columns = ", ".join("''" if name in blank else name for name in names)
    connection.execute(
        f"INSERT INTO made.outbox ({', '.join(names)}) SELECT {columns} FROM main.outbox WHERE {source.wanted()}"
    )
    connection.execute(
        "INSERT INTO made.outbox_counts SELECT upstream, state, count(*) FROM made.outbox GROUP BY upstream, state"
    )
    connection.execute("INSERT INTO made.totals SELECT 'jobs', count(*) FROM made.jobs")
    devices, wanted = source.chosen.filters.devices, "true"
    if devices:
        wanted = f"device IN ({', '.join('?' * len(devices))})"
    connection.execute(f"INSERT INTO made.devices SELECT * FROM main.devices WHERE {wanted}", devices)
    if not hidden:
        connection.create_function("normalised", 1, normalised, deterministic=True)
        wanted = "true" if source.chosen.whole else "card IN (SELECT normalised(card) FROM made.personal)"
        connection.execute(f"INSERT INTO made.cards SELECT * FROM main.cards WHERE {wanted}")
