"""Messages of the terminal dialect for tests that make them up, and ways to damage bytes."""

from __future__ import annotations

from hypothesis import strategies as st

from protocols.terminal.frames import Decoder, Frame
from protocols.terminal.messages import (
    Error,
    Hello,
    Job,
    JobAck,
    Login,
    LoginResult,
    Logout,
    LogoutAck,
    Message,
    Ping,
    Pong,
    Query,
    QueryResult,
    RecordAck,
    RecordMessage,
    Unlock,
    UnlockResult,
    Welcome,
    clip,
    encode,
)

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
i64 = st.integers(-(2**63), 2**63 - 1)
texts = st.one_of(st.text(max_size=12), st.text(max_size=300).map(clip))
ids = st.binary(min_size=16, max_size=16)
jobs = st.builds(Job, u64, u64, u8, u64, u64, u32, u32, u32, u16, u16, texts, texts, texts)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, texts, texts, texts, u16),
    st.builds(Welcome, texts, u16, u64, u8),
    st.builds(Login, u8, texts, texts),
    st.builds(LoginResult, u8, u64, texts, texts, i64, u16),
    st.builds(Unlock, u8, texts),
    st.builds(UnlockResult, u8, u16),
    jobs,
    st.builds(JobAck, u64, u8),
    st.builds(Logout, u64),
    st.builds(LogoutAck, u64),
    st.just(Ping()),
    st.builds(Pong, u8),
    st.builds(Query, u8, u64, texts),
    st.builds(QueryResult, u8, st.lists(st.text(max_size=20), max_size=20).map(tuple)),
    st.builds(RecordMessage, ids, texts, texts, texts, u64, jobs),
    st.builds(RecordAck, ids, u64, u8, texts),
    st.builds(Error, u8, texts),
)


def payload_of(message: Message) -> tuple[int, bytes]:
    """A message's type and payload."""
    decoder = Decoder()
    decoder.receive_data(encode(message, 1))
    frame = decoder.next_event()
    assert isinstance(frame, Frame)
    return frame.type, frame.payload


@st.composite
def damaged(draw: st.DrawFn, octets: bytes) -> bytes:
    """These bytes with some of them changed, cut out, or with others put in."""
    data = bytearray(octets)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.integers(0, 2))
        if what == 0:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif what == 1:
            del data[at : at + draw(st.integers(1, 8))]
        else:
            data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


@st.composite
def chunked(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The same stream in pieces, of which some may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
