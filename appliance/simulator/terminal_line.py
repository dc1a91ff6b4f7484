"""The line of a copier that speaks the terminal dialect: connects, greets, and connects again when it breaks.

What is asked and answered belongs to `terminal.py`; this knows frames, pauses and TLS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.protocol import ClientFactory
from twisted.internet.protocol import Protocol as Connection

from protocols.errors import Malformed
from protocols.terminal.frames import Broken, Decoder
from protocols.terminal.messages import Hello, Message, Welcome, decode, encode

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class TerminalTarget:
    """What the copier takes for the server; with `ca` (PEM) it speaks TLS and checks the name `host`."""

    host: str
    port: int
    ca: bytes = field(default=b"", repr=False)


class Asker(Protocol):
    """Who is told what comes over a line."""

    def welcomed(self, line: Line, welcome: Welcome) -> None:
        """A connection is ready."""

    def answered(self, sequence: int, reply: Message) -> None:
        """A reply came."""

    def lost(self, line: Line) -> None:
        """The connection is gone."""


class Line(Connection):
    """One connection: HELLO, then whatever the copier asks."""

    transport: Any

    def __init__(self, copier: Asker, hello: Hello, lines: Lines) -> None:
        self._copier = copier
        self._hello = hello
        self._lines = lines
        self._decoder = Decoder()
        self._welcomed = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.send(self._hello, 0xFFFFFFFF)

    def dataReceived(self, data: bytes) -> None:
        self._decoder.receive_data(data)
        while (event := self._decoder.next_event()) is not None:
            try:
                reply = None if isinstance(event, Broken) else decode(event)
            except Malformed:
                reply = None
            if reply is None or isinstance(event, Broken):
                self.transport.abortConnection()
                return
            if not self._welcomed and isinstance(reply, Welcome):
                self._welcomed = True
                self._lines.good()
                self._copier.welcomed(self, reply)
            else:
                self._copier.answered(event.sequence, reply)

    def connectionLost(self, reason: Any = None) -> None:
        self._copier.lost(self)

    def send(self, message: Message, sequence: int) -> None:
        """Send one frame."""
        self.transport.write(encode(message, sequence))


class Lines(ClientFactory):
    """Connects again and again."""

    noisy = False

    def __init__(self, reactor: Any, copier: Asker, hello: Hello, target: TerminalTarget) -> None:
        self._reactor = reactor
        self._copier = copier
        self._hello = hello
        self._target = target
        self._pause = FIRST_PAUSE
        self._timer: Any = None
        self._connector: Any = None
        self._stopped = False

    def connect(self) -> None:
        """Connect now."""
        target = self._target
        if target.ca:
            self._connector = self._reactor.connectSSL(target.host, target.port, self, _client_tls(target), timeout=10)
        else:
            self._connector = self._reactor.connectTCP(target.host, target.port, self, timeout=10)

    def stop(self) -> None:
        """Connect no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._connector is not None:
            self._connector.stopConnecting() if self._connector.state == "connecting" else self._connector.disconnect()

    def good(self) -> None:
        """The connection is worth something: the next pause is short again."""
        self._pause = FIRST_PAUSE

    def buildProtocol(self, addr: Any) -> Line:
        return Line(self._copier, self._hello, self)

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self._again()

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self._again()

    def _again(self) -> None:
        if not self._stopped:
            self._timer = self._reactor.callLater(self._pause, self.connect)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)


def _client_tls(target: TerminalTarget) -> Any:
    from twisted.internet.ssl import Certificate, optionsForClientTLS

    return optionsForClientTLS(target.host, trustRoot=Certificate.loadPEM(target.ca))
