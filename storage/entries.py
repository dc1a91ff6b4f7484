"""What each kept value becomes: the kind and data of its entry, its personal part, and its row in a plain table.

A plain row is taken from the entry's data by column name, so it says what the entry says by construction. Values that
are no evidence (Remember, DeviceSeen, Take) have no entry and are not described here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from operator import itemgetter
from typing import Any

from storage import proof, times
from storage.records import (
    NOBODY,
    AppLogLine,
    Delivery,
    DrillStep,
    Login,
    Logout,
    MeterReading,
    Note,
    OutageStep,
    OutboxState,
    Personal,
    Quarantined,
    Record,
    Retry,
    Trap,
    TrapForwarded,
    UnlockStep,
)
from storage.rows import plain_text

QUARANTINED_BYTES = 65_536

_OF_A_PERSON = ("card", "user", "document", "account")

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain table: the kind of its entries, its columns after seq, id and at, and how they are picked from the data.

    A column may be worked out from what is picked for it by an SQL expression instead of being stored as it is.
    """

    kind: str
    table: str
    columns: tuple[str, ...]
    pick: Callable[[Data], tuple[Any, ...]]
    expressions: tuple[str, ...]


def _plain(kind: str, table: str, columns: str) -> Plain:
    names = tuple(columns.split())
    return Plain(kind, table, names, itemgetter(*names), ("?",) * len(names))


_OF_DELIVERY = ("upstream", "outcome", "state", "tries", "next_try", "answer", "maybe_twice", "who", "unknown_card")
_WHENCE = "device client dialect upstream"
JOB = _plain(
    "job",
    "jobs",
    f"{_WHENCE} session mode job_number event kind pages color_pages sheets copies duplex paper started_at ended_at",
)
ACCOUNTING = _plain("accounting", "accounting", f"{_WHENCE} session mode job_number event started_at ended_at")
LOGIN = _plain("login", "logins", f"{_WHENCE} method outcome decided_by reason mode session expires_at late")
LOGOUT = _plain("logout", "logouts", "device session cause")
OUTAGE = _plain("outage", "outage_events", "upstream outage step state cause boot_id boot_ms")
UNLOCK = _plain("unlock", "unlocks", "device upstream outcome scope reason who")
DRILL = _plain("drill", "drills", "device did until reason who")
DELIVERY = Plain(
    kind="delivery",
    table="deliveries",
    columns=("record", "record_id", *_OF_DELIVERY),
    pick=itemgetter("record", "record", *_OF_DELIVERY),
    expressions=("?", "(SELECT id FROM entries WHERE seq = ?)", *"?" * len(_OF_DELIVERY)),
)
APP_LOG = _plain("app-log", "app_log", "level text context")
QUARANTINE = _plain("quarantine", "quarantine", "dialect device client reason size")
METER = _plain("meter", "meters", "device counter value taken_at event source remark who")
TRAP = _plain("trap", "traps", "device client version kind size")
TRAP_FORWARD = _plain("trap-forward", "trap_forwards", "trap outcome")
NOTE = _plain("note", "notes", "note who data")
PLAIN = (
    JOB,
    ACCOUNTING,
    LOGIN,
    LOGOUT,
    OUTAGE,
    UNLOCK,
    DRILL,
    DELIVERY,
    APP_LOG,
    QUARANTINE,
    METER,
    TRAP,
    TRAP_FORWARD,
    NOTE,
)

Described = tuple[Plain, Data, Personal]


def describe(item: Evidence) -> Described:
    """Plain table, data and personal part of a value. Raises TypeError, ValueError or OverflowError for impossible
    values.
    """
    return _DESCRIBERS[type(item)](item)


def cleaned(item: Any) -> Any:
    """The same value with every text in it cleaned (`proof.clean`)."""
    if isinstance(item, str):
        return type(item)(proof.clean(item))
    if isinstance(item, dict):
        return {cleaned(key): cleaned(value) for key, value in item.items()}
    if is_dataclass(item) and not isinstance(item, type):
        return replace(item, **{each.name: cleaned(getattr(item, each.name)) for each in fields(item)})
    return item


def _whole(number: int | None) -> int | None:
    if number is None:
        return None
    if type(number) is not int or not -proof.SAFE <= number <= proof.SAFE:
        raise ValueError(f"{number!r} is no count")
    return number


def _record(item: Record) -> Described:
    data: Data = {
        "device": item.device,
        "client": item.client,
        "dialect": item.dialect,
        "upstream": item.upstream,
        "session": item.session,
        "mode": plain_text(item.mode),
        "job_number": item.job_number,
        "event": item.event,
        "started_at": times.text_or_none(item.started_at),
        "ended_at": times.text_or_none(item.ended_at),
    }
    counts = item.counts
    if counts is None:
        return ACCOUNTING, data, item.personal
    data["kind"] = counts.kind
    data["pages"] = _whole(counts.pages)
    data["color_pages"] = _whole(counts.color_pages)
    data["sheets"] = _whole(counts.sheets)
    data["copies"] = _whole(counts.copies)
    data["duplex"] = None if counts.duplex is None else int(counts.duplex)
    data["paper"] = counts.paper
    return JOB, data, item.personal


def _login(item: Login) -> Described:
    data: Data = {
        "device": item.device,
        "client": item.client,
        "dialect": item.dialect,
        "upstream": item.upstream,
        "method": item.method,
        "outcome": item.outcome,
        "decided_by": item.decided_by,
        "reason": item.reason,
        "mode": plain_text(item.mode),
        "session": item.session,
        "expires_at": times.text_or_none(item.expires_at),
        "late": int(item.late),
    }
    return LOGIN, data, item.personal


