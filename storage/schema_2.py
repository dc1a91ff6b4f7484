"""What schema version 2 changes: unlocking, drills, servers that cannot recognise a repeat, job numbers known for ever.

`deliveries` gets a column that entries of version 1 have no member for. It is NULL in their rows and 0 or 1 in all
later ones, so the rule by which a plain row is checked stays one rule: a column says what its entry's data says under
that name, and NULL where the data has no such member. `unlocks` was never written by version 1 and is made anew. A
working table may be filled in from the evidence: `FILL_MODES`.
"""

from __future__ import annotations

from storage.schema_1 import STAMP, guards

EVIDENCE = {
    "unlocks": f"""CREATE TABLE unlocks ( -- tries to unlock a device while offline, and what became of an unlock
  {STAMP}
  device TEXT NOT NULL,
  upstream TEXT NOT NULL,
  outcome TEXT NOT NULL, -- unlocked, wrong-code, too-many, not-offline, by-hand-unlocked, begun, used, ...
  scope TEXT NOT NULL, -- once, until-restored; empty: none
  reason TEXT NOT NULL,
  who TEXT NOT NULL -- by hand: who; empty: at the device
) STRICT""",
    "drills": f"""CREATE TABLE drills ( -- beginnings and ends of drills
  {STAMP}
  device TEXT NOT NULL, -- '*': all
  did TEXT NOT NULL, -- start, stop
  until TEXT, -- when it ends by itself
  reason TEXT NOT NULL,
  who TEXT NOT NULL
) STRICT""",
}
"""Evidence tables that are new or made anew."""

WORKING = {
    "job_numbers": """CREATE TABLE job_numbers ( -- devices' own job numbers that are known for ever
  number INTEGER PRIMARY KEY,
  mark BLOB NOT NULL, -- digest of the device and its number
  content BLOB NOT NULL, -- digest of what it said; one mark with two of them is a conflict
  seq INTEGER NOT NULL -- the record
) STRICT""",
    "recent_job_numbers": """CREATE TABLE recent_job_numbers ( -- the same, not yet moved there
  number INTEGER PRIMARY KEY,
  mark BLOB NOT NULL,
  content BLOB NOT NULL,
  seq INTEGER NOT NULL
) STRICT""",
}
"""Working tables that are new."""

_COLUMNS = (
    "ALTER TABLE deliveries ADD COLUMN unknown_card INTEGER /* 1: nobody has the record's card; "
    "NULL: written by schema 1, which did not say */",
    "ALTER TABLE outbox ADD COLUMN mode TEXT NOT NULL DEFAULT '' /* of the session, as in jobs */",
    "ALTER TABLE outbox ADD COLUMN evidence TEXT NOT NULL DEFAULT '' /* JSON, for whoever has to find out "
    "whether the server took it */",
    "ALTER TABLE outbox ADD COLUMN corrections TEXT NOT NULL DEFAULT '' /* JSON, what the server is told "
    "instead, by hand */",
)

_INDEXES = (
    "CREATE INDEX job_numbers_mark ON job_numbers(mark)",
    "CREATE INDEX deliveries_unknown ON deliveries(record) WHERE unknown_card = 1",
    "CREATE INDEX unlocks_at ON unlocks(at)",
)

FILL_MODES = """UPDATE outbox SET mode = coalesce((SELECT mode FROM jobs WHERE jobs.seq = outbox.seq),
(SELECT mode FROM accounting WHERE accounting.seq = outbox.seq), '') WHERE mode = ''"""


def statements() -> list[str]:
    """What leads from version 1 to version 2, views apart."""
    return [
        "DROP TABLE unlocks",
        *EVIDENCE.values(),
        *WORKING.values(),
        *_COLUMNS,
        *_INDEXES,
        *guards(EVIDENCE),
        FILL_MODES,
    ]
