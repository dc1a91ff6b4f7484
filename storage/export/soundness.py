"""Whether the chain of what is exported holds, as far as it can be seen at a glance.

Numbers, links and hashes of all entries that the export has, and the checkpoint that its manifest names. Rows, personal
data, the other signatures and witnesses are left to `storage.verify`, which takes longer than an export does.
"""

from __future__ import annotations

import sqlite3

from storage import proof
from storage.checkpoints import Checkpoint
from storage.export.filters import Chosen


def wrong_with(connection: sqlite3.Connection, chosen: Chosen, checkpoint: Checkpoint | None) -> str:
    """What is wrong first, "" nothing. Raises sqlite3.Error."""
    if chosen.through < chosen.first:
        return ""
    found = proof.walk(connection, chosen.first, chosen.through)
    if found.first_bad is not None:
        return found.first_bad
    if chosen.first + found.entries <= chosen.through:
        return f"the entries after {chosen.first + found.entries - 1} are missing"
    return _of_checkpoint(connection, checkpoint) if checkpoint is not None else ""


def _of_checkpoint(connection: sqlite3.Connection, checkpoint: Checkpoint) -> str:
    said = checkpoint.said()
    if said is None or not checkpoint.signed():
        return f"the signature of the checkpoint of entry {checkpoint.seq} does not hold"
    row = connection.execute("SELECT hash FROM entries WHERE seq = ?", (checkpoint.seq,)).fetchone()
    if row is not None and row[0] != said.hash:
        return f"the checkpoint of entry {checkpoint.seq} signs another entry than is there"
    return ""
