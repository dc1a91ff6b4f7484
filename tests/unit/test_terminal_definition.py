"""What is read and written by hand agrees with the declared definition of the terminal dialect, on any bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed, ProtocolError
from protocols.terminal import definition
from protocols.terminal.frames import LARGEST_PAYLOAD, Decoder, Frame, Type, encode_frame
from protocols.terminal.messages import Job, Message, RecordMessage, decode, encode
from tests.fuzz.terminal_inputs import damaged, messages, payload_of

QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
types = st.one_of(st.sampled_from([int(kind) for kind in Type]), st.integers(0, 255))
frames = st.builds(encode_frame, types, st.integers(0, 2**32 - 1), st.binary(max_size=60))


def only_frame(data: bytes) -> Frame | None:
    """The frame that these bytes are, if they are exactly one."""
    decoder = Decoder()
    decoder.receive_data(data)
    event = decoder.next_event()
    return event if isinstance(event, Frame) and not decoder.held else None


def declared_frame(data: bytes) -> Frame | None:
    try:
        read = definition.read_frame(data)
    except Malformed:
        return None
    return Frame(read.type, read.sequence, bytes(read.payload))


def by_hand(kind: int, payload: bytes) -> dict[str, Any] | None:
    try:
        return fields_of(decode(Frame(kind, 1, payload)))
    except Malformed:
        return None


def declared(kind: int, payload: bytes) -> dict[str, Any] | None:
    try:
        return plain(definition.read_payload(kind, payload))
    except Malformed:
        return None


def fields_of(message: Message) -> dict[str, Any]:
    """A message's fields by name, with lists as construct makes them."""
    fields = {name: getattr(message, name) for name in message.__slots__}
    if isinstance(message, RecordMessage):
        fields["job"] = dataclasses.asdict(message.job)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def plain(container: Any) -> dict[str, Any]:
    """A container without construct's own entries."""
    found = {name: value for name, value in container.items() if not name.startswith("_")}
    return {
        name: plain(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
        for name, value in found.items()
    }


@QUICK
@given(st.one_of(frames, frames.flatmap(damaged), st.binary(max_size=40)))
def test_frames_are_read_as_declared(data: bytes) -> None:
    assert only_frame(data) == declared_frame(data)


@QUICK
@given(types, st.integers(0, 2**32 - 1), st.binary(max_size=60))
def test_frames_are_written_as_declared(kind: int, sequence: int, payload: bytes) -> None:
    assert encode_frame(kind, sequence, payload) == definition.write_frame(kind, sequence, payload)


@QUICK
@given(messages, st.data())
def test_payloads_are_read_as_declared(message: Message, data: st.DataObject) -> None:
    kind, payload = payload_of(message)
    assert by_hand(kind, payload) == declared(kind, payload) == fields_of(message)
    broken = data.draw(damaged(payload))
    assert by_hand(kind, broken) == declared(kind, broken)


@QUICK
@given(types, st.binary(max_size=80))
def test_any_payload_is_read_as_declared(kind: int, payload: bytes) -> None:
    assert by_hand(kind, payload) == declared(kind, payload)


@QUICK
@given(messages)
def test_payloads_are_written_as_declared(message: Message) -> None:
    kind, payload = payload_of(message)
    assert definition.write_payload(kind, fields_of(message)) == payload


@QUICK
@given(st.binary(max_size=255), st.binary(max_size=255))
def test_bad_utf8_is_read_as_declared(document: bytes, account: bytes) -> None:
    texts = b"\0" + bytes((len(document),)) + document + bytes((len(account),)) + account
    payload = bytes(49) + texts
    read = by_hand(Type.JOB, payload)
    assert read is not None
    assert read == declared(Type.JOB, payload)
    encode(Job(**read), 1)


def test_the_largest_frame_is_as_declared() -> None:
    payload = bytes(LARGEST_PAYLOAD)
    assert definition.write_frame(4, 1, payload) == encode_frame(4, 1, payload)
    assert definition.read_frame(encode_frame(4, 1, payload)).payload == payload


def test_every_type_is_declared() -> None:
    assert set(definition.PAYLOADS) == set(Type)


@pytest.mark.parametrize("after", [b"\0", b"CT"])
def test_the_definition_does_not_lose_a_trailing_byte(after: bytes) -> None:
    with pytest.raises(Malformed):
        definition.read_frame(encode_frame(6, 1, b"") + after)
    with pytest.raises(Malformed):
        definition.read_payload(Type.LOGOUT, bytes(8) + after)
    with pytest.raises(Malformed):
        definition.read_payload(Type.PING, after)


def test_one_bad_value_is_refused_and_not_read_as_a_shorter_list() -> None:
    with pytest.raises(Malformed):
        definition.read_payload(Type.QUERY_RESULT, b"\0\x02\x01a\x05b")


@pytest.mark.parametrize(
    ("kind", "sequence", "payload"), [(256, 1, b""), (1, 1 << 32, b""), (1, 1, bytes(LARGEST_PAYLOAD + 1))]
)
def test_what_no_frame_can_hold_is_refused_by_both(kind: int, sequence: int, payload: bytes) -> None:
    with pytest.raises(Malformed):
        definition.write_frame(kind, sequence, payload)
    with pytest.raises(ProtocolError):
        encode_frame(kind, sequence, payload)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Type.LOGIN, {"method": 1, "credential": "x" * 256, "secret": ""}),
        (Type.LOGIN, {"method": 1, "credential": ""}),
        (Type.LOGIN, {"method": 256, "credential": "", "secret": ""}),
        (Type.LOGIN, {"method": 1, "credential": 5, "secret": ""}),
        (Type.RECORD_ACK, {"record_id": bytes(15), "job": 1, "status": 0, "user": ""}),
        (Type.LOGOUT, None),
        (0x7F, {}),
    ],
)
def test_what_the_definition_does_not_allow_is_malformed(kind: int, fields: Any) -> None:
    with pytest.raises(Malformed):
        definition.write_payload(kind, fields)