def _logout(item: Logout) -> Described:
    return LOGOUT, {"device": item.device, "session": item.session, "cause": item.cause}, NOBODY


def _outage(item: OutageStep) -> Described:
    data: Data = {
        "upstream": item.upstream,
        "outage": times.text(item.outage),
        "step": item.step,
        "state": item.state,
        "cause": item.cause,
        "boot_id": item.boot_id,
        "boot_ms": _whole(item.boot_ms),
    }
    return OUTAGE, data, NOBODY


def _unlock(item: UnlockStep) -> Described:
    data: Data = {
        "device": item.device,
        "upstream": item.upstream,
        "outcome": item.outcome,
        "scope": item.scope,
        "reason": item.reason,
        "who": item.who,
    }
    return UNLOCK, data, NOBODY


def _drill(item: DrillStep) -> Described:
    data: Data = {
        "device": item.device,
        "did": item.did,
        "until": times.text_or_none(item.until),
        "reason": item.reason,
        "who": item.who,
    }
    return DRILL, data, NOBODY


def _delivery(item: Delivery) -> Described:
    data: Data = {
        "record": _whole(item.seq),
        "upstream": item.upstream,
        "outcome": item.outcome,
        "state": None if item.state is None else plain_text(item.state),
        "tries": _whole(item.tries),
        "next_try": times.text_or_none(item.next_try),
        "answer": item.answer,
        "maybe_twice": int(item.maybe_twice),
        "who": "",
        "unknown_card": int(item.unknown_card),
    }
    return DELIVERY, data, Personal(user=item.user) if item.user else NOBODY


@dataclass(frozen=True, slots=True)
class SettledByHand:
    """A `Drop` or `Resolve` that found its record, with what the outbox knew of it."""

    at: int
    seq: int
    upstream: str
    outcome: str
    state: OutboxState | None
    tries: int
    reason: str
    who: str


def _settled(item: SettledByHand) -> Described:
    data: Data = {
        "record": item.seq,
        "upstream": item.upstream,
        "outcome": item.outcome,
        "state": None if item.state is None else plain_text(item.state),
        "tries": item.tries,
        "next_try": None,
        "answer": item.reason,
        "maybe_twice": 0,
        "who": item.who,
        "unknown_card": 0,
    }
    return DELIVERY, data, NOBODY


def _app_log(item: AppLogLine) -> Described:
    context = proof.canonical(cleaned(item.context)).decode()
    return APP_LOG, {"level": item.level, "text": item.text, "context": context}, item.personal


def _quarantined(item: Quarantined) -> Described:
    data: Data = {
        "dialect": item.dialect,
        "device": item.device,
        "client": item.client,
        "reason": item.reason,
        "size": len(item.raw),
    }
    return QUARANTINE, data, Personal(raw=bytes(item.raw[:QUARANTINED_BYTES]))


def _meter(item: MeterReading) -> Described:
    data: Data = {
        "device": item.device,
        "counter": item.counter,
        "value": _whole(item.value),
        "taken_at": times.text(item.taken_at),
        "event": item.event,
        "source": item.source,
        "remark": item.remark,
        "who": item.who,
    }
    return METER, data, NOBODY


def _trap(item: Trap) -> Described:
    data: Data = {
        "device": item.device,
        "client": item.client,
        "version": item.version,
        "kind": item.kind,
        "size": len(item.raw),
    }
    return TRAP, data, Personal(raw=item.raw)


def _trap_forwarded(item: TrapForwarded) -> Described:
    return TRAP_FORWARD, {"trap": _whole(item.seq), "outcome": item.outcome}, NOBODY


def _note(item: Note) -> Described:
    data = proof.canonical(cleaned(item.data)).decode()
    return NOTE, {"note": item.kind, "who": item.who, "data": data}, NOBODY


@dataclass(frozen=True, slots=True)
class NoteOfPerson:
    """A note that also says something of a person."""

    at: int
    note: Note
    personal: Personal


def note_of_retry(item: Retry) -> NoteOfPerson:
    """What is noted of a person's request to try records again, but for which they are."""
    told = dict(item.corrections)
    data: dict[str, str | int] = {"corrected": " ".join(told)} if told else {}
    data |= {f"corrected_{name}": value for name, value in told.items() if name not in _OF_A_PERSON}
    card, user, document, account = (told.get(name, "") for name in _OF_A_PERSON)
    personal = Personal(card, user, document, account)
    return NoteOfPerson(item.at, Note(item.at, "by-hand", data, item.who), personal)


def _note_of_person(item: NoteOfPerson) -> Described:
    plain, data, _ = _note(item.note)
    return plain, data, item.personal


Evidence = (
    Record
    | Login
    | Logout
    | OutageStep
    | UnlockStep
    | DrillStep
    | Delivery
    | SettledByHand
    | AppLogLine
    | Quarantined
    | MeterReading
    | Trap
    | TrapForwarded
    | Note
    | NoteOfPerson
)

_DESCRIBERS: dict[type, Callable[[Any], Described]] = {
    Record: _record,
    Login: _login,
    Logout: _logout,
    OutageStep: _outage,
    UnlockStep: _unlock,
    DrillStep: _drill,
    Delivery: _delivery,
    SettledByHand: _settled,
    AppLogLine: _app_log,
    Quarantined: _quarantined,
    MeterReading: _meter,
    Trap: _trap,
    TrapForwarded: _trap_forwarded,
    Note: _note,
    NoteOfPerson: _note_of_person,
}
