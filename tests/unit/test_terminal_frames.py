"""Frames of the terminal dialect: what is read of a stream, in which order it is checked, and what is held."""

from __future__ import annotations

import struct
import zlib

import pytest

from protocols.errors import Malformed, TooLarge
from protocols.terminal.frames import (
    LARGEST_FRAME,
    LARGEST_PAYLOAD,
    Broken,
    Decoder,
    ErrorCode,
    Frame,
    Type,
    encode_frame,
)


def framed(
    payload: bytes = b"", *, magic: bytes = b"CT", version: int = 1, kind: int = 6, sequence: int = 8, wrong: int = 0
) -> bytes:
    """A frame made from the document alone; `wrong` is added to its checksum."""
    checked = magic + struct.pack("!BBIH", version, kind, sequence, len(payload)) + payload
    return checked + struct.pack("!I", (zlib.crc32(checked) + wrong) % (1 << 32))


def events(*pieces: bytes) -> list[Frame | Broken]:
    decoder = Decoder()
    found = []
    for piece in pieces:
        decoder.receive_data(piece)
        while (event := decoder.next_event()) is not None:
            found.append(event)
    return found


def test_a_frame_is_type_sequence_and_payload() -> None:
    assert events(framed(b"abc", kind=4, sequence=0x01020304)) == [Frame(Type.JOB, 0x01020304, b"abc")]


def test_a_frame_is_written_as_it_is_read() -> None:
    assert encode_frame(Type.JOB, 9, b"abc") == framed(b"abc", kind=4, sequence=9)


def test_what_came_together_is_cut_into_frames() -> None:
    stream = framed(b"one", sequence=1) + framed(sequence=2) + framed(b"three", sequence=3)
    assert [event.sequence for event in events(stream)] == [1, 2, 3]


@pytest.mark.parametrize("size", range(1, 12))
def test_a_stream_cut_into_equal_pieces_gives_the_same_frames(size: int) -> None:
    stream = framed(b"one", sequence=1) + framed(sequence=2) + framed(b"CT\x01", sequence=3) + framed(version=9)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert events(*pieces) == events(stream)


@pytest.mark.parametrize("cut", range(1, 16))
def test_part_of_a_frame_gives_nothing_yet(cut: int) -> None:
    frame = framed(b"payload")
    assert events(frame[:-cut]) == []
    assert events(frame[:-cut], frame[-cut:]) == [Frame(6, 8, b"payload")]


def test_the_largest_payload_passes() -> None:
    payload = bytes(LARGEST_PAYLOAD)
    assert events(encode_frame(4, 1, payload)) == [Frame(4, 1, payload)]


def test_types_that_nobody_knows_are_frames_too() -> None:
    assert events(framed(kind=0x7F), framed(kind=0)) == [Frame(0x7F, 8, b""), Frame(0, 8, b"")]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (framed(magic=b"XX"), ErrorCode.MAGIC),
        (framed(magic=b"CX"), ErrorCode.MAGIC),
        (framed(version=2), ErrorCode.VERSION),
        (framed(version=0), ErrorCode.VERSION),
        (framed(wrong=1), ErrorCode.CHECKSUM),
        (framed(bytes(4097)), ErrorCode.MALFORMED),
        (framed(b"a")[:-1] + b"\0" + framed(), ErrorCode.CHECKSUM),
    ],
)
def test_lost_framing_breaks_the_stream_with_sequence_zero(stream: bytes, code: ErrorCode) -> None:
    (event,) = events(stream)
    assert isinstance(event, Broken)
    assert (event.code, event.sequence) == (code, 0)


def test_checks_come_in_the_order_magic_version_length_checksum() -> None:
    def code(stream: bytes) -> ErrorCode:
        (event,) = events(stream)
        assert isinstance(event, Broken)
        return event.code

    too_long = bytes(4097)
    assert code(framed(too_long, magic=b"XX", version=2, wrong=1)) is ErrorCode.MAGIC
    assert code(framed(too_long, version=2, wrong=1)) is ErrorCode.VERSION
    assert code(framed(too_long, wrong=1)) is ErrorCode.MALFORMED
    assert code(framed(wrong=1, kind=0x3E)) is ErrorCode.CHECKSUM


@pytest.mark.parametrize(
    ("early", "code"),
    [
        (b"XT", ErrorCode.MAGIC),
        (b"CT\x02", ErrorCode.VERSION),
        (b"CT\x01\x06\0\0\0\x0c\x10\x01", ErrorCode.MALFORMED),
    ],
)
def test_what_is_wrong_is_said_as_soon_as_it_can_be_known(early: bytes, code: ErrorCode) -> None:
    assert events(*(early[at : at + 1] for at in range(len(early) - 1))) == []
    (event,) = events(*(early[at : at + 1] for at in range(len(early))))
    assert isinstance(event, Broken)
    assert event.code is code


def test_frames_before_the_broken_place_are_still_read() -> None:
    first, second = events(framed(b"good") + b"??" + framed())
    assert first == Frame(6, 8, b"good")
    assert isinstance(second, Broken)


def test_a_broken_stream_is_not_read_any_further() -> None:
    decoder = Decoder()
    decoder.receive_data(framed(wrong=1) + framed())
    assert isinstance(decoder.next_event(), Broken)
    for _ in range(3):
        decoder.receive_data(framed())
        assert decoder.next_event() is None
        assert decoder.held == 0


def test_no_more_than_one_frame_is_held_back() -> None:
    decoder = Decoder()
    stream = encode_frame(4, 1, bytes(LARGEST_PAYLOAD)) * 3
    for at in range(0, len(stream), 1000):
        decoder.receive_data(stream[at : at + 1000])
        while decoder.next_event() is not None:
            pass
        assert decoder.held < LARGEST_FRAME
    assert decoder.held == 0


def test_what_was_taken_is_held_no_longer() -> None:
    decoder = Decoder()
    decoder.receive_data(framed() * 5000 + b"CT")
    while decoder.next_event() is not None:
        pass
    assert decoder.held == 2
    assert len(decoder._data) == 2


def test_what_no_frame_can_hold_is_not_written() -> None:
    with pytest.raises(TooLarge) as large:
        encode_frame(4, 1, bytes(LARGEST_PAYLOAD + 1))
    assert large.value.reason == "payload-too-long"
    for kind, sequence in ((256, 1), (-1, 1), (4, 1 << 32), (4, -1)):
        with pytest.raises(Malformed):
            encode_frame(kind, sequence, b"")
