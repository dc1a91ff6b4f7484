"""What may be asked of the ledger by hand: a request becomes values to keep and an answer, or one line of refusal."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.control import LONGEST_REQUEST
from appliance.ledger_deeds import COMMANDS, COUNTERS, MOST_READINGS, MOST_RECOVERED, BadRequest, plan
from storage import checkpoints
from storage.answers import Erased, Repeat, Signed, Stored
from storage.records import (
    Counts,
    EraseCard,
    MeterReading,
    Mode,
    Note,
    OutboxState,
    Personal,
    Record,
    Sign,
)  # fmt: skip
from storage.signing import Signer

AT = 1_795_000_000_000
WHO = "ada (uid 1000, pid 5)"
READING = {
    "device": "KM-1",
    "counter": "total",
    "value": 1200,
    "taken_at": AT - 60_000,
    "event": "reset",
    "source": "csv",
    "remark": "by the technician",
}


def test_signing_answers_with_the_newest_checkpoint() -> None:
    changes, answer = plan("ledger-sign", {}, AT, WHO)
    assert changes == [Sign(AT)]
    signer = Signer.new()
    made = checkpoints.make(signer, 12, bytes(32), AT, None)
    key = base64.b64encode(signer.public_key).decode()
    assert answer([Signed(made)]) == {"line": made.line, "seq": 12, "number": 1, "public_key": key}
    assert answer([Signed(None)]) == {"line": None, "seq": 0, "number": 0, "public_key": ""}


def test_a_note_is_kept_with_who_made_it() -> None:
    data: dict[str, str | int] = {"to": "/mnt/backup.db", "through": 12, "backup": "0" * 32}
    changes, answer = plan("ledger-note", {"note": "backup", "data": data}, AT, WHO)
    assert changes == [Note(AT, "backup", data, WHO)]
    assert answer([Stored(13, "id")]) == {"seq": 13}


@pytest.mark.parametrize("note", ["start", "erased", "key", "", None, 5, [], {}])
def test_only_the_notes_of_commands_can_be_made(note: object) -> None:
    with pytest.raises(BadRequest, match="known are export"):
        plan("ledger-note", {"note": note, "data": {}}, AT, WHO)


@pytest.mark.parametrize("data", [None, [], "x", {"a": None}, {"a": 1.5}, {"a": []}, {"a": "x" * 5000}, {"a": 1 << 53}])
def test_a_note_holds_texts_and_whole_numbers_only(data: object) -> None:
    with pytest.raises(BadRequest):
        plan("ledger-note", {"note": "export", "data": data}, AT, WHO)


def test_a_card_is_erased_by_its_number_as_it_is_written() -> None:
    changes, answer = plan("ledger-erase", {"card": " 0042aF ", "reason": "request 7"}, AT, WHO)
    assert changes == [EraseCard(AT, "0042aF", WHO, "request 7")]
    assert answer([Erased(3, 99, 0, 4)]) == {"entries": 3, "seq": 99, "waiting": 0, "first": 4}
    assert answer([Erased(0, waiting=2)]) == {"entries": 0, "seq": 0, "waiting": 2, "first": 0}


@pytest.mark.parametrize("card", [None, "", "  ", 5, "1\n2", "\ud800", "9" * 256])
def test_what_is_no_card_number_is_refused(card: object) -> None:
    with pytest.raises(BadRequest, match="name the card") as raised:
        plan("ledger-erase", {"card": card}, AT, WHO)
    assert "\n" not in str(raised.value)


def test_readings_are_kept_each_with_who_entered_it() -> None:
    changes, answer = plan("meters-add", {"readings": [READING, {**READING, "counter": "color"}]}, AT, WHO)
    first = MeterReading(AT, "KM-1", "total", 1200, AT - 60_000, "reset", "csv", "by the technician", WHO)
    assert changes[0] == first
    assert isinstance(changes[1], MeterReading)
    assert changes[1].counter == "color"
    assert answer([Stored(7, "a"), Stored(8, "b")]) == {"seqs": [7, 8]}


def test_a_reading_by_hand_needs_device_counter_value_and_time_only() -> None:
    least = {key: READING[key] for key in ("device", "counter", "value", "taken_at")}
    changes, _ = plan("meters-add", {"readings": [least]}, AT, WHO)
    assert changes == [MeterReading(AT, "KM-1", "total", 1200, AT - 60_000, who=WHO)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", ""),
        ("device", None),
        ("device", "a\nb"),
        ("counter", "pages"),
        ("counter", None),
        ("value", -1),
        ("value", 1.5),
        ("value", "12"),
        ("value", True),
        ("value", 1 << 53),
        ("taken_at", None),
        ("taken_at", 1 << 60),
        ("event", "swap"),
        ("source", ""),
        ("remark", 5),
        ("remark", "x" * 256),
    ],
)
def test_one_wrong_reading_refuses_all_and_is_named(key: str, value: object) -> None:
    with pytest.raises(BadRequest, match="reading 2") as raised:
        plan("meters-add", {"readings": [READING, {**READING, key: value}]}, AT, WHO)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("readings", [None, [], {}, [5], ["x"], [READING] * (MOST_READINGS + 1)])
def test_what_is_no_list_of_readings_is_refused(readings: object) -> None:
    with pytest.raises(BadRequest):
        plan("meters-add", {"readings": readings}, AT, WHO)


def test_every_counter_is_taken() -> None:
    readings = [{**READING, "counter": counter} for counter in COUNTERS]
    assert len(plan("meters-add", {"readings": readings}, AT, WHO)[0]) == len(COUNTERS)


_any_json = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(), max_size=2)
_keys = st.sampled_from(["note", "data", "card", "reason", "readings", *READING])
_tables = st.dictionaries(_keys, _any_json, max_size=4)


@given(
    st.sampled_from(COMMANDS),
    st.dictionaries(_keys, _any_json | _tables | st.lists(_tables, max_size=2) | st.just("export"), max_size=4),
)
def test_any_request_is_planned_or_refused(command: str, request: dict[str, Any]) -> None:
    with suppress(BadRequest):
        assert plan(command, request, AT, WHO)[0]


RECOVERED = Record(
    5, "radius", "hq", "KM-1", "10.7.0.31", "stop", "S1", Mode.ONLINE, "KM-1|S1", Personal("0A1B", raw=b"\x04\xff"),
    counts=Counts("copy", 3), repeat_scope="capture 10.7.0.31", repeat_keys=(b"k", b"k"), ends_repeats=True,
    for_ever=True, outbox=None,
)  # fmt: skip


def test_a_record_of_a_capture_is_marked_as_recovered_whatever_it_says() -> None:
    given = json.loads(json.dumps(msgspec.to_builtins([RECOVERED, replace(RECOVERED, outbox=OutboxState.WAITING)])))
    changes, answer = plan("ledger-recover", {"records": given}, AT, WHO)
    wanted = replace(RECOVERED, at=AT, mode=Mode.RECOVERED, ends_repeats=False)
    assert changes == [wanted, replace(wanted, outbox=OutboxState.WAITING)]
    both = {"added": 2, "known": 0, "conflicts": 0, "waiting": 1}
    assert answer([Stored(1, "a"), Stored(2, "b")]) == both
    assert answer([Stored(1, "a", conflict=True), Repeat(1, "a")]) == {
        "added": 1, "known": 1, "conflicts": 1, "waiting": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"for_ever": False}, {"repeat_keys": []}, {"outbox": "sent"}, {"outbox": "x"}, {"at": "y"}, {"personal": None}],
    ids=str,
)
def test_what_is_no_record_of_a_capture_is_refused(change: dict[str, Any]) -> None:
    given = {**msgspec.to_builtins(RECOVERED), **change}
    with pytest.raises(BadRequest, match="record 2"):
        plan("ledger-recover", {"records": [msgspec.to_builtins(RECOVERED), given]}, AT, WHO)


@pytest.mark.parametrize("records", [None, [], {}, [None], [{}] * (MOST_RECOVERED + 1)], ids=repr)
def test_records_come_in_lists_of_a_hundred(records: object) -> None:
    with pytest.raises(BadRequest):
        plan("ledger-recover", {"records": records}, AT, WHO)


def test_a_hundred_of_the_largest_records_fit_into_a_request() -> None:
    largest = replace(RECOVERED, personal=Personal("a" * 253, document="b" * 253, account="c" * 253, raw=bytes(4096)))
    request = {"command": "ledger-recover", "records": msgspec.to_builtins([largest] * MOST_RECOVERED)}
    assert len(json.dumps(request)) < LONGEST_REQUEST
