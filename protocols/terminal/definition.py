"""The declared format of the terminal dialect: the frame, and the payload of every type.

`docs/terminal.md`. `frames.py`, `layouts.py` and `messages.py` read the same by hand because every job passes there;
property tests show that they agree with this on any bytes, both ways. Every payload is closed by `Terminated`, and what
has a length of its own is taken whole by `GreedyBytes`: `Prefixed` loses a trailing octet otherwise. Left out: what a
number stands for, since any is read.
"""

from __future__ import annotations

from typing import Any, Final
from zlib import crc32

from construct import (
    Bytes,
    Checksum,
    Const,
    Construct,
    ConstructError,
    Container,
    ExprAdapter,
    ExprValidator,
    FocusedSeq,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64sb,
    Int64ub,
    PascalString,
    Pass,
    Prefixed,
    PrefixedArray,
    RawCopy,
    Struct,
    Terminated,
    this,
)

from protocols.errors import Malformed
from protocols.terminal.frames import LARGEST_PAYLOAD, MAGIC, VERSION, Type
from protocols.terminal.layouts import replaced

TEXT: Final = PascalString(Int8ub, "utf-8")
LENIENT_TEXT: Final = ExprAdapter(
    Prefixed(Int8ub, GreedyBytes), lambda octets, _: _shown(octets), lambda text, _: text.encode("utf-8")
)
TIME: Final = Int64ub
UUID: Final = Bytes(16)


def _shown(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return replaced(octets)


def _payload(*fields: Any) -> Construct:
    """A payload that holds these fields and not an octet more."""
    return FocusedSeq("fields", "fields" / Struct(*fields), Terminated)


_JOB: Final = (
    "session" / Int64ub,
    "job" / Int64ub,
    "kind" / Int8ub,
    "started" / TIME,
    "ended" / TIME,
    "pages" / Int32ub,
    "color_pages" / Int32ub,
    "sheets" / Int32ub,
    "copies" / Int16ub,
    "flags" / Int16ub,
    "paper" / TEXT,
    "document" / LENIENT_TEXT,
    "account" / LENIENT_TEXT,
)

PAYLOADS: Final[dict[int, Construct]] = {
    Type.HELLO: _payload("device_id" / TEXT, "model" / TEXT, "firmware" / TEXT, "capabilities" / Int16ub),
    Type.WELCOME: _payload("server_name" / TEXT, "heartbeat" / Int16ub, "server_time" / TIME, "state" / Int8ub),
    Type.LOGIN: _payload("method" / Int8ub, "credential" / TEXT, "secret" / TEXT),
    Type.LOGIN_RESULT: _payload(
        "status" / Int8ub,
        "session" / Int64ub,
        "user" / TEXT,
        "message" / TEXT,
        "balance" / Int64sb,
        "permissions" / Int16ub,
    ),
    Type.UNLOCK: _payload("scope" / Int8ub, "code" / TEXT),
    Type.UNLOCK_RESULT: _payload("status" / Int8ub, "retry_after" / Int16ub),
    Type.JOB: _payload(*_JOB),
    Type.JOB_ACK: _payload("job" / Int64ub, "status" / Int8ub),
    Type.LOGOUT: _payload("session" / Int64ub),
    Type.LOGOUT_ACK: _payload("session" / Int64ub),
    Type.PING: _payload(Pass),
    Type.PONG: _payload("state" / Int8ub),
    Type.QUERY: _payload("what" / Int8ub, "session" / Int64ub, "argument" / TEXT),
    Type.QUERY_RESULT: _payload("status" / Int8ub, "values" / PrefixedArray(Int8ub, TEXT)),
    Type.RECORD: _payload(
        "record_id" / UUID,
        "device_id" / TEXT,
        "card" / TEXT,
        "user" / TEXT,
        "taken" / TIME,
        "job" / Struct(*_JOB),
    ),
    Type.RECORD_ACK: _payload("record_id" / UUID, "job" / Int64ub, "status" / Int8ub, "user" / TEXT),
    Type.ERROR: _payload("code" / Int8ub, "message" / TEXT),
}

FRAME: Final = FocusedSeq(
    "frame",
    "frame"
    / Struct(
        "checked"
        / RawCopy(
            Struct(
                "magic" / Const(MAGIC),
                "version" / Const(VERSION, Int8ub),
                "type" / Int8ub,
                "sequence" / Int32ub,
                "payload" / Prefixed(ExprValidator(Int16ub, lambda length, _: length <= LARGEST_PAYLOAD), GreedyBytes),
            )
        ),
        "checksum" / Checksum(Int32ub, crc32, this.checked.data),
    ),
    Terminated,
)


def read_frame(data: bytes) -> Container:
    """`type`, `sequence` and `payload` of the one frame that `data` is. Raises Malformed if it is anything else."""
    return _read(FRAME, data).checked.value


def write_frame(type: int, sequence: int, payload: bytes) -> bytes:
    """A frame's octets. Raises Malformed for what no frame can hold."""
    # Only `value`: beside `data`, RawCopy would write that and not look at the value.
    return _write(FRAME, {"checked": {"value": {"type": type, "sequence": sequence, "payload": payload}}})


def read_payload(type: int, payload: bytes) -> Container:
    """A payload's fields by name. Raises Malformed for an unknown type or a payload that does not fit."""
    return _read(_definition(type), payload)


def write_payload(type: int, fields: Any) -> bytes:
    """The payload of fields by name. Raises Malformed where the definition does not allow it, or one is missing."""
    return _write(_definition(type), fields)


def _definition(type: int) -> Construct:
    if type not in PAYLOADS:
        raise Malformed("unknown-type", f"0x{type:02x}")
    return PAYLOADS[type]


def _read(definition: Construct, data: bytes) -> Container:
    try:
        return definition.parse(data)
    except ConstructError as error:
        raise Malformed("definition", str(error).replace("\n", " ")) from None


def _write(definition: Construct, value: Any) -> bytes:
    try:
        built: bytes = definition.build(value)
    except (ConstructError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed("definition", str(error).replace("\n", " ")) from None
    return built
