"""What people do to the ledger by hand, as values: a request in, what is to be kept and how to answer out.

The same deeds are done through the running appliance (`ledger_hands`) and, where none runs, on the ledger itself
(`ledger_access`). Nothing here touches a file or a socket.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from storage import proof, times
from storage.answers import Erased, Outcome, Signed, Stored
from storage.records import EraseCard, Keepable, MeterReading, Mode, Note, OutboxState, Record, Sign

NOTES = ("export", "backup", "archive", "adopted", "restored", "recovered")
COUNTERS = ("total", "color", "mono", "copy", "print", "scan", "fax")
EVENTS = ("reading", "reset", "exchange")
SOURCES = ("by-hand", "csv", "snmp")
MOST_READINGS = 5_000
MOST_RECOVERED = 100
"""Records at once; with all their bytes they are less than a request may have."""
LONGEST_TEXT = 255
LONGEST_VALUE = 4_096
"""Characters of one value of a note."""

_LATEST = times.milliseconds("9999-01-01T00:00:00.000Z")

Answer = Callable[[Sequence[Outcome]], dict[str, Any]]
Plan = tuple[list[Keepable], Answer]


class BadRequest(Exception):
    """This cannot be done. The text is one line for a person."""


def plan(command: str, request: dict[str, Any], at: int, who: str) -> Plan:
    """What to keep for a command, and what to answer when it is kept: a function of the outcomes, in their order.

    `at` in ms; `who` does it. Raises BadRequest.
    """
    return _PLANS[command](request, at, who)


def _sign(request: dict[str, Any], at: int, who: str) -> Plan:
    return [Sign(at)], _signed


def _signed(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    made = outcomes[0].checkpoint if isinstance(outcomes[0], Signed) else None
    if made is None:
        return {"line": None, "seq": 0, "number": 0, "public_key": ""}
    key = base64.b64encode(made.public_key).decode()
    return {"line": made.line, "seq": made.seq, "number": made.number, "public_key": key}


def _note(request: dict[str, Any], at: int, who: str) -> Plan:
    note, data = request.get("note"), request.get("data")
    if note not in NOTES:
        raise BadRequest(f"no such note; known are {', '.join(NOTES)}")
    if not isinstance(data, dict) or not all(_is_noted(value) for value in data.values()):
        raise BadRequest(f"what is noted are texts of at most {LONGEST_VALUE} characters, and whole numbers")
    return [Note(at, note, data, who)], lambda outcomes: {"seq": _seq(outcomes[0])}


def _erase(request: dict[str, Any], at: int, who: str) -> Plan:
    card = _text(request, "card", "name the card")
    if not card:
        raise BadRequest("name the card")
    return [EraseCard(at, card, who, _text(request, "reason", "a reason is a text"))], _erased


def _erased(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    done = outcomes[0] if isinstance(outcomes[0], Erased) else Erased(0)
    return {"entries": done.entries, "seq": done.seq, "waiting": done.waiting, "first": done.first}


def _readings(request: dict[str, Any], at: int, who: str) -> Plan:
    given = request.get("readings")
    if not isinstance(given, list) or not 0 < len(given) <= MOST_READINGS:
        raise BadRequest(f"give 1 to {MOST_READINGS} readings at once")
    changes: list[Keepable] = [_reading(number, each, at, who) for number, each in enumerate(given, 1)]
    return changes, lambda outcomes: {"seqs": [_seq(each) for each in outcomes]}


def _reading(number: int, given: Any, at: int, who: str) -> MeterReading:
    where = f"reading {number}"
    if not isinstance(given, dict):
        raise BadRequest(f"{where} is no table")
    device = _text(given, "device", f"{where} must name its device")
    if not device:
        raise BadRequest(f"{where} must name its device")
    return MeterReading(
        at,
        device,
        _one_of(given, "counter", COUNTERS, where),
        _number(given, "value", proof.SAFE, where),
        _number(given, "taken_at", _LATEST, where),
        _one_of(given, "event", EVENTS, where),
        _one_of(given, "source", SOURCES, where),
        _text(given, "remark", f"the remark of {where} must be a text"),
        who,
    )


def _recover(request: dict[str, Any], at: int, who: str) -> Plan:
    """Records of a capture, as `msgspec.to_builtins` gives them. Whatever they say, they are marked as recovered."""
    given = request.get("records")
    if not isinstance(given, list) or not 0 < len(given) <= MOST_RECOVERED:
        raise BadRequest(f"give 1 to {MOST_RECOVERED} records at once")
    records = [_recovered(number, each, at) for number, each in enumerate(given, 1)]
    return [*records], partial(_what_was_new, records)


def _recovered(number: int, given: Any, at: int) -> Record:
    try:
        record = msgspec.convert(given, Record)
    except msgspec.ValidationError as error:
        raise BadRequest(f"record {number} is none: {error}") from None
    if not record.for_ever or len(record.repeat_keys) != 2:
        raise BadRequest(f"record {number} has nothing by which it would be known if it came again")
    if record.outbox not in (None, OutboxState.WAITING):
        raise BadRequest(f"record {number} can wait for the server, or not be forwarded at all")
    return replace(record, at=at, mode=Mode.RECOVERED, ends_repeats=False)


def _what_was_new(records: Sequence[Record], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    new = [(record, each) for record, each in zip(records, outcomes, strict=True) if isinstance(each, Stored)]
    waiting = sum(record.outbox is not None for record, _ in new)
    conflicts = sum(stored.conflict for _, stored in new)
    return {"added": len(new), "known": len(records) - len(new), "conflicts": conflicts, "waiting": waiting}


def _text(given: dict[str, Any], key: str, wrong: str) -> str:
    text = given.get(key, "")
    if not isinstance(text, str) or len(text) > LONGEST_TEXT or not text.isprintable():
        raise BadRequest(f"{wrong}, in one line of at most {LONGEST_TEXT} characters")
    return text.strip()


def _one_of(given: dict[str, Any], key: str, known: Sequence[str], where: str) -> str:
    """The first of `known` is meant where nothing is said, but for the counter."""
    word = given.get(key, None if key == "counter" else known[0])
    if not isinstance(word, str) or word not in known:
        raise BadRequest(f"{where} has no {key} that is known; known are {', '.join(known)}")
    return word


def _number(given: dict[str, Any], key: str, most: int, where: str) -> int:
    number = given.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
        raise BadRequest(f"{where}: {key} must be a whole number from 0 to {most}")
    return number


def _is_noted(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_VALUE
    return isinstance(value, int) and abs(value) <= proof.SAFE


def _seq(outcome: Outcome) -> int:
    return outcome.seq if isinstance(outcome, Stored) else 0


_PLANS: dict[str, Callable[[dict[str, Any], int, str], Plan]] = {
    "ledger-sign": _sign,
    "ledger-note": _note,
    "ledger-erase": _erase,
    "meters-add": _readings,
    "ledger-recover": _recover,
}
COMMANDS = tuple(_PLANS)
