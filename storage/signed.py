"""What the table of checkpoints says: which is the newest, which came last, and whether a key is named already.

Works over a connection of `database.open_reader`, beside the writer.
"""

from __future__ import annotations

import base64
import sqlite3

from storage.checkpoints import Checkpoint
from storage.errors import in_our_words
from storage.records import Note
from storage.signing import Signer

_NEWEST = "SELECT number, seq, body, signature, public_key FROM checkpoints ORDER BY number DESC LIMIT ?"
_NAMED = "SELECT 1 FROM notes WHERE note = 'key' AND json_extract(data, '$.public_key') = ? LIMIT 1"


@in_our_words
def last(connection: sqlite3.Connection, count: int) -> list[Checkpoint]:
    """The newest `count` checkpoints, the newest last. Raises StorageError."""
    return [Checkpoint(*row) for row in connection.execute(_NEWEST, (count,))][::-1]


def newest(connection: sqlite3.Connection) -> Checkpoint | None:
    """The newest checkpoint; None if there is none. Raises StorageError."""
    found = last(connection, 1)
    return found[0] if found else None


@in_our_words
def key_notes(connection: sqlite3.Connection, signer: Signer, at: int) -> list[Note]:
    """The note that this key signs from now on, unless the ledger has it already. `at` in ms. Raises StorageError."""
    key = base64.b64encode(signer.public_key).decode()
    if connection.execute(_NAMED, (key,)).fetchone() is not None:
        return []
    return [Note(at, "key", {"installation": signer.installation, "public_key": key})]
