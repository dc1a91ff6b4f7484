"""The terminal dialect bit for bit: the vectors beside the project where they are, and frames worked out by hand.

The hand-made frames are those of `docs/terminal.md` and a few more; their checksums come from zlib, nothing of ours.
"""

from __future__ import annotations

import json
import re
import uuid
from functools import cache
from typing import Any

import pytest

from protocols.errors import Malformed
from protocols.terminal import definition
from protocols.terminal.frames import Broken, Decoder, ErrorCode, Frame, Type
from protocols.terminal.messages import (
    NO_BALANCE,
    OFFLINE_SESSION_BIT,
    Error,
    Hello,
    Job,
    JobAck,
    Login,
    LoginResult,
    Message,
    Ping,
    Pong,
    QueryResult,
    RecordMessage,
    UnknownType,
    Unlock,
    Welcome,
    decode,
    encode,
)
from tests.peers.skips import ROOT, skip

VECTORS = ROOT.parent / "shared" / "design" / "dialects" / "terminal-vectors.json"
NAMES = {
    "HELLO", "WELCOME", "LOGIN", "LOGIN_RESULT", "UNLOCK", "UNLOCK_RESULT", "JOB", "JOB_ACK", "LOGOUT", "LOGOUT_ACK",
    "PING", "PONG", "QUERY", "QUERY_RESULT", "RECORD", "RECORD_ACK", "ERROR",
}  # fmt: skip


@cache
def vectors() -> list[dict[str, Any]]:
    """The vectors, or skip."""
    if not VECTORS.is_file():
        skip(f"no {VECTORS.name} beside the project")
    loaded: list[dict[str, Any]] = json.loads(VECTORS.read_text("utf-8"))
    return loaded


def right() -> list[dict[str, Any]]:
    return [vector for vector in vectors() if "fields" in vector]


def wrong() -> list[dict[str, Any]]:
    return [vector for vector in vectors() if "expect" in vector]


def event_of(octets: bytes) -> Frame | Broken:
    decoder = Decoder()
    decoder.receive_data(octets)
    event = decoder.next_event()
    assert event is not None
    assert decoder.next_event() is None
    assert decoder.held == 0
    return event


def message_of(vector: dict[str, Any]) -> Message:
    """The message that a vector's fields describe, made without reading its bytes."""
    fields = dict(vector["fields"])
    if "record_id" in fields:
        fields["record_id"] = uuid.UUID(fields["record_id"]).bytes
    if "items" in fields:
        fields["values"] = tuple(fields.pop("items"))
    made = next(each for each in Message.__args__ if TYPES[each.__name__] == vector["type"])
    if made is RecordMessage:
        fields["job"] = Job(**{name: fields.pop(name) for name in Job.__slots__ if name in fields})
    message: Message = made(**fields)
    return message


TYPES = {"".join(part.title() for part in kind.name.split("_")): kind for kind in Type}
TYPES["RecordMessage"] = TYPES.pop("Record")


def test_there_is_a_vector_of_every_message() -> None:
    assert {vector["name"].split()[0] for vector in right()} == NAMES
    assert len(wrong()) >= 7


def test_every_vector_is_read_as_its_fields() -> None:
    for vector in right():
        frame = event_of(bytes.fromhex(vector["hex"]))
        assert isinstance(frame, Frame), vector["name"]
        assert (frame.type, frame.sequence) == (vector["type"], vector["sequence"]), vector["name"]
        assert decode(frame) == message_of(vector), vector["name"]


def test_every_vector_is_written_from_its_fields_bit_for_bit() -> None:
    for vector in right():
        assert encode(message_of(vector), vector["sequence"]).hex() == vector["hex"], vector["name"]


def test_every_vector_is_read_and_written_as_declared() -> None:
    for vector in right():
        octets = bytes.fromhex(vector["hex"])
        read = definition.read_frame(octets)
        fields = definition.read_payload(read.type, read.payload)
        payload = definition.write_payload(read.type, fields)
        assert definition.write_frame(read.type, read.sequence, payload) == octets, vector["name"]


def test_all_vectors_in_one_stream_cut_anywhere() -> None:
    stream = b"".join(bytes.fromhex(vector["hex"]) for vector in right())
    wanted = [(vector["type"], vector["sequence"]) for vector in right()]
    for size in (1, 7, 64, 1000):
        decoder = Decoder()
        found: list[tuple[int, int]] = []
        for at in range(0, len(stream), size):
            decoder.receive_data(stream[at : at + size])
            while (event := decoder.next_event()) is not None:
                assert isinstance(event, Frame)
                found.append((event.type, event.sequence))
        assert found == wanted


