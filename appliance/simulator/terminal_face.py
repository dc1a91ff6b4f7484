"""The simulated server's terminal face: the copier terminal dialect, from the server's side. docs/terminal.md.

Every request gets its answer once what it did is on stable storage. The pair of device and job number names a job for
ever, for JOB and RECORD alike. A terminal that is silent for three heartbeats is disconnected. Logins other than by
card are refused, and there is nothing to unlock: a server is never offline to itself.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from appliance.simulator.server import ApplicationServer, now_text
from appliance.simulator.silence import Silence
from appliance.simulator.terminal_desk import Desk, later
from protocols.errors import Malformed
from protocols.terminal.frames import Broken, Decoder, Frame
from protocols.terminal.messages import (
    Error,
    ErrorCode,
    Hello,
    Job,
    Login,
    Logout,
    Message,
    Ping,
    Query,
    RecordMessage,
    TerminalState,
    UnknownType,
    Unlock,
    Welcome,
    clip,
    decode,
    encode,
)

HEARTBEAT = 30
SERVER_NAME = "Application Server (lab)"
_REQUESTS = (Login, Unlock, Job, Logout, Ping, Query, RecordMessage)


class TerminalFace:
    """One port; `tls` is Twisted's context factory, or None."""

    def __init__(self, bind: str, port: int, tls: Any = None) -> None:
        self.counts: Counter[str] = Counter()
        self.connected: dict[str, TerminalConnection] = {}
        self._bind = bind
        self._port = port
        self._tls = tls

    def listen(self, server: ApplicationServer, reactor: Any) -> str:
        """Open the port. Raises CannotListenError."""
        factory = TerminalFactory(self, server)
        if self._tls is None:
            port = reactor.listenTCP(self._port, factory, interface=self._bind, backlog=512)
        else:
            port = reactor.listenSSL(self._port, factory, self._tls, interface=self._bind, backlog=512)
        return f"terminals at {self._bind}, port {port.getHost().port}{' (TLS)' if self._tls else ''}"

    def terminals(self) -> Iterator[Sequence[object]]:
        """Device, address, model and since when, for each that is connected."""
        for device, connection in sorted(self.connected.items()):
            hello = connection.hello
            yield device, connection.address, hello.model if hello else "", connection.since

    def summary(self) -> str:
        """How often it did what."""
        told = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return f"terminals: {told or 'nothing'}"


class TerminalFactory(Factory):
    """Makes a connection for each terminal."""

    noisy = False

    def __init__(self, face: TerminalFace, server: ApplicationServer) -> None:
        self._face = face
        self._server = server

    def buildProtocol(self, addr: Any) -> TerminalConnection:
        return TerminalConnection(self._face, self._server, addr.host)


class TerminalConnection(Protocol):
    """One terminal, or one that hands on what others have kept."""

    transport: Any

    def __init__(self, face: TerminalFace, server: ApplicationServer, address: str) -> None:
        self.hello: Hello | None = None
        self.address = address
        self.since = now_text()
        self._face = face
        self._server = server
        self._desk = Desk(server.state, face.counts)
        self._decoder = Decoder()
        self._closed = False
        self._silence: Silence | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._silence = Silence(self._server.reactor, 3 * HEARTBEAT, self.transport.loseConnection)

    def dataReceived(self, data: bytes) -> None:
        if self._silence is not None:
            self._silence.heard()
        self._decoder.receive_data(data)
        while not self._closed and (event := self._decoder.next_event()) is not None:
            if isinstance(event, Broken):
                self._end(event.sequence, event.code, event.text)
            else:
                self._take(event)

    def connectionLost(self, reason: Any = None) -> None:
        self._closed = True
        if self._silence is not None:
            self._silence.stop()
        if self.hello is not None and self._face.connected.get(self.hello.device_id) is self:
            del self._face.connected[self.hello.device_id]

    # --- frames ---------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        switches = self._server.switches
        if switches.answer == "never" and switches.only in ("", "terminal"):
            return
        try:
            message = decode(frame)
        except UnknownType as error:
            if self.hello is None:
                self._end(frame.sequence, ErrorCode.HELLO, "HELLO comes first")
            else:
                self._send(Error(ErrorCode.UNKNOWN_TYPE, clip(str(error))), frame.sequence)
            return
        except Malformed as error:
            first = self.hello is None and frame.type != 1
            code = ErrorCode.HELLO if first else ErrorCode.MALFORMED
            self._end(frame.sequence, code, "HELLO comes first" if first else str(error))
            return
        if isinstance(message, Hello):
            self._greet(message, frame.sequence)
        elif self.hello is None:
            self._end(frame.sequence, ErrorCode.HELLO, "HELLO comes first")
        elif not isinstance(message, _REQUESTS):
            self._send(Error(ErrorCode.UNKNOWN_TYPE, "this is no request"), frame.sequence)
        else:
            answer = self._desk.answer(message, self.hello)
            self._server.settle(lambda kept: self._settled(kept, answer, frame.sequence))

    def _settled(self, kept: bool, answer: Message, sequence: int) -> None:
        if not kept:
            answer = later(answer)
        late = self._server.switches.answer_late
        if late:
            self._server.reactor.callLater(late, self._send, answer, sequence)
        else:
            self._send(answer, sequence)

    def _send(self, message: Message, sequence: int) -> None:
        if not self._closed:
            self.transport.write(encode(message, sequence))

    def _end(self, sequence: int, code: ErrorCode, text: str) -> None:
        """Say what is wrong and close; the rest is not read."""
        self._face.counts["errors"] += 1
        self._send(Error(code, clip(text)), sequence)
        self.close()

    def close(self) -> None:
        """Read no more; what was written still goes out."""
        self._closed = True
        self.transport.loseConnection()

    # --- requests -------------------------------------------------------------------------------------------------

    def _greet(self, hello: Hello, sequence: int) -> None:
        older = self._face.connected.get(hello.device_id)
        if older is not None and older is not self:
            self._server.complain(
                f"second {hello.device_id}", f"{hello.device_id} connected anew; its older connection is closed"
            )
            older.close()
        if self.hello is not None and self._face.connected.get(self.hello.device_id) is self:
            del self._face.connected[self.hello.device_id]
        self.hello = hello
        self._face.connected[hello.device_id] = self
        self._face.counts["hellos"] += 1
        now = time.time_ns() // 1_000_000
        self._send(Welcome(SERVER_NAME, HEARTBEAT, now, TerminalState.ONLINE), sequence)
