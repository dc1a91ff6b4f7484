"""What schema version 3 changes: signatures over the chain, and readings of page meters.

`meters` was never written by earlier versions and is made anew. `checkpoints` are no entries: each signs one, and all
before it.
"""

from __future__ import annotations

from storage.schema_1 import STAMP, guards

EVIDENCE = {
    "checkpoints": """CREATE TABLE checkpoints ( -- signatures over the chain of entries
  number INTEGER PRIMARY KEY, -- 1, 2, 3, ...
  seq INTEGER NOT NULL, -- the entry that is signed, and with it all before
  body TEXT NOT NULL, -- canonical JSON: hash, installation, previous, seq, time
  signature BLOB NOT NULL, -- Ed25519 over "locum-checkpoint-1" || body, 64 bytes
  public_key BLOB NOT NULL -- 32 bytes
) STRICT""",
    "meters": f"""CREATE TABLE meters ( -- readings of devices' page counters
  {STAMP}
  device TEXT NOT NULL,
  counter TEXT NOT NULL, -- total, color, mono, copy, print, scan, fax
  value INTEGER NOT NULL, -- what it showed
  taken_at TEXT NOT NULL, -- when it was read
  event TEXT NOT NULL, -- reading; reset or exchange: counting begins anew with this value
  source TEXT NOT NULL, -- by-hand, csv, snmp
  remark TEXT NOT NULL,
  who TEXT NOT NULL -- who entered it
) STRICT""",
}
"""Evidence tables that are new or made anew."""

_INDEXES = (
    "CREATE INDEX meters_device ON meters(device, counter, taken_at)",
    "CREATE INDEX checkpoints_seq ON checkpoints(seq)",
    "CREATE INDEX jobs_unfinished ON jobs(device, session, job_number) WHERE event IN ('start', 'interim')",
    "CREATE INDEX deliveries_by_hand ON deliveries(seq) WHERE who <> ''",
)


def statements() -> list[str]:
    """What leads from version 2 to version 3, views apart."""
    return ["DROP TABLE meters", *EVIDENCE.values(), *_INDEXES, *guards(EVIDENCE)]
