"""A frame from a device as a request, and the reply that puts a request off.

Where the dialect leaves it open: sequence 0 in a request is malformed, for its reply could not be told from an ERROR
about nothing, and so is a HELLO without a name; the type of a reply is an unknown type in a request.
"""

from __future__ import annotations

from protocols.errors import Malformed
from protocols.terminal.frames import REPLY_BIT, Frame
from protocols.terminal.messages import (
    NO_BALANCE,
    Hello,
    Job,
    JobAck,
    JobStatus,
    Login,
    LoginResult,
    LoginStatus,
    Message,
    Query,
    QueryResult,
    QueryStatus,
    UnknownType,
    Unlock,
    UnlockResult,
    UnlockStatus,
    decode,
)

UNLOCK_AGAIN = 1


def read(frame: Frame) -> Message:
    """The request in a frame. Raises UnknownType or Malformed."""
    if frame.type & REPLY_BIT:
        raise UnknownType("unknown-type", f"0x{frame.type:02x} is a reply")
    message = decode(frame)
    if not frame.sequence:
        raise Malformed("sequence-0", "a request has another sequence than 0")
    if isinstance(message, Hello) and not message.device_id:
        raise Malformed("no-device-id", "HELLO without a device_id")
    return message


def put_off(message: Message) -> Message | None:
    """The reply that asks for another try; None: this request is never put off."""
    match message:
        case Job():
            return JobAck(message.job, JobStatus.LATER)
        case Login():
            return LoginResult(LoginStatus.UNAVAILABLE, 0, "", "Too many requests: try again", NO_BALANCE, 0)
        case Unlock():
            return UnlockResult(UnlockStatus.TOO_MANY, UNLOCK_AGAIN)
        case Query():
            return QueryResult(QueryStatus.NOT_OFFLINE_AVAILABLE, ())
        case _:
            return None
