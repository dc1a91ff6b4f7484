"""The one place where commands become deeds: datagrams, streams, commits, log lines. Flows think, this acts.

Commit before send is kept here: a `Keep`'s `then` is run, and its owner told `Kept`, when the writer says that the
commit has succeeded, never earlier. Events that arise while commands are run (a refusal while sending) wait until those
are done.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from proxy.commands import (
    Close,
    Command,
    Connect,
    Keep,
    Open,
    ReadMeters,
    Send,
    SendFrame,
    Side,
    TeachRules,
    Tell,
    Tls,
    Verify,
    WatchFrames,
)
from proxy.events import (
    Channel,
    Event,
    Flow,
    FrameReceived,
    Kept,
    Moment,
    NotKept,
    Received,
    Refused,
    Ticked,
    Verified,
)
from proxy.net.codes import Verifier
from proxy.net.crashpoints import (
    AFTER_KEPT,
    AFTER_SEND,
    AFTER_THEN,
    BEFORE_KEPT,
    BEFORE_SEND,
    BEFORE_THEN,
    armed,
    reached,
)
from proxy.net.listening import allow_many_files
from proxy.net.packets import FramePort
from proxy.net.streams import Streams
from proxy.net.transparent import ANOTHER_PORT, MARK
from proxy.net.udp import LARGEST, DevicePort, ServerPort
from proxy.net.writer import Result, Store, Writer
from storage.answers import Outcome
from storage.errors import StorageError
from storage.records import NOBODY, AppLogLine, Keepable

log = Logger()

TICK = 0.05
TOLD_AT_ONCE = 64
"""Flows; a few hundred microseconds of work where nothing is to be done."""
ENTROPY = 32
LEAVES_WITHIN = 0.02
"""Seconds after which what was sent on a stream has left: only tests that kill the process wait for it."""

Observe = Callable[[Keepable, Outcome, float | None], None]


class _Pool:
    """Random bytes from the kernel, drawn many at a time; none is given out twice."""

    def __init__(self) -> None:
        self._bytes = b""
        self._place = 0

    def draw(self) -> bytes:
        if self._place >= len(self._bytes):
            self._bytes, self._place = os.urandom(ENTROPY * 128), 0
        self._place += ENTROPY
        return self._bytes[self._place - ENTROPY : self._place]


_pool = _Pool()


def this_moment() -> Moment:
    """Now, by this machine's clocks, with random bytes of its own."""
    return Moment(time.monotonic(), time.time_ns() // 1_000_000, _pool.draw())


class Driver:
    """Runs flows on Twisted's reactor. `tell` gets every line for the admin, `alarm` those that leave the box; neither
    is given what is personal.

    `observe` is told of every change that is on stable storage: what became of it, and the seconds that took, None if
    nobody waited for it. `transparent`: it stands in line, so that devices speak to the server's address
    (`transparent.py`).
    """

    def __init__(
        self,
        reactor: Any,
        store: Store,
        tell: Callable[[Tell], None],
        alarm: Callable[[Tell], None] | None = None,
        observe: Observe | None = None,
        *,
        transparent: bool = False,
    ) -> None:
        self.writer = Writer(reactor, store, self._written)
        self.flows: list[Flow] = []
        self.bugs = 0
        self.unkept = 0
        self.read_meters: Callable[[ReadMeters], None] = lambda command: None
        self._reactor = reactor
        self._tell = tell
        self._alarm = alarm
        self._observe = observe
        self._streams = Streams(reactor, self.dispatch, this_moment, self._told, transparent=transparent)
        self._verifier = Verifier(reactor, self._verified)
        self._device_ports: dict[Channel, DevicePort] = {}
        self._server_ports: dict[Channel, ServerPort] = {}
        self._frame_ports: dict[Side, FramePort] = {}
        self._lessons: FramePort | None = None
        self._events: deque[tuple[Flow, Event]] = deque()
        self._running = False
        self._round: list[Flow] = []
        self._untold: deque[Flow] = deque()
        self._transparent = transparent
        allow_many_files()  # a socket for each device: a reader's connections, its copier's agent, who is relayed
        self._lost: Counter[str] = Counter()

    def listen(
        self,
        channel: Channel,
        flow: Flow,
        address: str,
        port: int,
        largest: int = LARGEST,
        *,
        own_address: bool = False,
    ) -> None:
        """Open a port for devices; it is read from `start` on, `largest` octets of a datagram. `own_address`: nothing
        is diverted to it, also in line. Raises OSError if it cannot be bound.
        """
        transparent = self._transparent and not own_address

        def received(data: bytes, peer: tuple[str, int, str]) -> None:
            self.dispatch(flow, Received(channel, peer, data, this_moment()))

        self._device_ports[channel] = DevicePort(
            self._reactor, address, port, received, transparent=transparent, largest=largest
        )

    def listen_stream(
        self,
        channel: Channel,
        flow: Flow,
        address: str,
        port: int,
        tls: Tls | None = None,
        *,
        own_address: bool = False,
    ) -> None:
        """Open a port for devices' streams; connections are taken from `open_for_devices` on. `own_address`: nothing
        is diverted to it, also in line. Raises OSError if it cannot be bound, or (EINVAL, with words) if the
        certificates cannot be used.
        """
        self._streams.listen(channel, flow, address, port, tls, own_address=own_address)

    def open_packets(self, side: Side, interface: str, flow: Flow) -> None:
        """Read frames on an interface, those that `flow` then wants (`WatchFrames`). Raises OSError, with words."""

        def received(data: bytes) -> None:
            self.dispatch(flow, FrameReceived(side, data, this_moment()))

        self._frame_ports[side] = FramePort(self._reactor, interface, received)

    def open_lessons(self) -> None:
        """Teach the kernel's rules (`TeachRules`). Raises OSError, with words."""
        self._lessons = FramePort(self._reactor, "lo", lambda data: None, MARK)

    def open_for_devices(self, channel: Channel) -> None:
        """Begin to read a port that `listen` or `listen_stream` has bound."""
        if not self._streams.open(channel):
            self._device_ports[channel].start()

    def stop_listening(self, channel: Channel) -> None:
        """Close a port, and the connections that it took; no flow is told `Closed`."""
        self._streams.stop_listening(channel)
        port = self._device_ports.pop(channel, None)
        if port is not None:
            port.close()

    def dispatch(self, flow: Flow, event: Event) -> None:
        """Give a flow an event and run what it asks for."""
        if self._running:
            self._events.append((flow, event))
            return
        self._running = True
        try:
            self._handle(flow, event)
            while self._events:
                self._handle(*self._events.popleft())
        finally:
            self._running = False

    def tick(self) -> None:
        """Tell every flow that time has passed. Of many, `TOLD_AT_ONCE` are told at once, and the others when what came
        in meanwhile has been read: no login waits for all of them.
        """
        if not self._untold:
            self._round = list(self.flows)
            self._untold.extend(self._round)
            self._tell_time()

    def _tell_time(self) -> None:
        moment = this_moment()
        told = 0
        while self._untold and told < TOLD_AT_ONCE:
            self.dispatch(self._untold.popleft(), Ticked(moment))
            told += 1
        if self._untold:
            self._reactor.callLater(0, self._tell_others)

    def _tell_others(self) -> None:
        if self.flows != self._round:  # the config was taken over in between
            there = set(map(id, self.flows))
            self._untold = deque(flow for flow in self._untold if id(flow) in there)
            self._round = list(self.flows)
        self._tell_time()

    def run(self, commands: Sequence[Command]) -> None:
        """Run commands in order."""
        for command in commands:
            kind = type(command)
            if kind is Send:
                self._send(command)  # type: ignore[arg-type]
            elif kind is Keep:
                self.writer.keep(command)  # type: ignore[arg-type]
            elif isinstance(command, Open):
                self._open(command)
            elif isinstance(command, Connect):
                self._streams.connect(command)
            elif isinstance(command, Close):
                self._close(command)
            elif isinstance(command, Verify):
                self._verifier.verify(command)
            elif isinstance(command, Tell):
                self._told(command)
            elif isinstance(command, SendFrame | WatchFrames):
                self._frame(command)
            elif isinstance(command, TeachRules) and self._lessons is not None:
                self._lessons.send(command.data)
            elif isinstance(command, ReadMeters):
                self.read_meters(command)

    def close(self) -> None:
        """Close every port and stream; nothing is read any more."""
        self._untold.clear()
        self._streams.close_all()
        self._verifier.stop()
        for port in self._ports():
            port.close()
        self._device_ports.clear()
        self._server_ports.clear()
        self._frame_ports.clear()

    def spoken_as(self) -> set[str]:
        """The addresses of devices that sockets of ours towards servers have now."""
        ports = (port.source for port in self._server_ports.values())
        return {source.address for source in (*ports, *self._streams.sources()) if source is not None}

    def losses(self) -> dict[str, int]:
        """What did not get where it should: datagrams not sent, streams not served, changes not stored, events that
        met a bug.
        """
        counted = self._lost + self._streams.lost
        counted["not-sent"] += sum(port.dropped for port in self._ports())
        counted["not-stored"], counted["met-a-bug"] = self.unkept, self.bugs
        return {reason: number for reason, number in counted.items() if number}

    def _ports(self) -> list[DevicePort | ServerPort | FramePort]:
        lessons = [] if self._lessons is None else [self._lessons]
        return [*self._device_ports.values(), *self._server_ports.values(), *self._frame_ports.values(), *lessons]

    def _handle(self, flow: Flow, event: Event) -> None:
        # The last line of defence: a bug met by one datagram must not stop the service for all others.
        try:
            self.run(flow.handle(event))
        except Exception:
            self.bugs += 1
            log.failure("a bug was met while handling {kind}; please report it", kind=type(event).__name__)

    def _send(self, send: Send) -> None:
        reached(BEFORE_SEND)
        if self._streams.send(send.channel, send.data):
            if armed():
                self._reactor.callLater(LEAVES_WITHIN, reached, AFTER_SEND)
            return
        if send.peer is not None:
            device_port = self._device_ports.get(send.channel)
            if device_port is not None:
                device_port.send(send.data, send.peer)
        else:
            server_port = self._server_ports.get(send.channel)
            if server_port is not None:
                server_port.send(send.data)
        reached(AFTER_SEND)

    def _frame(self, command: SendFrame | WatchFrames) -> None:
        port = self._frame_ports.get(command.side)
        if port is None:
            return
        if isinstance(command, SendFrame):
            port.send(command.data)
        else:
            port.watch(command)

    def _close(self, command: Close) -> None:
        if self._streams.close(command.channel, command.abort):
            return
        port = self._server_ports.pop(command.channel, None)
        if port is not None:
            self._lost["not-sent"] += port.dropped
            port.close()

    def _open(self, command: Open) -> None:
        flow, channel = command.owner, command.channel
        nobody = ("", 0, "")

        def received(data: bytes) -> None:
            self.dispatch(flow, Received(channel, nobody, data, this_moment()))

        def refused(text: str) -> None:
            self.dispatch(flow, Refused(channel, text, this_moment()))

        try:
            port = ServerPort(
                self._reactor, command.address, command.port, received, refused, command.source, command.largest
            )
        except OSError as error:
            # What is sent on it goes nowhere, as if the network had lost it.
            self._lost["not-sent"] += 1
            log.warn("no socket towards {address}: {error}", address=command.address, error=error.strerror)
            return
        self._lost[ANOTHER_PORT] += port.elsewhere
        self._server_ports[channel] = port

    def _verified(self, verify: Verify, right: bool) -> None:
        self.dispatch(verify.owner, Verified(verify.token, right, this_moment()))

    def _told(self, tell: Tell) -> None:
        if tell.keep:
            line = AppLogLine(time.time_ns() // 1_000_000, tell.level, tell.text, tell.context, tell.personal)
            self.writer.keep(Keep(line, wait=False))
        if tell.personal is not NOBODY:
            tell = replace(tell, personal=NOBODY)
        self._tell(tell)
        if tell.alarm and self._alarm is not None:
            self._alarm(tell)

    def _written(self, batch: Sequence[Keep], results: Sequence[Result], seconds: Sequence[float]) -> None:
        moment = this_moment()
        for keep, result, took in zip(batch, results, seconds, strict=True):
            if isinstance(result, StorageError):
                self.unkept += 1
                if keep.token is not None and keep.owner is not None:
                    self.dispatch(keep.owner, NotKept(keep.token, str(result), moment))
                continue
            if keep.then:
                reached(BEFORE_THEN)
                self.run(keep.then)
                reached(AFTER_THEN)
            if keep.token is not None and keep.owner is not None:
                reached(BEFORE_KEPT)
                self.dispatch(keep.owner, Kept(keep.token, result, moment))
                reached(AFTER_KEPT)
            if self._observe is not None:
                self._observe(keep.change, result, took if keep.wait else None)
