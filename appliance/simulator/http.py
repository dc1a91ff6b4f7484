"""HTTP/1.1 for the simulated server: h11 on a Twisted stream. RFC 9110, RFC 9112.

Connections are kept, requests may be pipelined and are answered in order, one at a time. A request that is too long is
refused before it is read to its end. Left out: upgrades, ranges, caching, compression of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import h11
from twisted.internet.protocol import Factory, Protocol

from appliance.simulator.silence import Silence

LARGEST_REQUEST = 2 << 20
IDLE = 60.0

Headers = Sequence[tuple[str, str]]


@dataclass(slots=True)
class Exchange:
    """A request and the way to answer it, once. Header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: str
    _connection: HttpConnection = field(repr=False)

    def answer(self, body: bytes, kind: str = "text/xml; charset=utf-8", code: int = 200, more: Headers = ()) -> None:
        """The whole answer; nothing happens if the other end has gone."""
        self._connection.answer(self, body, kind, code, more)

    def hang_up(self) -> None:
        """No answer: the connection is closed."""
        self._connection.hang_up()


class HttpFactory(Factory):
    """`handle` gets each exchange."""

    noisy = False

    def __init__(self, reactor: Any, handle: Callable[[Exchange], None]) -> None:
        self._reactor = reactor
        self._handle = handle

    def buildProtocol(self, addr: Any) -> HttpConnection:
        return HttpConnection(self._reactor, self._handle, addr.host)


class HttpConnection(Protocol):
    """One connection of one client."""

    transport: Any

    def __init__(self, reactor: Any, handle: Callable[[Exchange], None], peer: str) -> None:
        self._handle = handle
        self._reactor = reactor
        self._peer = peer
        self._http = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body: list[bytes] = []
        self._length = 0
        self._ahead = 0
        self._open: Exchange | None = None
        self._closed = False
        self._silence: Silence | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._silence = Silence(self._reactor, IDLE, self._fell_silent)

    def connectionLost(self, reason: Any = None) -> None:
        self._closed = True
        if self._silence is not None:
            self._silence.stop()

    def dataReceived(self, data: bytes) -> None:
        if self._closed:
            return
        if self._silence is not None:
            self._silence.heard()
        if self._open is not None:
            self._ahead += len(data)
            if self._ahead > LARGEST_REQUEST:
                self.hang_up()
                return
        self._http.receive_data(data)
        self._read()

    def answer(self, exchange: Exchange, body: bytes, kind: str, code: int, more: Headers) -> None:
        """Answer the open exchange, and go on with the next request."""
        if self._closed or self._open is not exchange:
            return
        self._open = None
        self._ahead = 0
        self._write(body if exchange.method != "HEAD" else b"", len(body), kind, code, more)
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._read()
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """Close; what was written still goes out."""
        self._closed = True
        self.transport.loseConnection()

    def _read(self) -> None:
        while self._open is None and not self._closed:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._length += len(event.data)
                self._body.append(bytes(event.data))
                if self._length > LARGEST_REQUEST:
                    self._refuse(413)
            elif isinstance(event, h11.EndOfMessage):
                self._dispatch()
            elif isinstance(event, h11.ConnectionClosed):
                self.hang_up()
            else:
                return

    def _begin(self, head: h11.Request) -> None:
        self._head, self._body, self._length = head, [], 0
        told = next((value for name, value in head.headers if name == b"content-length"), b"0")
        if int(told) > LARGEST_REQUEST:
            self._refuse(413)
        elif self._http.they_are_waiting_for_100_continue:
            self.transport.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))

    def _dispatch(self) -> None:
        head = self._head
        if head is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        path = head.target.decode("latin-1").partition("?")[0]
        self._open = Exchange(head.method.decode("latin-1"), path, headers, b"".join(self._body), self._peer, self)
        self._body = []
        self._handle(self._open)

    def _refuse(self, code: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._write(b"", 0, "text/plain", code, [("connection", "close")])
        self.hang_up()

    def _write(self, body: bytes, length: int, kind: str, code: int, more: Headers) -> None:
        headers = [("content-type", kind), ("content-length", str(length)), *more]
        pieces: list[bytes | None] = [self._http.send(h11.Response(status_code=code, headers=headers))]
        if body:
            pieces.append(self._http.send(h11.Data(data=body)))
        pieces.append(self._http.send(h11.EndOfMessage()))
        self.transport.write(b"".join(piece for piece in pieces if piece))

    def _fell_silent(self) -> None:
        # Whoever waits for an answer has a reason to be silent.
        if self._open is None:
            self.hang_up()
