"""Messages of the terminal dialect: every payload read and written, and what is no message."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from protocols.errors import Malformed, TooLarge
from protocols.terminal.frames import CHECKSUM_SIZE, HEADER_SIZE, Decoder, Frame, Type
from protocols.terminal.messages import (
    ALL_PERMISSIONS,
    FORWARDER,
    NO_BALANCE,
    OFFLINE_SESSION_BIT,
    Capability,
    Error,
    ErrorCode,
    Hello,
    Job,
    JobAck,
    JobStatus,
    Kind,
    Login,
    LoginResult,
    LoginStatus,
    Logout,
    LogoutAck,
    Message,
    Method,
    Permission,
    Ping,
    Pong,
    Query,
    QueryResult,
    QueryStatus,
    RecordAck,
    RecordMessage,
    Scope,
    TerminalState,
    UnknownType,
    Unlock,
    UnlockResult,
    UnlockStatus,
    Welcome,
    What,
    clip,
    contents,
    decode,
    encode,
    raw_contents,
)

JOB = Job(7, 90001, Kind.COPY, 1_000, 2_000, 12, 4, 6, 1, 1, "A4", "Überweisung.pdf", "")
JOB_PAYLOAD = (
    struct.pack("!QQBQQIIIHH", 7, 90001, 1, 1_000, 2_000, 12, 4, 6, 1, 1)
    + b"\x02A4\x10\xc3\x9cberweisung.pdf"
    + b"\x00"
)
MESSAGES: list[tuple[Message, Type, bytes]] = [
    (Hello("c1", "m", "", 5), Type.HELLO, b"\x02c1\x01m\x00\x00\x05"),
    (Welcome("hq", 30, 1, TerminalState.LOCKED), Type.WELCOME, b"\x02hq\x00\x1e" + bytes(7) + b"\x01\x02"),
    (Login(Method.CARD, "04AB", ""), Type.LOGIN, b"\x01\x0404AB\x00"),
    (
        LoginResult(LoginStatus.GRANTED, OFFLINE_SESSION_BIT | 1, "", "Hi", NO_BALANCE, ALL_PERMISSIONS),
        Type.LOGIN_RESULT,
        b"\x00\x80" + bytes(6) + b"\x01\x00\x02Hi\x80" + bytes(7) + b"\x00\x1f",
    ),
    (
        LoginResult(LoginStatus.REFUSED, 0, "bob", "", -1, 0),
        Type.LOGIN_RESULT,
        b"\x01" + bytes(8) + b"\x03bob\x00" + b"\xff" * 8 + b"\x00\x00",
    ),
    (Unlock(Scope.UNTIL_RESTORED, "471100"), Type.UNLOCK, b"\x02\x06471100"),
    (UnlockResult(UnlockStatus.TOO_MANY, 300), Type.UNLOCK_RESULT, b"\x02\x01\x2c"),
    (JOB, Type.JOB, JOB_PAYLOAD),
    (JobAck(90001, JobStatus.ALREADY), Type.JOB_ACK, bytes(5) + b"\x01\x5f\x91\x01"),
    (Logout(7), Type.LOGOUT, bytes(7) + b"\x07"),
    (LogoutAck(7), Type.LOGOUT_ACK, bytes(7) + b"\x07"),
    (Ping(), Type.PING, b""),
    (Pong(TerminalState.UNAVAILABLE), Type.PONG, b"\x03"),
    (Query(What.BALANCE, 7, "x"), Type.QUERY, b"\x01" + bytes(7) + b"\x07\x01x"),
    (QueryResult(QueryStatus.NOT_OFFLINE_AVAILABLE, ()), Type.QUERY_RESULT, b"\x02\x00"),
    (QueryResult(QueryStatus.DONE, ("", "ab")), Type.QUERY_RESULT, b"\x00\x02\x00\x02ab"),
    (
        RecordMessage(bytes(range(16)), "c1", "04AB", "", 5, JOB),
        Type.RECORD,
        bytes(range(16)) + b"\x02c1\x0404AB\x00" + bytes(7) + b"\x05" + JOB_PAYLOAD,
    ),
    (
        RecordAck(bytes(range(16)), 2, JobStatus.STORED, "amara"),
        Type.RECORD_ACK,
        bytes(range(16)) + bytes(7) + b"\x02\x00\x05amara",
    ),
    (Error(ErrorCode.CHECKSUM, "bad checksum"), Type.ERROR, b"\x03\x0cbad checksum"),
]
each_message = pytest.mark.parametrize(
    ("message", "kind", "payload"), MESSAGES, ids=[type(message).__name__ for message, _, _ in MESSAGES]
)


def frame_of(octets: bytes) -> Frame:
    decoder = Decoder()
    decoder.receive_data(octets)
    event = decoder.next_event()
    assert isinstance(event, Frame)
    return event


def refusal(kind: int, payload: bytes) -> Malformed:
    with pytest.raises(Malformed) as error:
        decode(Frame(kind, 1, payload))
    return error.value


@each_message
def test_every_message_is_read(message: Message, kind: Type, payload: bytes) -> None:
    assert decode(Frame(kind, 1, payload)) == message


@each_message
def test_every_message_is_written(message: Message, kind: Type, payload: bytes) -> None:
    assert frame_of(encode(message, 77)) == Frame(kind, 77, payload)


@each_message
def test_a_payload_cut_anywhere_is_malformed(message: Message, kind: Type, payload: bytes) -> None:
    for size in range(len(payload)):
        assert refusal(kind, payload[:size]).reason in ("payload-length", "bad-utf8")


@each_message
def test_trailing_bytes_are_malformed(message: Message, kind: Type, payload: bytes) -> None:
    error = refusal(kind, payload + b"\0")
    assert error.reason == "payload-length"
    assert not isinstance(error, UnknownType)


def test_every_type_has_its_message() -> None:
    assert {kind for _, kind, _ in MESSAGES} == set(Type)


@pytest.mark.parametrize("kind", [0x00, 0x09, 0x3E, 0x7F, 0x80, 0x89, 0xFE])
def test_an_unknown_type_is_told_apart_from_a_bad_payload(kind: int) -> None:
    error = refusal(kind, b"whatever")
    assert isinstance(error, UnknownType)
    assert error.reason == "unknown-type"


@pytest.mark.parametrize(
    ("kind", "payload", "read"),
    [
        (Type.LOGIN, b"\x09\x00\x00", Login(9, "", "")),
        (Type.UNLOCK, b"\x00\x00", Unlock(0, "")),
        (Type.QUERY, b"\xff" + bytes(8) + b"\x00", Query(255, 0, "")),
        (Type.JOB, JOB_PAYLOAD[:16] + b"\x63" + JOB_PAYLOAD[17:], dataclasses.replace(JOB, kind=0x63)),
        (Type.LOGIN_RESULT, b"\x2a" + bytes(8) + b"\0\0" + bytes(10), LoginResult(42, 0, "", "", 0, 0)),
        (Type.HELLO, b"\0\0\0\xff\xff", Hello("", "", "", 0xFFFF)),
    ],
)
def test_values_that_nobody_knows_are_read_as_they_are(kind: Type, payload: bytes, read: Message) -> None:
    assert decode(Frame(kind, 1, payload)) == read


def test_times_are_read_as_they_are() -> None:
    payload = JOB_PAYLOAD[:17] + bytes(8) + b"\xff" * 8 + JOB_PAYLOAD[33:]
    job = decode(Frame(Type.JOB, 1, payload))
    assert isinstance(job, Job)
    assert (job.started, job.ended) == (0, 2**64 - 1)


FIXED = JOB_PAYLOAD[:49]


def test_bad_utf8_in_document_and_account_is_read_with_replacement_characters() -> None:
    read = decode(Frame(Type.JOB, 1, FIXED + b"\x02A4" + b"\x05\xdcbers" + b"\x02a\xff"))
    assert isinstance(read, Job)
    assert (read.paper, read.document, read.account) == ("A4", "\ufffdbers", "a\ufffd")


def test_what_was_read_with_replacement_characters_can_be_written_again() -> None:
    read = decode(Frame(Type.JOB, 1, FIXED + b"\0" + b"\xff" + b"\xdc" * 255 + b"\0"))
    assert isinstance(read, Job)
    assert read.document == "\ufffd" * 85
    assert decode(frame_of(encode(read, 1))) == read


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Type.JOB, FIXED + b"\x01\xff\0\0"),
        (Type.HELLO, b"\x01\xff\0\0\0\0"),
        (Type.LOGIN, b"\x01\x02\xc3\x28\0"),
        (Type.UNLOCK, b"\x01\x03\xed\xa0\x80"),
        (Type.QUERY_RESULT, b"\0\x01\x01\x80"),
        (Type.RECORD, bytes(16) + b"\0\x01\xff\0" + bytes(8) + JOB_PAYLOAD),
    ],
)
def test_bad_utf8_elsewhere_is_malformed(kind: Type, payload: bytes) -> None:
    assert refusal(kind, payload).reason == "bad-utf8"


def test_the_bits_of_the_document() -> None:
    assert Capability.CARD_READER | Capability.KEYPAD | Capability.UNLOCK_CODE | Capability.COLOR == 15
    assert Capability.FORWARDER == FORWARDER == 0x8000
    assert sum(Permission) == ALL_PERMISSIONS == 0b11111
    assert (OFFLINE_SESSION_BIT, NO_BALANCE) == (2**63, -(2**63))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Login(1, "x" * 256, ""), "text-too-long"),
        (Login(1, "ü" * 128, ""), "text-too-long"),
        (QueryResult(0, ("",) * 256), "too-many-values"),
        (QueryResult(0, ("x" * 255,) * 17), "payload-too-long"),
    ],
)
def test_what_is_too_large_is_not_written(message: Message, reason: str) -> None:
    with pytest.raises(TooLarge) as error:
        encode(message, 1)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (JobAck(1 << 64, 0), "field-range"),
        (JobAck(-1, 0), "field-range"),
        (Pong(256), "field-range"),
        (LoginResult(0, 0, "", "", 1 << 63, 0), "field-range"),
        (Login(1, "\ud800", ""), "no-unicode"),
        (RecordAck(bytes(15), 1, 0, ""), "record-id-length"),
        (RecordMessage(bytes(17), "", "", "", 0, JOB), "record-id-length"),
    ],
)
def test_what_no_field_can_hold_is_not_written(message: Message, reason: str) -> None:
    with pytest.raises(Malformed) as error:
        encode(message, 1)
    assert error.value.reason == reason


def test_a_text_is_clipped_between_characters() -> None:
    assert clip("short") == "short"
    assert clip("x" * 300) == "x" * 255
    assert clip("ü" * 128) == "ü" * 127
    assert clip("€" * 90) == "€" * 85
    assert clip("x" * 253 + "\U0001f5a8") == "x" * 253
    assert clip("a\ud800b") == "a?b"


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("job", 1), ("kind", 2), ("started", 0), ("ended", 0), ("pages", 13), ("color_pages", 0), ("sheets", 0),
        ("copies", 2), ("flags", 0), ("paper", "A3"), ("document", "x"), ("account", "x"),
    ],
)  # fmt: skip
def test_another_value_in_any_field_is_another_content(field: str, other: int | str) -> None:
    assert contents(dataclasses.replace(JOB, **{field: other})) != contents(JOB)  # type: ignore[arg-type]


def test_the_same_job_in_another_session_is_the_same_content() -> None:
    assert contents(dataclasses.replace(JOB, session=0)) == contents(JOB)
    assert {field.name for field in dataclasses.fields(Job)} - {"session"} == {
        "job", "kind", "started", "ended", "pages", "color_pages", "sheets", "copies", "flags", "paper", "document",
        "account",
    }  # fmt: skip


def test_reserved_flags_make_no_other_content() -> None:
    assert contents(dataclasses.replace(JOB, flags=0xFFFF)) == contents(JOB)


def test_what_moves_between_two_texts_is_another_content() -> None:
    one = dataclasses.replace(JOB, paper="A", document="4x")
    assert contents(one) != contents(dataclasses.replace(JOB, paper="A4", document="x"))


def raw(made: Job) -> bytes:
    return encode(made, 1)[HEADER_SIZE:-CHECKSUM_SIZE]


def test_a_payload_in_utf_8_has_the_content_of_its_job() -> None:
    for made in (JOB, dataclasses.replace(JOB, session=0), dataclasses.replace(JOB, flags=0xFFFF)):
        assert raw_contents(raw(made)) == contents(JOB)


def test_what_is_no_utf_8_is_compared_octet_by_octet() -> None:
    head, tail = JOB_PAYLOAD[:49] + b"\x02A4", b"\x00"
    one, other = (head + b"\x04" + octets + tail for octets in (b"\xff\xfe\x00x", b"\xff\xfd\x00x"))
    assert raw_contents(one) != raw_contents(other)
    assert raw_contents(one) == raw_contents(b"\x01" + one[1:])


def test_errors_name_no_card_and_no_code() -> None:
    for kind, payload in ((Type.LOGIN, b"\x01\x0804A1B2C3"), (Type.UNLOCK, b"\x01\x06471100!")):
        assert not {"04A1B2C3", "471100"} & set(str(refusal(kind, payload)).split())
        assert "04A1" not in str(refusal(kind, payload))
        assert "4711" not in str(refusal(kind, payload))
