"""What stands in the simulated server's book: a value for every kind of row, and the schema.

A row is written as it is, in the order of its table's columns. Users, configuration values, sessions and printers are
replaced by their key; everything else is only ever added. Amounts of money are text with a decimal point, times are
ISO 8601 in UTC unless a column says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

BOOK_VERSION = 2
"""In SQLite's `user_version`; a book of another version is left alone."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS records ( -- every RADIUS accounting record, also those that came twice
  number INTEGER PRIMARY KEY, -- in the order in which they came
  received_at TEXT NOT NULL,
  event TEXT NOT NULL, -- start, interim, stop, on, off, other
  user TEXT NOT NULL, -- whose card it is; empty: nobody's
  card TEXT NOT NULL, -- User-Name
  device TEXT NOT NULL,
  session TEXT NOT NULL,
  job_number TEXT, -- the device's own; NULL: no job, as in the columns that follow
  kind TEXT, -- copy, print, scan, fax
  pages INTEGER,
  record_id TEXT NOT NULL, -- Locum-Record-Id; empty: there was none
  delay INTEGER NOT NULL -- Acct-Delay-Time in seconds
) STRICT;
CREATE INDEX IF NOT EXISTS records_job ON records(device, job_number);
CREATE TABLE IF NOT EXISTS logins (
  number INTEGER PRIMARY KEY,
  received_at TEXT NOT NULL,
  user TEXT NOT NULL, -- empty: unknown card
  card TEXT NOT NULL,
  device TEXT NOT NULL,
  outcome TEXT NOT NULL, -- granted, refused
  words TEXT NOT NULL, -- what the person was told
  via TEXT NOT NULL -- radius, terminal
) STRICT;
CREATE TABLE IF NOT EXISTS jobs ( -- the job log, of all faces
  number INTEGER PRIMARY KEY, -- in the order in which they came
  received_at TEXT NOT NULL,
  via TEXT NOT NULL, -- xmlrpc, terminal, radius
  user TEXT NOT NULL, -- who was charged
  card TEXT NOT NULL, -- empty where the dialect names the user
  server TEXT NOT NULL, -- processJob's server; "device" for a copier
  device TEXT NOT NULL, -- the device or printer
  job_number TEXT, -- the device's own; NULL where the dialect has none
  kind TEXT NOT NULL, -- copy, print, scan, fax; empty: not said
  pages INTEGER NOT NULL,
  color_pages INTEGER NOT NULL,
  copies INTEGER NOT NULL,
  document TEXT NOT NULL,
  time TEXT NOT NULL, -- when it was done: as processJob gives it (local time), else ISO 8601; empty: unknown
  cost TEXT NOT NULL,
  comment TEXT NOT NULL,
  record_id TEXT NOT NULL, -- Locum's id of the record; empty: there was none
  digest BLOB, -- of what the terminal said, to tell a repetition from another job
  conflict INTEGER NOT NULL -- 1: another job under a number that was known
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_key ON jobs(device, job_number);
CREATE INDEX IF NOT EXISTS jobs_record ON jobs(record_id);
CREATE TABLE IF NOT EXISTS users (
  username TEXT PRIMARY KEY, -- lower-case, as it is compared
  shown TEXT NOT NULL, -- as it was written
  full_name TEXT NOT NULL,
  card TEXT NOT NULL,
  secondary_card TEXT NOT NULL,
  balance TEXT NOT NULL,
  restricted INTEGER NOT NULL,
  disabled_print INTEGER NOT NULL,
  internal INTEGER NOT NULL,
  job_count INTEGER NOT NULL,
  page_count INTEGER NOT NULL,
  properties TEXT NOT NULL, -- JSON: email, department, ...
  file_line TEXT NOT NULL -- what the users' file said when it was last taken over; empty: not from there
) STRICT;
CREATE TABLE IF NOT EXISTS transactions (
  number INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  user TEXT NOT NULL,
  amount TEXT NOT NULL,
  balance TEXT NOT NULL, -- after it
  kind TEXT NOT NULL, -- job, adjustment
  comment TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS app_log (
  number INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  level TEXT NOT NULL, -- info, warning, error
  message TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS config_values (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
  session INTEGER PRIMARY KEY,
  user TEXT NOT NULL,
  card TEXT NOT NULL,
  device TEXT NOT NULL,
  began TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS printers (
  server TEXT NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (server, name)
) STRICT;
CREATE TABLE IF NOT EXISTS removed_users (number INTEGER PRIMARY KEY, at TEXT NOT NULL, username TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS remove_user AFTER INSERT ON removed_users
  BEGIN DELETE FROM users WHERE username = NEW.username; END;
CREATE VIEW IF NOT EXISTS jobs_twice AS
  SELECT device, job_number, record_id, count(*) AS times, min(received_at) AS first, max(received_at) AS last
  FROM jobs WHERE conflict = 0 AND (job_number IS NOT NULL OR record_id <> '')
  GROUP BY CASE WHEN job_number IS NULL THEN record_id ELSE device || char(10) || job_number END
  HAVING count(*) > 1;
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One RADIUS accounting record, in the order of the table's columns; None: it is no job."""

    received_at: str
    event: str
    user: str
    card: str
    device: str
    session: str
    job_number: str | None
    kind: str | None
    pages: int | None
    record_id: str
    delay: int


@dataclass(frozen=True, slots=True)
class DecidedLogin:
    """One login that the server decided; `outcome` is granted or refused, `via` radius or terminal."""

    received_at: str
    user: str
    card: str
    device: str
    outcome: str
    words: str
    via: str


@dataclass(frozen=True, slots=True)
class LoggedJob:
    """One line of the job log; the columns of `jobs` say what each field is."""

    received_at: str
    via: str
    user: str
    card: str
    server: str
    device: str
    job_number: str | None
    kind: str
    pages: int
    color_pages: int
    copies: int
    document: str
    time: str
    cost: str
    comment: str
    record_id: str
    digest: bytes | None
    conflict: int


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user as the book has it."""

    username: str
    shown: str
    full_name: str
    card: str
    secondary_card: str
    balance: str
    restricted: int
    disabled_print: int
    internal: int
    job_count: int
    page_count: int
    properties: str
    file_line: str


@dataclass(frozen=True, slots=True)
class RemovedUser:
    """A user who was deleted, or renamed, at a time."""

    at: str
    username: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """A change of a balance."""

    at: str
    user: str
    amount: str
    balance: str
    kind: str
    comment: str


@dataclass(frozen=True, slots=True)
class AppLogLine:
    """A line of the server's App.Log; `level` is info, warning or error."""

    at: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class ConfigValue:
    """A configuration value that somebody set."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class GrantedSession:
    """A terminal's session; bit 63 of its number is clear."""

    session: int
    user: str
    card: str
    device: str
    began: str


@dataclass(frozen=True, slots=True)
class Printer:
    """A printer or copier; a copier's server is "device"."""

    server: str
    name: str


Row = (
    Record
    | DecidedLogin
    | LoggedJob
    | UserRow
    | RemovedUser
    | Transaction
    | AppLogLine
    | ConfigValue
    | GrantedSession
    | Printer
)

# Removals come before users: whoever is renamed to and fro within one commit is there at its end.
TABLES: dict[type[Row], str] = {
    RemovedUser: "removed_users",
    UserRow: "users",
    Record: "records",
    DecidedLogin: "logins",
    LoggedJob: "jobs",
    Transaction: "transactions",
    AppLogLine: "app_log",
    ConfigValue: "config_values",
    GrantedSession: "sessions",
    Printer: "printers",
}
_REPLACED: set[type[Row]] = {UserRow, ConfigValue, Printer}


def columns(kind: type[Row]) -> str:
    """The columns of a kind of row, as SQL."""
    return ", ".join(field.name for field in fields(kind))


def _insert(kind: type[Row], table: str) -> str:
    verb = "INSERT OR REPLACE" if kind in _REPLACED else "INSERT"
    return f"{verb} INTO {table} ({columns(kind)}) VALUES ({', '.join('?' * len(fields(kind)))})"


INSERT = {kind: _insert(kind, table) for kind, table in TABLES.items()}
