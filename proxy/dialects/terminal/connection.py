"""A device's connection, and its requests that are not answered yet.

Every request gets exactly one reply, which repeats its sequence; what becomes known later goes nowhere. Replies to a
connection that has ended go nowhere either. Requests that wait for a server are given up `answer_timeout` after they
were relayed (`Deadlines`).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from protocols.terminal.frames import Decoder, Frame, encode_frame
from protocols.terminal.messages import Message, encode
from proxy.commands import Command, Send
from proxy.events import Channel, Connected, Moment

MOST_UNANSWERED = 256
"""How many requests of a connection may wait for their replies."""


class Presence:
    """When a device was heard last (monotonic seconds), and by which connection; None: it is not connected."""

    __slots__ = ("connection", "heard")

    def __init__(self, connection: Connection | None, heard: float) -> None:
        self.connection = connection
        self.heard = heard


class Connection:
    """One stream of a device. `device` is "" until it has said HELLO. `unanswered`: how many of its requests are.
    `client`, `port`: where it comes from.
    """

    __slots__ = (
        "certificate",
        "channel",
        "client",
        "closed",
        "decoder",
        "device",
        "opened",
        "port",
        "presence",
        "unanswered",
    )

    def __init__(self, event: Connected) -> None:
        self.channel: Channel = event.channel
        self.client, self.port = event.peer[:2]
        self.certificate = event.certificate
        self.opened = event.at.now
        self.decoder = Decoder()
        self.device = ""
        self.presence = Presence(self, event.at.now)
        self.unanswered = 0
        self.closed = False

    @property
    def crowded(self) -> bool:
        """Whether so many requests are unanswered that no more is to wait for anything."""
        return self.unanswered >= MOST_UNANSWERED

    def reply(self, message: Message, sequence: int) -> list[Command]:
        """Send this, if there is still somebody to send it to."""
        return [] if self.closed else [Send(self.channel, encode(message, sequence))]


class Relayed(Protocol):
    """What was handed to the server and waits for its reply."""

    def replied(self, reply: Frame, at: Moment) -> list[Command]:
        """The server's reply, in time or late."""

    def not_relayed(self, why: str, at: Moment) -> list[Command]:
        """The server will not reply."""

    def timed_out(self, at: Moment) -> list[Command]:
        """The server has not replied in time."""


class Asked:
    """A device's request on its way to its reply."""

    def __init__(self, connection: Connection, frame: Frame) -> None:
        self.connection = connection
        self.device = connection.device
        self.frame = frame
        self.open = True
        connection.unanswered += 1

    def answer(self, message: Message) -> list[Command]:
        """Reply to the device, once."""
        return self.connection.reply(message, self.frame.sequence) if self._settle() else []

    def pass_on(self, reply: Frame) -> list[Command]:
        """The server's own reply, unchanged."""
        if not self._settle() or self.connection.closed:
            return []
        return [Send(self.connection.channel, encode_frame(reply.type, self.frame.sequence, reply.payload))]

    def _settle(self) -> bool:
        if not self.open:
            return False
        self.open = False
        self.connection.unanswered -= 1
        return True

    # Requests that no server is asked about leave these as they are.

    def replied(self, reply: Frame, at: Moment) -> list[Command]:
        return []

    def not_relayed(self, why: str, at: Moment) -> list[Command]:
        return []

    def timed_out(self, at: Moment) -> list[Command]:
        return []


class Deadlines:
    """Until when the server may reply to what was relayed, oldest first."""

    def __init__(self) -> None:
        self._due: deque[tuple[float, Relayed]] = deque()

    def add(self, relayed: Relayed, when: float) -> None:
        """`when`: monotonic seconds; a time before that of the one added last is met with it."""
        self._due.append((when, relayed))

    def tick(self, at: Moment) -> list[Command]:
        """Tell those whose time is over."""
        commands: list[Command] = []
        while self._due and self._due[0][0] <= at.now:
            commands += self._due.popleft()[1].timed_out(at)
        return commands
