"""The frame of the terminal dialect: two octets of magic, version, type, sequence, length, payload, CRC-32.

`docs/terminal.md`, "Frames". A stream in, frames out: what was received is cut into frames wherever it was cut on the
way, and the same bytes give the same events. A stream that has lost its framing is never searched for the next frame:
it is `Broken`, and nothing is read of it any more. What is wrong is said as soon as it can be known: the magic after
two bytes, the version after three, the length with the header. What a payload means is not known here; `messages.py`
reads it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

from protocols.errors import Malformed, TooLarge

MAGIC = b"CT"
VERSION = 1
HEADER_SIZE = 10
CHECKSUM_SIZE = 4
LARGEST_PAYLOAD = 4096
LARGEST_FRAME = HEADER_SIZE + LARGEST_PAYLOAD + CHECKSUM_SIZE
REPLY_BIT = 0x80

_HEADER = struct.Struct("!2sBBIH")
_CHECKSUM = struct.Struct("!I")


class Type(IntEnum):
    """Frame types; a reply's is its request's with bit 7 set. A frame's type may be any octet: compare, do not convert.

    0x7F is reserved: its reply would be an ERROR.
    """

    HELLO = 0x01
    LOGIN = 0x02
    UNLOCK = 0x03
    JOB = 0x04
    LOGOUT = 0x05
    PING = 0x06
    QUERY = 0x07
    RECORD = 0x08
    WELCOME = 0x81
    LOGIN_RESULT = 0x82
    UNLOCK_RESULT = 0x83
    JOB_ACK = 0x84
    LOGOUT_ACK = 0x85
    PONG = 0x86
    QUERY_RESULT = 0x87
    RECORD_ACK = 0x88
    ERROR = 0xFF


class ErrorCode(IntEnum):
    """What an ERROR frame may say."""

    MAGIC = 1
    VERSION = 2
    CHECKSUM = 3
    UNKNOWN_TYPE = 4
    MALFORMED = 5
    HELLO = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose checksum is right. `type` is 0 to 255, `sequence` 32 bits, `payload` 0 to 4,096 octets."""

    type: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream cannot be read any further: send ERROR with these values, close, read no more."""

    code: ErrorCode
    sequence: int
    text: str


class Decoder:
    """One direction of one connection: bytes in, frames out.

    Feed a piece, then take events until None: what is held then is less than one frame (`held`, at most 4,109 octets).
    After `Broken` nothing is held, and whatever comes is thrown away.
    """

    __slots__ = ("_at", "_broken", "_data")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._broken = False

    @property
    def held(self) -> int:
        """How many octets were received and not yet taken."""
        return len(self._data) - self._at

    def receive_data(self, data: bytes) -> None:
        """The next piece of the stream, of any size."""
        if not self._broken:
            self._data = self._data[self._at :] + data
            self._at = 0

    def next_event(self) -> Frame | Broken | None:
        """The next frame, `Broken` once, or None: more data is needed, or the stream is broken."""
        data, at = self._data, self._at
        if len(data) - at < HEADER_SIZE:
            return self._beginning(data[at:])
        magic, version, kind, sequence, length = _HEADER.unpack_from(data, at)
        if magic != MAGIC or version != VERSION:
            return self._beginning(data[at:])
        if length > LARGEST_PAYLOAD:
            return self._break(ErrorCode.MALFORMED, f"a length of {length}, at most {LARGEST_PAYLOAD}")
        body = at + HEADER_SIZE
        end = body + length
        after = end + CHECKSUM_SIZE
        if len(data) < after:
            self._wait(data[at:])
            return None
        if crc32(data[at:end]) != _CHECKSUM.unpack_from(data, end)[0]:
            return self._break(ErrorCode.CHECKSUM, "bad checksum")
        self._at = after
        return Frame(kind, sequence, data[body:end])

    def _beginning(self, data: bytes) -> Broken | None:
        """A header that is not whole, or wrong in its first three octets."""
        if len(data) >= 2 and data[:2] != MAGIC:
            return self._break(ErrorCode.MAGIC, "bad magic")
        if len(data) >= 3 and data[2] != VERSION:
            return self._break(ErrorCode.VERSION, f"bad version {data[2]}, this is version {VERSION}")
        self._wait(data)
        return None

    def _wait(self, data: bytes) -> None:
        # The frames that were taken must not stay in memory for as long as the next one takes to come.
        self._data, self._at = data, 0

    def _break(self, code: ErrorCode, text: str) -> Broken:
        self._data, self._at, self._broken = b"", 0, True
        return Broken(code, 0, text)


def encode_frame(type: int, sequence: int, payload: bytes) -> bytes:
    """The frame's octets. Raises TooLarge for a payload over 4,096 octets, Malformed for numbers out of range."""
    if len(payload) > LARGEST_PAYLOAD:
        raise TooLarge("payload-too-long", f"{len(payload)} octets, at most {LARGEST_PAYLOAD}")
    try:
        checked = _HEADER.pack(MAGIC, VERSION, type, sequence, len(payload)) + payload
    except struct.error:
        raise Malformed("header-range", f"type {type} has 8 bits, sequence {sequence} 32") from None
    return checked + _CHECKSUM.pack(crc32(checked))
