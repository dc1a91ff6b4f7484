"""What schema version 4 changes: traps of copiers, and what became of them.

Both are evidence. What still waits to be forwarded is what `traps` has and `trap_forwards` has not.
"""

from __future__ import annotations

from storage.schema_1 import STAMP, guards

EVIDENCE = {
    "traps": f"""CREATE TABLE traps ( -- SNMP traps and informs of devices; their bytes are in personal.raw
  {STAMP}
  device TEXT NOT NULL, -- by its address; empty: unknown
  client TEXT NOT NULL, -- address it came from
  version TEXT NOT NULL, -- of SNMP: 1, 2c, 3
  kind TEXT NOT NULL, -- trap, inform; opaque: of SNMPv3, not read
  size INTEGER NOT NULL -- in bytes
) STRICT""",
    "trap_forwards": f"""CREATE TABLE trap_forwards ( -- what became of a trap at the server
  {STAMP}
  trap INTEGER NOT NULL, -- seq of the trap
  outcome TEXT NOT NULL -- sent; acknowledged or unanswered: an inform
) STRICT""",
}
"""Evidence tables that are new."""

_INDEXES = ("CREATE INDEX trap_forwards_trap ON trap_forwards(trap)", "CREATE INDEX traps_at ON traps(at)")


def statements() -> list[str]:
    """What leads from version 3 to version 4, views apart."""
    return [*EVIDENCE.values(), *_INDEXES, *guards(EVIDENCE)]
