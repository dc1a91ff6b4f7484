"""The ledger's tables as schema version 1 made them, in SQL that an auditor reads with `.schema`: the comments stay in
the file.

Every plain table carries the `seq` and `id` of its entry, and every other column stands in that entry's body under
the same name. Times are ISO 8601, UTC, with milliseconds. The counts of the outbox are kept by triggers, so that
whoever changes the queue, Locum or a person with a SQLite shell, they are right. Never changed: ledgers of version 1
are out there. What came later is in `schema_2.py`; views are in `views.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

STAMP = """seq INTEGER PRIMARY KEY REFERENCES entries(seq), -- number of the entry in `entries`
  id TEXT NOT NULL, -- id of the entry
  at TEXT NOT NULL, -- when it happened, by Locum's clock"""

_WHENCE = """device TEXT NOT NULL, -- copier or terminal, as it names itself
  client TEXT NOT NULL, -- address it came from
  dialect TEXT NOT NULL, -- radius, terminal, papercut
  upstream TEXT NOT NULL, -- the server it is for"""

EVIDENCE = {
    "entries": """CREATE TABLE entries (
  seq INTEGER PRIMARY KEY, -- 1, 2, 3, ... without a gap
  id TEXT NOT NULL, -- UUIDv7; forwarded records carry it as Locum-Record-Id
  kind TEXT NOT NULL, -- job, accounting, login, logout, unlock, outage, delivery, app-log, meter, quarantine, note
  recorded_at TEXT NOT NULL,
  body TEXT NOT NULL, -- canonical JSON (RFC 8785): data, id, kind, recorded_at, seq
  prev_hash BLOB NOT NULL, -- hash of the entry before; 32 zero bytes at the first
  hash BLOB NOT NULL -- SHA-256("locum-entry-1" || prev_hash || body)
) STRICT""",
    "personal": """CREATE TABLE personal (
  seq INTEGER PRIMARY KEY REFERENCES entries(seq),
  card TEXT NOT NULL, -- as it was read; empty: none
  user TEXT NOT NULL,
  document TEXT NOT NULL,
  account TEXT NOT NULL,
  raw BLOB NOT NULL, -- the bytes of the wire
  salt BLOB NOT NULL -- HMAC-SHA-256(salt, canonical JSON of the others, raw in base64) is data.personal of the entry
) STRICT""",
    "jobs": f"""CREATE TABLE jobs (
  {STAMP}
  {_WHENCE}
  session TEXT NOT NULL, -- the device's own session id
  mode TEXT NOT NULL, -- the session was: online, offline, drill, unknown
  job_number TEXT NOT NULL, -- the device's own
  event TEXT NOT NULL, -- what the device said: job, stop, interim, ...
  kind TEXT NOT NULL, -- copy, print, scan, fax
  pages INTEGER NOT NULL, -- impressions
  color_pages INTEGER, -- of these in colour; NULL: the device did not say (as in all columns that follow)
  sheets INTEGER,
  copies INTEGER,
  duplex INTEGER, -- 0 or 1
  paper TEXT NOT NULL,
  started_at TEXT, -- the device's own time, kept as it is
  ended_at TEXT
) STRICT""",
    "accounting": f"""CREATE TABLE accounting ( -- accounting records without page counts
  {STAMP}
  {_WHENCE}
  session TEXT NOT NULL,
  mode TEXT NOT NULL,
  job_number TEXT NOT NULL,
  event TEXT NOT NULL, -- start, interim, stop, on, off, other
  started_at TEXT,
  ended_at TEXT
) STRICT""",
    "logins": f"""CREATE TABLE logins (
  {STAMP}
  {_WHENCE}
  method TEXT NOT NULL, -- card, password, ...
  outcome TEXT NOT NULL, -- granted, refused, challenged, unavailable, unanswered
  decided_by TEXT NOT NULL, -- server, locum, nobody
  reason TEXT NOT NULL,
  mode TEXT NOT NULL,
  session TEXT NOT NULL, -- the mark that Locum gave with an offline grant
  expires_at TEXT,
  late INTEGER NOT NULL -- 1: the server's answer came after Locum had decided
) STRICT""",
    "logouts": f"""CREATE TABLE logouts (
  {STAMP}
  device TEXT NOT NULL,
  session TEXT NOT NULL, -- the mark in `logins`
  cause TEXT NOT NULL -- stop, restart, next-login, timeout, silence
) STRICT""",
    "unlocks": f"""CREATE TABLE unlocks (
  {STAMP}
  device TEXT NOT NULL,
  outcome TEXT NOT NULL,
  scope TEXT NOT NULL, -- once, until-restored
  reason TEXT NOT NULL,
  who TEXT NOT NULL
) STRICT""",
    "outage_events": f"""CREATE TABLE outage_events (
  {STAMP}
  upstream TEXT NOT NULL,
  outage TEXT NOT NULL, -- the outage's name: the time of its first failed contact
  step TEXT NOT NULL, -- failed, offline, recovered, drained
  state TEXT NOT NULL, -- online, grace, offline, recovering: where it led
  cause TEXT NOT NULL,
  boot_id TEXT NOT NULL, -- of the kernel; with boot_ms, the clock since its boot, time across a restart is known
  boot_ms INTEGER NOT NULL
) STRICT""",
    "deliveries": f"""CREATE TABLE deliveries (
  {STAMP}
  record INTEGER NOT NULL, -- seq of the record that was to be forwarded
  record_id TEXT, -- its id
  upstream TEXT NOT NULL,
  outcome TEXT NOT NULL, -- delivered, unanswered, refused, unknown (cut while in flight), dropped
  state TEXT, -- where the record stood then: waiting, in_doubt, rejected; NULL: it had left the outbox
  tries INTEGER NOT NULL,
  next_try TEXT,
  answer TEXT NOT NULL, -- the server's words, or why it was dropped
  maybe_twice INTEGER NOT NULL, -- 1: the server may have taken it although it did not say so in time
  who TEXT NOT NULL -- by hand: who
) STRICT""",
    "app_log": f"""CREATE TABLE app_log (
  {STAMP}
  level TEXT NOT NULL, -- info, warning, error
  text TEXT NOT NULL,
  context TEXT NOT NULL -- JSON
) STRICT""",
    "meters": f"""CREATE TABLE meters (
  {STAMP}
  device TEXT NOT NULL,
  counter TEXT NOT NULL,
  value INTEGER NOT NULL
) STRICT""",
    "quarantine": f"""CREATE TABLE quarantine ( -- what could not be read as a record; its bytes are in personal.raw
  {STAMP}
  dialect TEXT NOT NULL,
  device TEXT NOT NULL,
  client TEXT NOT NULL,
  reason TEXT NOT NULL,
  size INTEGER NOT NULL -- in bytes, also of what was cut off
) STRICT""",
    "notes": f"""CREATE TABLE notes ( -- start, stop, config, clock-step, gap, by-hand
  {STAMP}
  note TEXT NOT NULL,
  who TEXT NOT NULL,
  data TEXT NOT NULL -- JSON
) STRICT""",
}
"""Tables that are written once and never changed. Only rows of `personal` may be deleted: that is erasure."""

