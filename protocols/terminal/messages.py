"""The messages of the terminal dialect: a frame's payload as a value, and back.

`docs/terminal.md`, "Messages". Every message has a layout: runs of numbers, which `struct` reads at once, and texts (an
octet of length, then UTF-8) between them. `definition.py` declares the same payloads, and property tests hold the two
together. Numbers that stand for something (method, scope, kind, what, status, state) are read as they are, known or
not, and so are times: what to answer is not decided here. Compare them with `==`; they are no members of the enums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from protocols.errors import Malformed
from protocols.terminal.frames import ErrorCode, Frame, Type, encode_frame
from protocols.terminal.layouts import LARGEST_TEXT, Layout, Part, clip
from protocols.terminal.values import (
    ALL_PERMISSIONS,
    DUPLEX,
    FORWARDER,
    NO_BALANCE,
    OFFLINE_SESSION_BIT,
    Capability,
    JobStatus,
    Kind,
    LoginStatus,
    Method,
    Permission,
    QueryStatus,
    Scope,
    TerminalState,
    UnlockStatus,
    What,
)

__all__ = [
    "ALL_PERMISSIONS", "DUPLEX", "FORWARDER", "LARGEST_TEXT", "NO_BALANCE", "OFFLINE_SESSION_BIT", "Capability",
    "Error", "ErrorCode", "Hello", "Job", "JobAck", "JobStatus", "Kind", "Login", "LoginResult", "LoginStatus",
    "Logout", "LogoutAck", "Message", "Method", "Permission", "Ping", "Pong", "Query", "QueryResult", "QueryStatus",
    "RecordAck", "RecordMessage", "Scope", "TerminalState", "UnknownType", "Unlock", "UnlockResult", "UnlockStatus",
    "Welcome", "What", "clip", "contents", "decode", "encode", "raw_contents",
]  # fmt: skip

UUID_SIZE: Final = 16


class UnknownType(Malformed):
    """A frame of a type that this version does not have: the one fault that a connection survives."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who connects. `capabilities`: bits of `Capability`."""

    device_id: str
    model: str
    firmware: str
    capabilities: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """`heartbeat`: seconds from one PING to the next, 0 none. `server_time`: milliseconds UTC since 1970."""

    server_name: str
    heartbeat: int
    server_time: int
    state: int


@dataclass(frozen=True, slots=True)
class Login:
    method: int
    credential: str
    secret: str


@dataclass(frozen=True, slots=True)
class LoginResult:
    """`session` is 0 unless granted. `balance` in hundredths, or NO_BALANCE. `permissions`: bits of `Permission`."""

    status: int
    session: int
    user: str
    message: str
    balance: int
    permissions: int


@dataclass(frozen=True, slots=True)
class Unlock:
    scope: int
    code: str


@dataclass(frozen=True, slots=True)
class UnlockResult:
    """`retry_after`: seconds, 0 at once."""

    status: int
    retry_after: int


@dataclass(frozen=True, slots=True)
class Job:
    """What was copied, printed, scanned or faxed. `started` and `ended`: milliseconds UTC since 1970, 0 unknown.

    `job` is the device's own number for it, never used again. `pages` are impressions, all copies counted. `flags`: bit
    0 (DUPLEX); the others are reserved.
    """

    session: int
    job: int
    kind: int
    started: int
    ended: int
    pages: int
    color_pages: int
    sheets: int
    copies: int
    flags: int
    paper: str
    document: str
    account: str


@dataclass(frozen=True, slots=True)
class JobAck:
    job: int
    status: int


@dataclass(frozen=True, slots=True)
class Logout:
    session: int


@dataclass(frozen=True, slots=True)
class LogoutAck:
    session: int


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Pong:
    state: int


@dataclass(frozen=True, slots=True)
class Query:
    what: int
    session: int
    argument: str


@dataclass(frozen=True, slots=True)
class QueryResult:
    """`values`: at most 255, and no more than fit into a frame."""

    status: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordMessage:
    """A job that someone else has kept. `record_id`: a UUID's 16 octets. `taken`: milliseconds UTC since 1970."""

    record_id: bytes
    device_id: str
    card: str
    user: str
    taken: int
    job: Job


@dataclass(frozen=True, slots=True)
class RecordAck:
    """`status` as in JOB_ACK. `user`: whom the server logged it against, "" if it does not say."""

    record_id: bytes
    job: int
    status: int
    user: str


@dataclass(frozen=True, slots=True)
class Error:
    """`code`: one of `ErrorCode`, or one that a later version has."""

    code: int
    message: str


Message = (
    Hello | Welcome | Login | LoginResult | Unlock | UnlockResult | Job | JobAck | Logout | LogoutAck | Ping | Pong
    | Query | QueryResult | RecordMessage | RecordAck | Error
)  # fmt: skip


