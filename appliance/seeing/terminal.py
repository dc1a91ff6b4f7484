"""The terminal dialect as it is seen passing: the frames of both directions, and which reply belongs to which request.

`docs/terminal.md`. A stream that cannot be read any further is said to be broken once, and not read on.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from appliance.seeing.said import Fact, Private, Said
from protocols.capture.streams import Connection
from protocols.errors import Malformed
from protocols.terminal.frames import REPLY_BIT, Broken, Decoder, Frame, Type, encode_frame
from protocols.terminal.messages import (
    NO_BALANCE,
    Error,
    Hello,
    Job,
    JobAck,
    JobStatus,
    Kind,
    Login,
    LoginResult,
    LoginStatus,
    Logout,
    Message,
    Method,
    Pong,
    Query,
    QueryResult,
    QueryStatus,
    RecordAck,
    RecordMessage,
    Scope,
    TerminalState,
    Unlock,
    UnlockResult,
    UnlockStatus,
    Welcome,
    What,
    decode,
)

DIALECT = "terminal"
PORTS = frozenset({9790, 9791})
START = b"CT"
MOST_OPEN = 4_096


class TerminalTalk:
    """One connection of a terminal."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoders = {True: Decoder(), False: Decoder()}
        self._asked: dict[int, Said] = {}
        self.device = ""

    def heard(self, at: int, from_client: bool, data: bytes) -> tuple[list[Said], list[str]]:
        """The messages that these octets complete, and reasons why some cannot be read."""
        said: list[Said] = []
        decoder = self._decoders[from_client]
        decoder.receive_data(data)
        while (event := decoder.next_event()) is not None:
            if isinstance(event, Broken):
                return said, [f"terminal-{event.code.name.lower()}"]
            try:
                message = decode(event)
            except Malformed as error:
                return said, [f"terminal-{error.reason}"]
            said.append(self._said(at, from_client, event, message))
        return said, []

    def _said(self, at: int, from_client: bool, frame: Frame, message: Message) -> Said:
        asked = None
        if not from_client:
            asked = self._asked.pop(frame.sequence, None)
        if asked is not None and frame.type not in (_type(asked) | REPLY_BIT, Type.ERROR):
            asked = None
        if isinstance(message, Hello):
            self.device = message.device_id
        facts = _facts(message)
        if asked is not None:
            facts["after_ms"] = at - asked.at
        ends = (self._connection.client, self._connection.server)
        source, target = ends if from_client else ends[::-1]
        raw = encode_frame(frame.type, frame.sequence, frame.payload)
        name = Type(frame.type).name
        said = Said(at, source, target, DIALECT, name, facts, from_client, self.device, message, raw, asked)
        if from_client:
            if len(self._asked) >= MOST_OPEN:
                del self._asked[next(iter(self._asked))]
            self._asked[frame.sequence] = said
        return said


def _type(said: Said) -> int:
    return said.raw[3]


def _facts(message: Message) -> dict[str, Fact]:
    match message:
        case Hello():
            return {"device": message.device_id, "model": message.model, "firmware": message.firmware}
        case Welcome():
            return {"server": message.server_name, "state": _word(TerminalState, message.state)}
        case Login():
            return _login(message)
        case LoginResult():
            facts: dict[str, Fact] = {"status": _word(LoginStatus, message.status), "user": message.user}
            if message.session:
                facts["session"] = f"{message.session:016x}"
            if message.message:
                facts["message"] = message.message
            return facts if message.balance == NO_BALANCE else facts | {"balance": message.balance}
        case Unlock():
            return {"scope": _word(Scope, message.scope), "code": Private(message.code, whole=True)}
        case UnlockResult():
            return {"status": _word(UnlockStatus, message.status), "retry_after": message.retry_after}
        case Job():
            return _job(message)
        case JobAck():
            return {"job": message.job, "status": _word(JobStatus, message.status)}
        case RecordMessage():
            facts = {"device": message.device_id, **_job(message.job), "user": message.user}
            return {**facts, "card": Private(message.card)} if message.card else facts
        case RecordAck():
            return {"job": message.job, "status": _word(JobStatus, message.status), "user": message.user}
        case Query():
            argument = (
                Private(message.argument, whole=True) if message.what == What.ASSOCIATE_CARD else message.argument
            )
            return {"what": _word(What, message.what), "argument": argument}
        case QueryResult():
            return {"status": _word(QueryStatus, message.status), "values": len(message.values)}
        case Error():
            return {"code": message.code, "message": message.message}
        case Pong():
            return {"state": _word(TerminalState, message.state)}
        case Logout():
            return {"session": f"{message.session:016x}"}
    return {}


def _login(message: Login) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"method": _word(Method, message.method)}
    if message.method == Method.CARD:
        facts["card"] = Private(message.credential)
    elif message.method == Method.PIN:
        facts["pin"] = Private(message.credential, whole=True)
    else:
        facts["user"] = message.credential
    if message.secret:
        facts["password"] = Private(message.secret, whole=True)
    return facts


def _job(job: Job) -> dict[str, Fact]:
    facts: dict[str, Fact] = {"job": job.job, "kind": _word(Kind, job.kind), "pages": job.pages}
    facts |= {"color_pages": job.color_pages, "copies": job.copies, "session": f"{job.session:016x}"}
    return facts


def _word(numbers: type[IntEnum], number: int) -> str:
    known: dict[Any, Any] = numbers._value2member_map_
    return known[number].name.lower().replace("_", "-") if number in known else f"unknown {number}"