def fault(octets: bytes) -> tuple[int, int]:
    """ERROR's code and sequence for a wrong frame; code 0 for one that is right."""
    event = event_of(octets)
    if isinstance(event, Broken):
        return event.code, event.sequence
    try:
        decode(event)
    except UnknownType:
        return ErrorCode.UNKNOWN_TYPE, event.sequence
    except Malformed:
        return ErrorCode.MALFORMED, event.sequence
    return 0, event.sequence


def test_every_wrong_vector_is_found_wrong_as_it_says() -> None:
    for vector in wrong():
        code = re.match(r"ERROR (\d)", vector["expect"])
        sequence = re.search(r"sequence (\d+)", vector["expect"])
        assert sequence, vector["name"]
        wanted = (int(code[1]) if code else 0, int(sequence[1]))
        assert fault(bytes.fromhex(vector["hex"])) == wanted, vector["name"]


# --- worked out by hand -------------------------------------------------------------------------------------------

BY_HAND: list[tuple[str, int, Message]] = [
    ("435401 06 0000002a 0000 2319323d", 42, Ping()),
    ("435401 86 0000002a 0001 03 59605f8f", 42, Pong(3)),
    ("435401 01 00000001 000e 03633137 0558312d3230 0137 0007 5d8418e3", 1, Hello("c17", "X1-20", "7", 7)),
    (
        "435401 81 00000001 0012 066c6f63756d31 000f 00000199f2c1b400 01 e56145ec",
        1,
        Welcome("locum1", 15, 0x199F2C1B400, 1),
    ),
    ("435401 02 00000002 000b 01 083034413142324333 00 39f1a485", 2, Login(1, "04A1B2C3", "")),
    (
        "435401 82 00000002 001f 00 800000000000002a 00 0a4c6f6767656420696e21 8000000000000000 001f f688358f",
        2,
        LoginResult(0, OFFLINE_SESSION_BIT | 42, "", "Logged in!", NO_BALANCE, 31),
    ),
    ("435401 03 00000003 0008 02 06323436383130 b07a2814", 3, Unlock(2, "246810")),
    (
        "435401 04 00000004 003d 800000000000002a 0000000000000011 01 0000000000000000 00000199f2c1c390"
        " 00000003 00000000 00000002 0001 0001 024134 00 0741727420313021 979345c7",
        4,
        Job(OFFLINE_SESSION_BIT | 42, 17, 1, 0, 0x199F2C1C390, 3, 0, 2, 1, 1, "A4", "", "Art 10!"),
    ),
    ("435401 84 00000004 0009 0000000000000011 00 08700105", 4, JobAck(17, 0)),
    ("435401 87 00000005 0006 00 02 0141 0142 b454f84f", 5, QueryResult(0, ("A", "B"))),
    ("435401 ff 00000000 000b 01 09626164206d61676963 861a96fa", 0, Error(1, "bad magic")),
]


@pytest.mark.parametrize(("shown", "sequence", "message"), BY_HAND, ids=[each[0][7:9] for each in BY_HAND])
def test_a_frame_worked_out_by_hand_is_read_and_written(shown: str, sequence: int, message: Message) -> None:
    octets = bytes.fromhex(shown)
    frame = event_of(octets)
    assert isinstance(frame, Frame)
    assert frame.sequence == sequence
    assert decode(frame) == message
    assert encode(message, sequence) == octets


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ("5854 01 06 0000002a 0000 2319323d", (1, 0)),
        ("4354 02 06 0000002a 0000 2319323d", (2, 0)),
        ("4354 01 06 0000002a 0000 2319323c", (3, 0)),
        ("4354 01 06 0000002a ffff", (5, 0)),
    ],
)
def test_a_wrong_frame_worked_out_by_hand_breaks_the_stream(shown: str, wanted: tuple[int, int]) -> None:
    assert fault(bytes.fromhex(shown)) == wanted


def test_the_frames_of_the_documentation_are_right() -> None:
    page = (ROOT / "docs" / "terminal.md").read_text("utf-8")
    shown = re.findall(r"^\| ([A-Z_]+) \|.*\| `([0-9a-f ]{28,})` \|$", page, re.MULTILINE)
    assert len(shown) >= 4
    for name, octets in shown:
        frame = event_of(bytes.fromhex(octets))
        assert isinstance(frame, Frame), name
        assert Type(frame.type).name == name
        assert encode(decode(frame), frame.sequence) == bytes.fromhex(octets)
