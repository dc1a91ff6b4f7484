"""Calls of PaperCut's Web Services as they are seen passing: XML-RPC in HTTP/1.1, each with its answer.

RFC 9112 by h11, once for what the client sends and once for what comes back. The token, which is the first argument of
every call, is never told. Of calls that are not known here only the number of arguments is. Left out: what is behind
TLS, and other requests to the same port.
"""

from __future__ import annotations

import h11

from appliance.seeing.said import Fact, Private, Said
from appliance.simulator.xmlrpc import NotACall, read_call
from protocols.capture.streams import Connection
from protocols.papercut.calls import LARGEST_ANSWER, Fault, NotXmlRpc, Value, decode_answer

DIALECT = "papercut"
PORTS = frozenset({9191})
TLS_PORTS = frozenset({9192, 9193})
START = b"POST "
PATH = b"xmlrpc"
"""What stands in the path of every call, wherever the server puts it."""
MOST_FRAMING = 65_536

_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "processJob": ("details",),
    "isUserExists": ("user",),
    "lookUpUserNameByCardNo": ("card",),
    "getUserProperty": ("user", "property"),
    "getUserAccountBalance": ("user",),
    "getConfigValue": ("name",),
    "getTotalUsers": (),
    "addNewUser": ("user",),
}
_PRIVATE = frozenset({"card"})
_ANSWERS_SHOWN = frozenset(
    {"processJob", "isUserExists", "lookUpUserNameByCardNo", "getUserAccountBalance", "getTotalUsers"}
)


class PapercutTalk:
    """One connection of a client of the Web Services."""

    device = ""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_FRAMING)
        self._answers = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_FRAMING)
        self._body: dict[bool, list[bytes]] = {True: [], False: []}
        self._size: dict[bool, int] = {True: 0, False: 0}
        self._head: h11.Request | None = None
        self._status = 0
        self._asked: list[tuple[h11.Request, Said | None]] = []
        self._waiting = b""
        self._broken = False

    def heard(self, at: int, from_client: bool, data: bytes) -> tuple[list[Said], list[str]]:
        """The calls and answers that these octets complete, and reasons why some cannot be read."""
        if self._broken:
            return [], []
        try:
            if from_client:
                self._requests.receive_data(data)
                return self._read_requests(at), []
            self._waiting += data
            return self._read_answers(at), []
        except (h11.RemoteProtocolError, h11.LocalProtocolError):
            self._broken = True
            return [], ["papercut-no-http"]
        except _TooLarge:
            self._broken = True
            return [], ["papercut-too-large"]

    def _read_requests(self, at: int) -> list[Said]:
        found: list[Said] = []
        while True:
            event = self._requests.next_event()
            if isinstance(event, h11.Request):
                self._head = event
            elif isinstance(event, h11.Data):
                self._add(True, bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                said = self._call(at, self._taken(True))
                self._asked.append((self._head, said))
                found += [said] if said is not None else []
                # Nobody answers here; the connection must only know that the request has had its answer.
                self._requests.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                self._requests.send(h11.EndOfMessage())
                if self._requests.our_state is not h11.DONE or self._requests.their_state is not h11.DONE:
                    return found
                self._requests.start_next_cycle()
            else:
                return found

    def _read_answers(self, at: int) -> list[Said]:
        found: list[Said] = []
        while self._asked:
            if self._answers.our_state is h11.IDLE:
                self._answers.send(_as_sent(self._asked[0][0]))
                self._answers.send(h11.EndOfMessage())
            if self._waiting:
                waiting, self._waiting = self._waiting, b""
                self._answers.receive_data(waiting)
            event = self._answers.next_event()
            if isinstance(event, h11.Response):
                self._status = event.status_code
            elif isinstance(event, h11.Data):
                self._add(False, bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                _, asked = self._asked.pop(0)
                body = self._taken(False)
                found += [self._answer(at, asked, body)] if asked is not None else []
                if self._answers.our_state is not h11.DONE or self._answers.their_state is not h11.DONE:
                    self._broken = True
                    return found
                self._answers.start_next_cycle()
            elif not isinstance(event, h11.InformationalResponse):
                return found
        return found

    def _add(self, from_client: bool, data: bytes) -> None:
        self._size[from_client] += len(data)
        if self._size[from_client] > LARGEST_ANSWER:
            raise _TooLarge
        self._body[from_client].append(data)

    def _taken(self, from_client: bool) -> bytes:
        body = b"".join(self._body[from_client])
        self._body[from_client], self._size[from_client] = [], 0
        return body

    def _call(self, at: int, body: bytes) -> Said | None:
        try:
            call = read_call(body)
        except NotACall:
            return None
        method = call.method.removeprefix("api.")
        names = _ARGUMENTS.get(method)
        arguments = call.arguments[1:]
        facts: dict[str, Fact] = {}
        if names is None:
            facts["arguments"] = len(arguments)
        else:
            for name, argument in zip(names, arguments, strict=False):
                facts[name] = Private(str(argument)) if name in _PRIVATE else str(argument)
        source, target = self._connection.client, self._connection.server
        return Said(at, source, target, DIALECT, _plain(call.method), facts, True, message=call, raw=body)

    def _answer(self, at: int, asked: Said, body: bytes) -> Said:
        facts: dict[str, Fact] = {"call": asked.name, "after_ms": at - asked.at}
        name = "answer"
        if self._status != 200:
            facts["status"] = self._status
        else:
            match decode_answer(body):
                case Fault(text):
                    name, facts["text"] = "fault", text
                case NotXmlRpc() as wrong:
                    facts["unreadable"] = wrong.words
                case Value(value) if asked.name.removeprefix("api.") in _ANSWERS_SHOWN and value is not None:
                    facts["value"] = str(value)
        source, target = self._connection.server, self._connection.client
        return Said(at, source, target, DIALECT, name, facts, False, raw=body, answers=asked)


class _TooLarge(Exception):
    """A body that no call and no answer has."""


def _as_sent(head: h11.Request) -> h11.Request:
    """The same request without a body, for the side that only waits for the answer."""
    kept = [(name, value) for name, value in head.headers if name not in (b"content-length", b"transfer-encoding")]
    return h11.Request(method=head.method, target=head.target, headers=kept, http_version=head.http_version)


def _plain(method: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in method)[:100]
