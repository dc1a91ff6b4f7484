"""One stream on the reactor, from a device or to a server, with or without TLS.

A connection that is half open is noticed by keepalive (RFC 9293 section 3.8.4) and, while something is unsent, by
TCP_USER_TIMEOUT (RFC 5482). Who does not read what it is sent is not read from, and in the end cut off. What is sent in
one turn of the reactor leaves together. Resuming TLS sessions and half-closed streams are left out: who closes its side
has ended the stream.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from proxy.commands import Source, Tls
from proxy.events import Channel, Closed, Connected, Event, Flow, Moment, Peer, Received
from proxy.net.why import why_lost, why_not_connected

if TYPE_CHECKING:
    from proxy.net.listening import Listener
    from proxy.net.streams import Streams

MOST_UNSENT = 1 << 20
"""Bytes that may wait for a peer to read; what is sent to it beyond ends the connection."""
FLUSH = 5.0
IDLE, INTERVAL, PROBES = 30, 10, 3
SILENCE = IDLE + INTERVAL * PROBES
"""Seconds after which the kernel gives up a peer that does not answer."""

NOT_READ = "not-read"


def watch_over(connection: socket.socket) -> None:
    """Send small pieces at once, and notice a peer that is gone without a word."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", IDLE),
        ("TCP_KEEPINTVL", INTERVAL),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", SILENCE * 1000),
    ):
        with suppress(AttributeError, OSError):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def unsent(connection: Any) -> int:
    """Bytes that wait in one of Twisted's TCP connections; no public attribute says it."""
    return int(len(connection.dataBuffer) - connection.offset + connection._tempDataLen)


@implementer(IHandshakeListener, IPushProducer)
class Stream(Protocol):
    """One connection. It tells `Connected`, `Received` and `Closed`, the last two after the first only; `Closed` alone
    means that it never came to be.
    """

    def __init__(
        self, streams: Streams, channel: Channel, flow: Flow, tls: Tls | None, listener: Listener | None = None
    ) -> None:
        self.channel = channel
        self.peer: Peer = ("", 0, "")
        self.source: Source | None = None
        """As whom it was opened, in line."""
        self.connector: Any = None
        self.untrusted = ""
        """Why the other side's certificate does not do."""
        self.beneath: BaseException | None = None
        """How the connection under TLS ended: an orderly end there is one, with TLS's own farewell or without."""
        self._streams = streams
        self._listener = listener
        self._flow = flow
        self._tls = tls
        self._open = False
        self._leaving = False
        self._paused = False
        self._why = ""
        self._heard = 0.0
        self._timer: Any = None

    def wait_for(self, seconds: float) -> None:
        """Give up what is not connected in this time, TLS handshake included."""
        self._timer = self._streams.reactor.callLater(seconds, self._too_late, seconds)

    def connectionMade(self) -> None:
        transport: Any = self.transport
        peer, host = transport.getPeer(), transport.getHost()
        self.peer = (peer.host, peer.port, host.host)
        if self._leaving:
            transport.abortConnection()
        elif self._tls is None:
            self._opened("")

    def handshakeCompleted(self) -> None:
        from proxy.net.tls import fingerprint

        self._opened(fingerprint(self.transport))

    def dataReceived(self, data: bytes) -> None:
        if self._open:
            moment = self._streams.clock()
            self._heard = moment.now
            self._tell(Received(self.channel, self.peer, data, moment))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel()
        moment = self._streams.clock()
        silent = self._open and moment.now - self._heard >= SILENCE
        error = self.beneath if isinstance(reason.value, ConnectionLost) and self.beneath else reason.value
        text, refused = why_lost(error, self._tls is not None and not self._open, silent)
        if self.untrusted:
            text, refused = self.untrusted, False
        elif self._why:
            text, refused = self._why, False
        self._ended(text, refused, moment)

    def not_connected(self, error: BaseException | None) -> None:
        """The connection could not be made."""
        self._cancel()
        text, refused = why_not_connected(error)
        self._ended(self._why or text, refused and not self._why, self._streams.clock())

    def vanished(self) -> None:
        """The connection was gone before anything could be made of it; nobody is told."""
        self._cancel()
        self._leaving = True
        self._ended("", False, self._streams.clock())

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        if not self._open or transport is None:
            return
        if self._unsent() > MOST_UNSENT:
            self._streams.lost[NOT_READ] += 1
            self._why = "the other side does not read what it is sent"
            self._open = False
            transport.abortConnection()
            return
        transport.write(data)

    def close(self, abort: bool) -> None:
        """End it, and tell nobody. Without `abort` what was given to `send` leaves first, if it can in some seconds."""
        was_open, self._open, self._leaving = self._open, False, True
        self._cancel()
        transport: Any = self.transport
        if transport is None or not transport.connected:
            if self.connector is not None:
                self.connector.disconnect()
        elif abort or not was_open:
            transport.abortConnection()
        else:
            transport.unregisterProducer()
            self.resumeProducing()
            if self._tls is not None:
                transport.loseConnection()
            else:
                # With something unread, closing would reset the connection, and our last word might be lost with it.
                transport.loseWriteConnection()
            self._timer = self._streams.reactor.callLater(FLUSH, transport.abortConnection)

    def pauseProducing(self) -> None:
        self._paused = True
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        transport: Any = self.transport
        if self._paused and transport.connected:
            self._paused = False
            transport.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""

    def _opened(self, certificate: str) -> None:
        if self._leaving or self._why:
            return
        self._cancel()
        self._open = True
        transport: Any = self.transport
        transport.registerProducer(self, True)
        moment = self._streams.clock()
        self._heard = moment.now
        self._tell(Connected(self.channel, self.peer, moment, certificate))

    def _too_late(self, seconds: float) -> None:
        self._timer = None
        transport: Any = self.transport
        if transport is None:
            self._why = f"no answer in {seconds:g} s"
            self.connector.disconnect()
        else:
            self._why = f"the TLS handshake did not end within {seconds:g} s"
            transport.abortConnection()

    def _ended(self, text: str, refused: bool, moment: Moment) -> None:
        told = not self._leaving
        self._open, self._leaving = False, True
        self._streams.forget(self)
        if self._listener is not None:
            self._listener.left(self.channel[-1])
        if told and self._listener is not None and not self._heard:
            # Its flow has not heard of it.
            self._streams.no_handshake(self.peer[0], text, moment.now)
        elif told:
            self._tell(Closed(self.channel, text, moment, refused))

    def _tell(self, event: Event) -> None:
        self._streams.dispatch(self._flow, event)

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _unsent(self) -> int:
        raw: Any = self.transport
        return unsent(raw if self._tls is None else raw.transport)