WORKING = {
    "outbox": """CREATE TABLE outbox ( -- a queue, no evidence: records still to be taken by the server
  seq INTEGER PRIMARY KEY REFERENCES entries(seq),
  upstream TEXT NOT NULL,
  state TEXT NOT NULL, -- waiting, sent, in_doubt, rejected
  dialect TEXT NOT NULL,
  device TEXT NOT NULL,
  order_key TEXT NOT NULL, -- records that share it are sent one after the other
  at TEXT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0, -- finished ones
  first_try TEXT,
  next_try TEXT,
  reason TEXT NOT NULL DEFAULT '' -- the server's words at the last try
) STRICT""",
    "outbox_counts": """CREATE TABLE outbox_counts ( -- kept by triggers on outbox
  upstream TEXT NOT NULL,
  state TEXT NOT NULL,
  records INTEGER NOT NULL,
  PRIMARY KEY (upstream, state)
) STRICT, WITHOUT ROWID""",
    "totals": "CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "devices": """CREATE TABLE devices (
  device TEXT PRIMARY KEY,
  client TEXT NOT NULL, -- address it was last heard from
  dialect TEXT NOT NULL,
  upstream TEXT NOT NULL,
  first_seen TEXT NOT NULL,
  last_seen TEXT NOT NULL
) STRICT, WITHOUT ROWID""",
    "cards": """CREATE TABLE cards ( -- card memory: the server's own word on cards
  card TEXT PRIMARY KEY, -- upper case
  user TEXT NOT NULL, -- whom the server named at the last grant
  granted_at TEXT, -- last grant by the server
  last_word TEXT NOT NULL, -- granted, refused
  last_word_at TEXT NOT NULL
) STRICT, WITHOUT ROWID""",
    "repeats": """CREATE TABLE repeats ( -- how a record that comes again is known, for 24 hours
  number INTEGER PRIMARY KEY,
  mark BLOB NOT NULL UNIQUE, -- digest of scope and key
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL -- milliseconds since 1970
) STRICT""",
    "recent_repeats": """CREATE TABLE recent_repeats ( -- the same, not yet moved there
  number INTEGER PRIMARY KEY,
  mark BLOB NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL
) STRICT""",
    "lives": """CREATE TABLE lives ( -- where a device's present life began: marks of older records count no more
  scope TEXT PRIMARY KEY,
  began INTEGER NOT NULL, -- seq of its last Accounting-On or -Off; 0: none
  latest INTEGER NOT NULL -- seq of its last record
) STRICT, WITHOUT ROWID""",
    "memory": "CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
}
"""Tables that Locum works with; they may change and prove nothing."""

INDEXES = (
    "CREATE INDEX outbox_queue ON outbox(upstream, state)",
    "CREATE INDEX logins_open ON logins(expires_at) WHERE session <> ''",
    "CREATE INDEX logouts_session ON logouts(session)",
    "CREATE INDEX outage_events_upstream ON outage_events(upstream)",
)

_COUNT_IN = (
    "INSERT INTO outbox_counts VALUES (NEW.upstream, NEW.state, 1) ON CONFLICT DO UPDATE SET records = records + 1;"
)
_COUNT_OUT = "UPDATE outbox_counts SET records = records - 1 WHERE upstream = OLD.upstream AND state = OLD.state;"

COUNTING = (
    f"CREATE TRIGGER outbox_in AFTER INSERT ON outbox BEGIN {_COUNT_IN} END",
    f"CREATE TRIGGER outbox_out AFTER DELETE ON outbox BEGIN {_COUNT_OUT} END",
    f"CREATE TRIGGER outbox_moved AFTER UPDATE OF state, upstream ON outbox BEGIN {_COUNT_OUT} {_COUNT_IN} END",
)


def guards(tables: Iterable[str]) -> list[str]:
    """The triggers that refuse to change rows of evidence tables."""
    made = []
    for table in tables:
        steps = ("UPDATE",) if table == "personal" else ("UPDATE", "DELETE")
        made += [
            f"CREATE TRIGGER {table}_no_{step.lower()} BEFORE {step} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'the ledger is written once: {table} cannot be changed'); END"
            for step in steps
        ]
    return made


def statements() -> list[str]:
    """What makes the tables of version 1 with their indexes, counting triggers and guards."""
    return [*EVIDENCE.values(), *WORKING.values(), *INDEXES, *COUNTING, *guards(EVIDENCE)]