_TEXT, _LENIENT = Part.TEXT, Part.LENIENT
_JOB = ("QQBQQIIIHH", _TEXT, _LENIENT, _LENIENT)
_FORMS: Final[dict[type[Message], tuple[Type, Layout]]] = {
    Hello: (Type.HELLO, Layout("HELLO", _TEXT, _TEXT, _TEXT, "H")),
    Welcome: (Type.WELCOME, Layout("WELCOME", _TEXT, "HQB")),
    Login: (Type.LOGIN, Layout("LOGIN", "B", _TEXT, _TEXT)),
    LoginResult: (Type.LOGIN_RESULT, Layout("LOGIN_RESULT", "BQ", _TEXT, _TEXT, "qH")),
    Unlock: (Type.UNLOCK, Layout("UNLOCK", "B", _TEXT)),
    UnlockResult: (Type.UNLOCK_RESULT, Layout("UNLOCK_RESULT", "BH")),
    Job: (Type.JOB, Layout("JOB", *_JOB)),
    JobAck: (Type.JOB_ACK, Layout("JOB_ACK", "QB")),
    Logout: (Type.LOGOUT, Layout("LOGOUT", "Q")),
    LogoutAck: (Type.LOGOUT_ACK, Layout("LOGOUT_ACK", "Q")),
    Ping: (Type.PING, Layout("PING")),
    Pong: (Type.PONG, Layout("PONG", "B")),
    Query: (Type.QUERY, Layout("QUERY", "BQ", _TEXT)),
    QueryResult: (Type.QUERY_RESULT, Layout("QUERY_RESULT", "B", Part.TEXTS)),
    RecordMessage: (Type.RECORD, Layout("RECORD", f"{UUID_SIZE}s", _TEXT, _TEXT, _TEXT, "Q", *_JOB)),
    RecordAck: (Type.RECORD_ACK, Layout("RECORD_ACK", f"{UUID_SIZE}sQB", _TEXT)),
    Error: (Type.ERROR, Layout("ERROR", "B", _TEXT)),
}
_BY_TYPE: Final[dict[int, tuple[type[Any], Layout]]] = {kind: (made, form) for made, (kind, form) in _FORMS.items()}
_RECORD_HEAD = 5
_SESSION_SIZE = 8
_FLAGS = Job.__slots__.index("flags")
_FLAGS_AT = 47
_FLAGS_SIZE = 2


def decode(frame: Frame) -> Message:
    """The message in a frame. Raises UnknownType, or Malformed for a payload that is not exactly that message's.

    Bad UTF-8 in `document` and `account` becomes replacement characters (and such a text is clipped, so that it can be
    written again); elsewhere it is Malformed.
    """
    found = _BY_TYPE.get(frame.type)
    if found is None:
        raise UnknownType("unknown-type", f"0x{frame.type:02x}")
    made, layout = found
    fields = layout.read(frame.payload)
    if made is RecordMessage:
        fields[_RECORD_HEAD:] = [Job(*fields[_RECORD_HEAD:])]
    message: Message = made(*fields)
    return message


def encode(message: Message, sequence: int) -> bytes:
    """The whole frame of a message.

    Raises TooLarge for a text over 255 octets of UTF-8 (see `clip`), over 255 values or a payload over 4,096 octets;
    Malformed for a number out of its range or a text that is no Unicode.
    """
    return encode_frame(_FORMS[type(message)][0], sequence, _payload(message))


def contents(job: Job) -> bytes:
    """What decides whether two JOBs with one number are the same job: every field but `session`, in a fixed form.

    A device that heard no answer may send a job again after it was logged out or switched off: its session is then
    another one, or none. Reserved flags are ignored, as everywhere. Of a text that was no UTF-8 what it is shown as
    counts: whoever has the octets compares `raw_contents`. Raises as `encode`.
    """
    fields: list[Any] = [getattr(job, name) for name in Job.__slots__]
    fields[_FLAGS] &= DUPLEX
    return _FORMS[Job][1].write(fields)[_SESSION_SIZE:]


def raw_contents(payload: bytes) -> bytes:
    """`contents` of a JOB's payload as it came, the same for one in UTF-8: bad UTF-8 counts octet by octet.

    The payload is one that `decode` reads.
    """
    after = _FLAGS_AT + _FLAGS_SIZE
    flags = int.from_bytes(payload[_FLAGS_AT:after], "big") & DUPLEX
    return payload[_SESSION_SIZE:_FLAGS_AT] + flags.to_bytes(_FLAGS_SIZE, "big") + payload[after:]


def _payload(message: Message) -> bytes:
    fields: list[Any] = [getattr(message, name) for name in message.__slots__]
    if isinstance(message, RecordMessage):
        fields[_RECORD_HEAD:] = [getattr(message.job, name) for name in Job.__slots__]
    if isinstance(message, RecordMessage | RecordAck) and len(message.record_id) != UUID_SIZE:
        # struct would cut it, or fill it with zeros.
        raise Malformed("record-id-length", f"{len(message.record_id)} octets, a UUID has {UUID_SIZE}")
    return _FORMS[type(message)][1].write(fields)
