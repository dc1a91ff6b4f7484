"""All streams on the reactor: what devices open to us, and what we open to servers, by channel."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxy.commands import Connect, Source, Tell, Tls
from proxy.events import Channel, Event, Flow, Moment
from proxy.net.dialling import Dialling
from proxy.net.listening import Listener
from proxy.net.stream import Stream, watch_over
from proxy.net.transparent import ANOTHER_PORT

HANDSHAKE = 10.0
TOO_MANY = "too-many-connections"
NO_HANDSHAKE = "no-tls-handshake"
SAY_AGAIN = 60.0

log = Logger()


class _One(ClientFactory):
    """The factory of a single connection."""

    noisy = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def buildProtocol(self, addr: object) -> Stream:
        return self._stream

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._stream.not_connected(reason.value)


class Streams:
    """All streams, by channel. `lost` counts what did not go as it should, by reason; `tell` gets lines about it.
    `transparent`: devices speak to the server's address (`transparent.py`).
    """

    def __init__(
        self,
        reactor: Any,
        dispatch: Callable[[Flow, Event], None],
        clock: Callable[[], Moment],
        tell: Callable[[Tell], None],
        *,
        transparent: bool = False,
    ) -> None:
        self.reactor = reactor
        self.dispatch = dispatch
        self.clock = clock
        self.tell = tell
        self.lost: Counter[str] = Counter()
        self._listeners: dict[Channel, Listener] = {}
        self._streams: dict[Channel, Stream] = {}
        self._said: dict[str, float] = {}
        self._transparent = transparent

    def listen(
        self, channel: Channel, flow: Flow, address: str, port: int, tls: Tls | None, *, own_address: bool = False
    ) -> None:
        """Bind a port for devices; none of their connections is taken before `open`. Raises OSError."""
        if tls is not None:
            from proxy.net.tls import check

            check(tls)

        def accepted(number: int, connection: socket.socket) -> None:
            self._accepted(Stream(self, (*channel, number), flow, tls, listener), tls, connection)

        # What it answers must leave by this machine's own routes, not by the bridge's.
        transparent = self._transparent and not own_address
        listener = Listener(self.reactor, address, port, accepted, self._too_many, transparent=transparent)
        watch_over(listener.socket)  # what it accepts inherits this
        self._listeners[channel] = listener

    def open(self, channel: Channel) -> bool:
        """Take connections from now on; whether there is such a listener."""
        listener = self._listeners.get(channel)
        if listener is not None:
            listener.start()
        return listener is not None

    def stop_listening(self, channel: Channel) -> None:
        """Close a listener and every connection that it took."""
        listener = self._listeners.pop(channel, None)
        if listener is not None:
            listener.close()
            for stream in [each for each in self._streams.values() if each.channel[:-1] == channel]:
                self.close(stream.channel, abort=False)

    def connect(self, command: Connect) -> None:
        """Open a stream to a server. What goes wrong is told, never raised."""
        self.close(command.channel, abort=True)
        stream = Stream(self, command.channel, command.owner, command.tls)
        stream.peer = (command.address, command.port, "")
        stream.source = command.source
        self._streams[command.channel] = stream
        factory: Any = _One(stream)
        try:
            if command.tls is not None:
                from proxy.net.tls import over_tls

                factory = over_tls(self.reactor, command.tls, factory, stream, server=command.address)
            stream.connector = self._connector(command, factory)
        except OSError as error:
            stream.not_connected(error)
            return
        stream.wait_for(command.timeout)
        if (raw := getattr(stream.connector.transport, "socket", None)) is not None:
            watch_over(raw)

    def _connector(self, command: Connect, factory: Any) -> Any:
        if command.source is None:
            return self.reactor.connectTCP(command.address, command.port, factory, timeout=None)

        def elsewhere() -> None:
            self.lost[ANOTHER_PORT] += 1

        return Dialling(self.reactor, (command.address, command.port), command.source, factory, elsewhere)

    def sources(self) -> Iterator[Source | None]:
        """As whom each stream was opened."""
        return (stream.source for stream in self._streams.values())

    def send(self, channel: Channel, data: bytes) -> bool:
        """Send on a stream; whether there is one of this channel."""
        stream = self._streams.get(channel)
        if stream is None:
            return False
        stream.send(data)
        return True

    def close(self, channel: Channel, abort: bool) -> bool:
        """Close a stream; whether there was one of this channel."""
        stream = self._streams.pop(channel, None)
        if stream is not None:
            stream.close(abort)
        return stream is not None

    def close_all(self) -> None:
        """Close everything; what was sent leaves if the reactor still turns for a moment."""
        for channel in list(self._listeners):
            self.stop_listening(channel)
        for channel in list(self._streams):
            self.close(channel, abort=False)

    def forget(self, stream: Stream) -> None:
        """This one has ended."""
        if self._streams.get(stream.channel) is stream:
            del self._streams[stream.channel]

    def no_handshake(self, address: str, text: str, now: float) -> None:
        """A device's TLS came to nothing: counted, and each reason said once a minute."""
        self.lost[NO_HANDSHAKE] += 1
        if now - self._said.get(text, -SAY_AGAIN) >= SAY_AGAIN:
            self._said[text] = now
            log.warn("no TLS with {address}: {text}", address=address, text=text)

    def _too_many(self, address: str, text: str) -> None:
        """A connection was turned away: counted, and said once a minute."""
        self.lost[TOO_MANY] += 1
        now = self.clock().now
        if now - self._said.get(TOO_MANY, -SAY_AGAIN) >= SAY_AGAIN:
            self._said[TOO_MANY] = now
            self.tell(Tell("warning", text, {"client": address, "reason": TOO_MANY}))

    def _accepted(self, stream: Stream, tls: Tls | None, connection: socket.socket) -> None:
        self._streams[stream.channel] = stream
        factory: Any = _One(stream)
        try:
            if tls is not None:
                from proxy.net.tls import over_tls

                factory = over_tls(self.reactor, tls, factory, stream, server=None)
                stream.wait_for(HANDSHAKE)
            self.reactor.adoptStreamConnection(connection.fileno(), connection.family, factory)
        except OSError:
            # Gone again before it was looked at.
            stream.vanished()
