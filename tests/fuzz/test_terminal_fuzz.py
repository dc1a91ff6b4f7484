"""Any bytes in any pieces: the same events, only the declared errors, and never more held than a frame."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed, TooLarge
from protocols.terminal import definition
from protocols.terminal.frames import LARGEST_FRAME, Broken, Decoder, ErrorCode, Frame, Type, encode_frame
from protocols.terminal.messages import DUPLEX, Job, Message, RecordMessage, clip, contents, decode, encode
from tests.fuzz.terminal_inputs import chunked, damaged, messages

SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
sequences = st.integers(0, 2**32 - 1)
encoded = st.builds(encode, messages, sequences)
headers = st.builds(lambda tail: b"CT\x01" + tail, st.binary(max_size=30))
streams = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(encoded, encoded, encoded, headers, st.binary(max_size=12)), max_size=8).map(b"".join),
    st.lists(encoded, min_size=1, max_size=5).map(b"".join).flatmap(damaged),
    st.builds(lambda kind, payload: encode_frame(kind, 1, payload), st.integers(0, 255), st.binary(max_size=100)),
)
TEXTS = {
    ErrorCode.MAGIC: r"bad magic",
    ErrorCode.VERSION: r"bad version \d+, .*",
    ErrorCode.CHECKSUM: r"bad checksum",
    ErrorCode.MALFORMED: r"a length of \d+, at most 4096",
}


def only_ours(function: Callable[[], Any]) -> Any:
    """The result, or None for one of the two errors; any other exception fails the test."""
    try:
        return function()
    except (Malformed, TooLarge) as error:
        reason = error.reason
    assert re.fullmatch("[a-z0-9-]+", reason)
    return None


def events(pieces: list[bytes]) -> list[Frame | Broken]:
    """All events of a stream; what is held between two pieces stays under one frame."""
    decoder = Decoder()
    found: list[Frame | Broken] = []
    for piece in pieces:
        decoder.receive_data(piece)
        while (event := decoder.next_event()) is not None:
            found.append(event)
        assert decoder.held < LARGEST_FRAME
    return found


@SETTINGS
@given(streams, st.data())
def test_any_stream_cut_anywhere_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    whole = events([stream])
    assert events(data.draw(chunked(stream))) == whole
    assert events([stream[at : at + 1] for at in range(len(stream))]) == whole


@SETTINGS
@given(streams)
def test_a_stream_breaks_once_and_at_its_end(stream: bytes) -> None:
    found = events([stream])
    assert all(isinstance(event, Frame) for event in found[:-1])
    if found and isinstance(found[-1], Broken):
        broken = found[-1]
        assert broken.sequence == 0
        assert re.fullmatch(TEXTS[broken.code], broken.text)


@SETTINGS
@given(streams)
def test_frames_that_were_read_are_the_bytes_that_came(stream: bytes) -> None:
    read = b"".join(
        encode_frame(event.type, event.sequence, event.payload)
        for event in events([stream])
        if isinstance(event, Frame)
    )
    assert stream.startswith(read)


@SETTINGS
@given(st.one_of(st.sampled_from(list(Type)), st.integers(0, 255)), st.binary(max_size=300))
def test_any_payload_is_read_or_malformed(kind: int, payload: bytes) -> None:
    message = only_ours(lambda: decode(Frame(kind, 1, payload)))
    if message is not None:
        # Whatever was read can be sent on, and is then read as the same.
        (sent,) = events([encode(message, 1)])
        assert isinstance(sent, Frame)
        assert sent.type == kind
        assert decode(sent) == message


@SETTINGS
@given(st.binary(max_size=200))
def test_the_definition_reads_any_bytes_or_says_malformed(data: bytes) -> None:
    only_ours(lambda: definition.read_frame(data))
    for kind in definition.PAYLOADS:
        only_ours(lambda kind=kind: definition.read_payload(kind, data))


@SETTINGS
@given(messages, sequences)
def test_what_was_written_is_read_again(message: Message, sequence: int) -> None:
    (frame,) = events([encode(message, sequence)])
    assert isinstance(frame, Frame)
    assert frame.sequence == sequence
    assert decode(frame) == message


@SETTINGS
@given(st.text(max_size=400))
def test_any_text_is_clipped_to_what_a_field_holds(text: str) -> None:
    clipped = clip(text)
    assert len(clipped.encode()) <= 255
    if len(text.encode("utf-8", "replace")) <= 255:
        assert clipped == text.encode("utf-8", "replace").decode()
    else:
        assert len(clipped.encode()) > 251


@SETTINGS
@given(st.one_of(messages, st.text().map(lambda text: Job(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, text, text, text))))
def test_only_declared_errors_leave_the_writer(message: Message) -> None:
    octets = only_ours(lambda: encode(message, 1))
    job = message.job if isinstance(message, RecordMessage) else message
    if isinstance(job, Job):
        kept = only_ours(lambda: contents(job))
        assert kept is None or octets is None or kept in octets or job.flags & ~DUPLEX
