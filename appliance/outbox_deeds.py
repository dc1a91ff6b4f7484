"""What people do to the outbox by hand, as values: which records are meant, and what is to be kept for a deed.

The same is done through the running appliance (`outbox_hands`) and, where none runs, on the ledger itself
(`outbox_access`). Each record that is decided or dropped has an entry of its own with who and why; what is sent once
more is named in one note for each request. Nothing here writes, or knows a socket.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from appliance.ledger_deeds import BadRequest
from storage import outages, times
from storage.errors import StorageError
from storage.outbox import Outbox, OutboxRow
from storage.records import Drop, Keepable, OutboxState, Resolve, Retry

AT_ONCE = 500
"""Most records in one request: no deed keeps the appliance busy for long. It does not matter to which one they go."""
CORRECTABLE = ("printer", "user")
CHANGED_BY = {
    "outbox-retry": (OutboxState.REJECTED, OutboxState.WAITING),
    "outbox-resolve": (OutboxState.IN_DOUBT,),
    "outbox-drop": (OutboxState.REJECTED, OutboxState.IN_DOUBT, OutboxState.WAITING),
}
"""The states in which a record can be changed by each command."""


def row_of(row: OutboxRow) -> dict[str, Any]:
    """A record as `locum outbox list --json` has it."""
    return {
        "id": row.id,
        "seq": row.seq,
        "state": row.state.value,
        "upstream": row.upstream,
        "device": row.device,
        "kind": row.kind or row.event,
        "pages": row.pages,
        "at": times.text_or_none(row.at),
        "tries": row.tries,
        "next_try": times.text_or_none(row.next_try),
        "reason": row.reason,
    }


def rows(connection: sqlite3.Connection, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The records that a request means, oldest first. Its members, all of which may be left out: state, or a list
    `states`; upstream; outage (its name, or "last"); before (ms); after (a seq); limit.

    Raises BadRequest, or StorageError if the file fails.
    """
    state, states = request.get("state"), request.get("states")
    wanted = states if states is not None else list(OutboxState) if state is None else [state]
    if not isinstance(wanted, list) or not all(isinstance(each, str) and each in set(OutboxState) for each in wanted):
        raise BadRequest(f"no such state: {state or states}; known are {', '.join(OutboxState)}")
    outage = _text(request, "outage")
    try:
        of = outages.named(connection, outage) if outage is not None else ()
    except outages.NoSuchOutage as error:
        raise BadRequest(str(error)) from error
    except sqlite3.Error as error:
        raise StorageError(str(error)) from error
    found = Outbox(connection).list(
        _text(request, "upstream"),
        [OutboxState(each) for each in wanted],
        _number(request, "limit"),
        after=_number(request, "after") or 0,
        before=_number(request, "before"),
        of=of,
    )
    return [row_of(row) for row in found]


def meant(connection: sqlite3.Connection, command: str, request: dict[str, Any]) -> tuple[int, ...]:
    """The records that a request names by `seqs`, but for those that are in none of the states meanwhile in which the
    command can change them, or which `states` names. Raises BadRequest or StorageError.
    """
    seqs, states = request.get("seqs"), request.get("states", list(CHANGED_BY[command]))
    if not isinstance(seqs, list) or not 0 < len(seqs) <= AT_ONCE or not all(type(each) is int for each in seqs):
        raise BadRequest(f"seqs must be a list of 1 to {AT_ONCE} numbers of records")
    if not isinstance(states, list) or not all(each in CHANGED_BY[command] for each in states):
        raise BadRequest(f"this is for records that are {' or '.join(CHANGED_BY[command])}")
    return Outbox(connection).standing(seqs, [OutboxState(each) for each in states])


def plan(command: str, request: dict[str, Any], seqs: Sequence[int], at: int, who: str) -> list[Keepable]:
    """What to keep so that a deed is done to these records. `at` in ms; `who` does it. Raises BadRequest."""
    return _PLANS[command](request, tuple(seqs), at, who)


def _retry(request: dict[str, Any], seqs: tuple[int, ...], at: int, who: str) -> list[Keepable]:
    corrections = request.get("set") or {}
    if not isinstance(corrections, dict) or not all(isinstance(text, str) and text for text in corrections.values()):
        raise BadRequest("a correction is a field and a text: --set printer=NAME")
    if unknown := corrections.keys() - CORRECTABLE:
        raise BadRequest(f"{', '.join(sorted(unknown))} cannot be corrected; {' and '.join(CORRECTABLE)} can")
    told = tuple(sorted(corrections.items()))
    pieces = [seqs[start : start + AT_ONCE] for start in range(0, len(seqs), AT_ONCE)]
    return [Retry(at, piece, who, told) for piece in pieces]


def _resolve(request: dict[str, Any], seqs: tuple[int, ...], at: int, who: str) -> list[Keepable]:
    how = request.get("how")
    if how not in ("sent", "resend"):
        raise BadRequest("a record in doubt was sent, or is to be sent again: --sent or --resend")
    reason = str(request.get("reason") or "").strip()
    return [Resolve(at, seq, how, who, reason) for seq in seqs]


def _drop(request: dict[str, Any], seqs: tuple[int, ...], at: int, who: str) -> list[Keepable]:
    reason = str(request.get("reason") or "").strip()
    if not reason:
        raise BadRequest("a reason is needed: --reason TEXT")
    return [Drop(at, seq, reason, who) for seq in seqs]


def _text(request: dict[str, Any], name: str) -> str | None:
    value = request.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


def _number(request: dict[str, Any], name: str) -> int | None:
    value = request.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 47):
        raise BadRequest(f"{name} must be a whole number")
    return value


_PLANS = {"outbox-retry": _retry, "outbox-resolve": _resolve, "outbox-drop": _drop}
