"""One kept HTTP/1.1 connection: a POST after another, each answered before the next (RFC 9112, by h11).

What comes back is told apart here: an XML-RPC answer, a status that only a living server gives, or what proves
nothing. Left out: pipelining, compression, redirects, cookies, upgrades.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11

from protocols.papercut.calls import CONTENT_TYPE, LARGEST_ANSWER, Fault, NotXmlRpc, Value, decode_answer

GATEWAY = (502, 503, 504)
MOST_FRAMING = 65_536
CUT = "cut-answer"
"""The reason of an answer that was cut off."""


@dataclass(frozen=True, slots=True)
class Status:
    """The server refused by an HTTP status of its own: 500, or any 4xx. It is alive."""

    code: int

    @property
    def words(self) -> str:
        hint = {
            401: " (not authorised)",
            403: " (forbidden)",
            404: " (not found: check the path)",
            407: " (a proxy wants credentials)",
            500: " (an error of its own)",
        }
        return f"HTTP {self.code}{hint.get(self.code, '')}"


@dataclass(frozen=True, slots=True)
class Nonsense:
    """Something came back that proves nothing. `reason`: a counter key; `words`: what it was."""

    reason: str
    words: str


Said = Value | Fault | Status | Nonsense


class Line:
    """The HTTP of one connection. `busy` while an answer is awaited; `usable` while another request may follow."""

    def __init__(self, host: str, path: str) -> None:
        self._host = host
        self._path = path
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_FRAMING)
        self._status = 0
        self._body: list[bytes] = []
        self._size = 0
        self.busy = False
        self.usable = True
        self.heard = False
        """Whether anything of the awaited answer has come."""

    def request(self, body: bytes) -> bytes:
        """The octets of a POST. Only while `usable` and not `busy`."""
        headers = [
            ("Host", self._host),
            ("User-Agent", "locum"),
            ("Content-Type", CONTENT_TYPE),
            ("Content-Length", str(len(body))),
        ]
        self._status, self._body, self._size = 0, [], 0
        self.busy, self.heard = True, False
        parts = (
            h11.Request(method="POST", target=self._path, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        return b"".join(self._http.send(part) or b"" for part in parts)

    def received(self, data: bytes) -> Said | None:
        """Take what came in; the answer, once it is there whole or cannot be one. `b""`: the other side has ended."""
        if not self.busy:
            self.usable = False
            return None
        self.heard = self.heard or bool(data)
        try:
            self._http.receive_data(data)
            return self._read()
        except h11.RemoteProtocolError:
            if not data:
                return self._over(Nonsense(CUT, "an answer that was cut off") if self.heard else None)
            return self._over(Nonsense("no-http", "something that is no HTTP"))

    def _read(self) -> Said | None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Response):
                self._status = event.status_code
            elif isinstance(event, h11.Data):
                self._size += len(event.data)
                if self._size > LARGEST_ANSWER:
                    return self._over(Nonsense("too-large", "an answer of more than 1 MiB"))
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return self._whole()
            elif not isinstance(event, h11.InformationalResponse):
                return self._over(Nonsense("no-http", "something that is no answer to a POST"))

    def _whole(self) -> Said:
        said = _meaning(self._status, b"".join(self._body))
        self._body, self.busy = [], False
        states = (self._http.our_state, self._http.their_state)
        if states == (h11.DONE, h11.DONE) and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
        else:
            self.usable = False
        return said

    def _over(self, said: Nonsense | None) -> Nonsense | None:
        self._body, self.busy, self.usable = [], False, False
        return said


def _meaning(status: int, body: bytes) -> Said:
    if status == 200:
        answer = decode_answer(body)
        return Nonsense(f"answer-{answer.reason}", answer.words) if isinstance(answer, NotXmlRpc) else answer
    if status == 500 or 400 <= status < 500:
        return Status(status)
    if status in GATEWAY:
        return Nonsense("gateway", f"HTTP {status}: something stands before the server and does not reach it")
    if 300 <= status < 400:
        return Nonsense("redirect", f"HTTP {status}: it leads elsewhere; check the url")
    return Nonsense("status", f"HTTP {status}")
