"""Where the ledger comes from: what a start finds out, and does, before anything is forwarded.

A ledger may have been begun by another installation: its disk was put into this box, and it goes on here under this
box's key. Or it may be older than what is known of it: a backup, or a copy that stands where a newer one stood. Then
what waits in it may have been delivered since, and so it does not go out as if nothing were: a server that cannot
recognise a repeat gets none of it until a person decides, and what goes to another is named as maybe delivered twice.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass

from storage import copies, database
from storage.checkpoints import Checkpoint
from storage.errors import StorageError, translated
from storage.ledger import Ledger
from storage.records import Delivery, Keepable, Note, OutboxState, Remember, Sign
from storage.signing import Signer
from storage.witness import Mark

INSTALLATION = "installation"
"""The key in `memory` of the installation that last worked with this ledger."""

_SETTLED = "settled-mark"
_AT_ONCE = 512
_WHY = "from an older copy of the ledger: it may have been delivered since"
_UNSENT = "SELECT seq, upstream, state, tries FROM outbox WHERE state IN ('waiting', 'rejected') ORDER BY seq"


class Unsettled(StorageError):
    """The ledger is an older copy, on which no start has acted yet. The text is one line."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """`came_from`: the installation before this one, "" if it is this one or none. `older`: why it is an older copy,
    "" if it is not; `backup`: the id of the backup that it is; `marked`: the file itself says so.
    """

    known: bool
    came_from: str
    older: str
    backup: str
    marked: bool


def settle_origin(
    ledger: Ledger,
    signer: Signer,
    last_known: Mark | None,
    forgetful: Collection[str],
    now: int,
    heard_of: Collection[str] = (),
) -> list[str]:
    """Note that a ledger was adopted or restored, and put in doubt what may have been delivered since. To be called
    after `Ledger.open` and before `settle_sent`, each time; it does nothing for a ledger that simply goes on.

    `last_known`: the newest entry that this box knows of its ledger; `forgetful`: the upstreams whose servers
    cannot recognise a repeat; `heard_of`: the digests of the checkpoints that this box knows, of any ledger that it
    had. Returns lines for App.Log. Raises StorageError.
    """
    with database.reading(ledger.path) as reader:
        try:
            origin = _look(reader, signer, last_known, heard_of)
        except sqlite3.Error as error:
            raise translated(error, ledger.path) from error
    words, through = [], ledger.head[0]
    if origin.came_from:
        settled = [] if origin.older else _settled(last_known)
        words.append(_adopted(ledger, signer, origin.came_from, settled, now))
    elif not origin.known:
        ledger.commit([Remember(INSTALLATION, signer.installation)])
    if origin.older:
        words.append(_restored(ledger, origin, through, last_known, forgetful, now))
    return words


def kept_for_start(
    reader: sqlite3.Connection, signer: Signer, last_known: Mark | None, heard_of: Collection[str] = ()
) -> list[Keepable]:
    """What has to be kept before anything is done to a ledger on which no appliance runs, so that the next start still
    finds out where it comes from. Arguments as for `settle_origin`.

    Raises Unsettled for an older copy, or sqlite3.Error.
    """
    origin = _look(reader, signer, last_known, heard_of)
    if origin.older:
        raise Unsettled(
            f"this ledger is an older copy ({origin.older}), and what follows from it is not settled yet; start the "
            "appliance on it once (locum run), then give this command again"
        )
    if not origin.came_from:
        return []
    return [Remember(INSTALLATION, origin.came_from), *_settled(last_known)]


def _look(reader: sqlite3.Connection, signer: Signer, last_known: Mark | None, heard_of: Collection[str]) -> _Origin:
    before = _memory(reader, INSTALLATION) or _last_signer(reader)
    another = before if before not in ("", signer.installation) else ""
    said = copies.said_by(reader)
    older = "it is a backup" if said.get("kind") == "backup" else ""
    if not older and last_known is not None and _concerns(reader, signer, last_known, another, heard_of):
        older = copies.beyond(reader, last_known)
    return _Origin(bool(_memory(reader, INSTALLATION)), another, older, said.get("backup", ""), bool(said))


def _concerns(reader: sqlite3.Connection, signer: Signer, known: Mark, another: str, heard_of: Collection[str]) -> bool:
    """Whether what this box knows is about this ledger: not if it comes from another box and was neither signed nor
    adopted here before, and not once more when it was settled before.
    """
    if _memory(reader, _SETTLED) == known.text:
        return False
    query = "SELECT 1 FROM checkpoints WHERE public_key = ? AND seq <= ? LIMIT 1"
    signed_here = reader.execute(query, (known.key or signer.public_key, known.seq))
    if not another or signed_here.fetchone() is not None:
        return True
    last = reader.execute(
        "SELECT number, seq, body, signature, public_key FROM checkpoints ORDER BY number DESC LIMIT 1"
    )
    return any(Checkpoint(*row).digest in heard_of for row in last)


def _memory(reader: sqlite3.Connection, key: str) -> str:
    row = reader.execute("SELECT value FROM memory WHERE key = ?", (key,)).fetchone()
    return row[0] if row else ""


def _last_signer(reader: sqlite3.Connection) -> str:
    row = reader.execute(
        "SELECT json_extract(body, '$.installation') FROM checkpoints ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return row[0] if row else ""


def _adopted(ledger: Ledger, signer: Signer, came_from: str, settled: list[Keepable], now: int) -> str:
    data: dict[str, str | int] = {
        "from": came_from,
        "installation": signer.installation,
        "key": base64.b64encode(signer.public_key).decode(),
        "through": ledger.head[0],
    }
    ledger.commit([Note(now, "adopted", data), Remember(INSTALLATION, signer.installation), *settled])
    return f"this ledger was begun by the installation {came_from} and goes on here; it is noted as adopted"


def _restored(
    ledger: Ledger, origin: _Origin, through: int, last_known: Mark | None, forgetful: Collection[str], now: int
) -> str:
    """`through`: the last entry that the copy had."""
    with database.reading(ledger.path) as reader:
        rows = reader.execute(_UNSENT).fetchall()
    data: dict[str, str | int] = {
        "backup": origin.backup,
        "through": through,
        "why": origin.older,
        "waiting": len(rows),
    }
    ledger.commit([Note(now, "restored", data)])
    deliveries = [_maybe_delivered(now, *row, in_doubt=row[1] in forgetful) for row in rows]
    for start in range(0, len(deliveries), _AT_ONCE):
        ledger.commit(deliveries[start : start + _AT_ONCE])
    # With a signature of its own, what was signed before it was put here no longer stands for the newest that is known.
    ledger.commit([*_settled(last_known), Sign(now)])
    if origin.marked:
        _forget_mark(ledger)
    doubted = sum(row[1] in forgetful for row in rows)
    return (
        f"this ledger is an older copy ({origin.older}): what was kept after it is not in it; of the {len(rows)} "
        f"records that waited in it {doubted} are in doubt (locum outbox list --state in_doubt), the others are named "
        "as maybe delivered twice"
    )


def _settled(known: Mark | None) -> list[Keepable]:
    return [Remember(_SETTLED, known.text)] if known is not None else []


def _maybe_delivered(now: int, seq: int, upstream: str, state: str, tries: int, *, in_doubt: bool) -> Delivery:
    after = OutboxState.IN_DOUBT if in_doubt else OutboxState(state)
    return Delivery(now, seq, upstream, "unknown", after, tries, answer=_WHY, maybe_twice=True)


def _forget_mark(ledger: Ledger) -> None:
    """Last of all: until it is gone, the next start settles all of it once more."""
    try:
        with closing(sqlite3.connect(ledger.path, isolation_level=None, timeout=5.0)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"DROP TABLE {copies.TABLE}")
    except sqlite3.Error as error:
        raise translated(error, ledger.path) from error
