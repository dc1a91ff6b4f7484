"""One connection to a terminal server: HELLO first, then requests, each reply given to the request that it answers.

`docs/terminal.md`, "Rules". Probes, lines and forwarded records each have connections of their own; what they do with
one is theirs (`StreamUser`). A request keeps its asker's sequence, unless that is still under way here: a device may
use it again after Locum has answered for the server, and the first answer must not be taken for the second. No request
is forgotten before its reply or the end of the connection, for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from protocols.terminal.frames import REPLY_BIT, Decoder, Frame, Type, encode_frame
from protocols.terminal.messages import Message, Welcome
from proxy.commands import Command, Connect, Send, Source, Tls
from proxy.events import Channel, Flow, Moment

if TYPE_CHECKING:
    from proxy.dialects.terminal.upstream_host import Host

MOST_UNDER_WAY = 1024
LAST_SEQUENCE = 0xFFFFFFFF
DRIVER_GRACE = 1.0
SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
LIVED_WELL = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the config says of a terminal server. Times in seconds. `appliance`: Locum's own name, said in HELLO."""

    port: int
    tls: Tls | None
    answer_timeout: float
    probe_interval: float
    appliance: str
    recover_after: int = 3


class Phase(Enum):
    NEW = "new"
    DIALLING = "dialling"
    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(slots=True)
class Asked:
    """A request under way. `sequence` is the asker's own; `about` is whatever the asker wants to find again."""

    type: int
    sequence: int
    about: object
    sent: float


class StreamUser(Protocol):
    """Whose connection it is."""

    def opened(self, stream: ServerStream, welcome: Welcome, at: Moment) -> list[Command]:
        """The server has answered HELLO: requests may go."""

    def replied(
        self, stream: ServerStream, asked: Asked, reply: Frame, message: Message | None, at: Moment
    ) -> list[Command]:
        """The reply to a request; an ERROR is one too. `message`: the same read, None if its type is not known."""

    def lost(self, stream: ServerStream, why: str, at: Moment) -> list[Command]:
        """It has ended or never came to be; nothing of it comes afterwards."""


class Pauses:
    """When a connection that was lost is opened again: after 0.5, 1, 2, .. 30 seconds with jitter."""

    def __init__(self) -> None:
        self.next = float("-inf")
        self._last = float("-inf")
        self._failures = 0

    def dialled(self, now: float) -> None:
        self._last = now

    def lost(self, stream: ServerStream, at: Moment, label: str) -> None:
        """One that had lived for half a minute begins anew with the shortest pause."""
        lived = stream.opened_at is not None and at.now - stream.opened_at >= LIVED_WELL
        pause = SHORTEST_PAUSE * 2 ** min(0 if lived else self._failures, 10)
        self._failures = 1 if lived else self._failures + 1
        self.next = at.now + min(pause, LONGEST_PAUSE) * (1 + at.fraction(f"pause {label}") / 2)

    def over(self, now: float, *, urgent: bool) -> bool:
        """Whether it may be opened now; while somebody waits for it the pause is the shortest."""
        return now >= (min(self.next, self._last + SHORTEST_PAUSE) if urgent else self.next)

    def forget(self, at: Moment, label: str) -> None:
        """The server is back: open it soon, but not all of them in one moment."""
        self._failures = 0
        self.next = at.now + SHORTEST_PAUSE * at.fraction(f"again {label}")


class ServerStream:
    """One connection. `since`: when its present phase began; `waiting_since`: since when an answer is owed and nothing
    was heard here; `pinged`: when a PING of ours was sent to find out, until anything is heard here.
    """

    __slots__ = (
        "_sequence",
        "channel",
        "decoder",
        "hello",
        "host",
        "opened_at",
        "phase",
        "pinged",
        "since",
        "under_way",
        "user",
        "waiting_since",
    )  # fmt: skip

    def __init__(self, channel: Channel, host: Host, user: StreamUser, hello: Frame) -> None:
        self.channel = channel
        self.host = host
        self.user = user
        self.hello = hello
        self.decoder = Decoder()
        self.phase = Phase.NEW
        self.since = 0.0
        self.opened_at: float | None = None
        self.waiting_since: float | None = None
        self.pinged: float | None = None
        self.under_way: dict[int, Asked] = {}
        self._sequence = 0

    @property
    def open(self) -> bool:
        return self.phase is Phase.OPEN

    @property
    def full(self) -> bool:
        """Whether so much is unanswered that the connection is of no more use."""
        return len(self.under_way) >= MOST_UNDER_WAY

    def dial(self, owner: Flow, settings: Settings, source: Source | None, now: float) -> list[Command]:
        """Open it. A server that is there answers: this is a request like any other."""
        self.phase, self.since = Phase.DIALLING, now
        self.host.contact.sent(now)
        address, timeout = self.host.address, settings.answer_timeout
        return [Connect(self.channel, owner, address, settings.port, timeout, settings.tls, source)]

    def connected(self, now: float) -> list[Command]:
        """It stands: say HELLO, and nothing else before the answer."""
        self.phase, self.since = Phase.GREETING, now
        return self.ask(self.hello, None, now)

    def welcomed(self, now: float) -> None:
        self.phase, self.since, self.opened_at = Phase.OPEN, now, now

    def ask(self, request: Frame, about: object, now: float) -> list[Command]:
        """Send a request, under its own sequence if that is free."""
        sequence = request.sequence
        if sequence in self.under_way or not sequence:
            sequence = self._free_sequence()
        self.under_way[sequence] = Asked(request.type, request.sequence, about, now)
        if self.waiting_since is None:
            self.waiting_since = now
        self.host.contact.sent(now)
        return [Send(self.channel, encode_frame(request.type, sequence, request.payload))]

    def ping(self, now: float) -> list[Command]:
        """Ask whether anybody is there; `waiting_since` says since when nobody was."""
        if self.pinged is None:
            self.pinged = now
        return self.ask(Frame(Type.PING, 0, b""), None, now)

    def answered(self, reply: Frame) -> Asked | None:
        """The request that this frame answers; None if it answers nothing."""
        asked = self.under_way.get(reply.sequence)
        if asked is None or reply.type not in (asked.type | REPLY_BIT, Type.ERROR):
            return None
        return asked

    def settle(self, reply: Frame, now: float) -> None:
        """It was a reply: its request is over, and the other side is there."""
        self.under_way.pop(reply.sequence, None)
        self.waiting_since = now if self.under_way else None
        self.pinged = None

    def dead(self, now: float, timeout: float) -> str:
        """Why nothing will come here any more, though the server may be there; "" as long as it is not known.

        It is known of an open connection once its PING is unanswered for `timeout` and the server was heard elsewhere
        meanwhile. While nothing at all is heard of the server, the connection may outlive that.
        """
        if self.phase is Phase.DIALLING and now >= self.since + timeout + DRIVER_GRACE:
            return f"no connection in {timeout:g} s"
        if self.phase is Phase.GREETING and now >= self.since + timeout:
            return f"no answer to HELLO in {timeout:g} s"
        pinged = self.pinged
        if self.open and pinged is not None and now >= pinged + timeout and self.host.contact.last_heard > pinged:
            return f"the connection is half open: no answer to a PING in {timeout:g} s"
        stuck = self.full and self.waiting_since is not None and now >= self.waiting_since + timeout
        return "too many requests are unanswered" if stuck else ""

    def doubt(self, now: float, timeout: float) -> list[Command]:
        """Find out whether anybody is still there: by a PING here, then by asking the server elsewhere too."""
        if not self.open or self.waiting_since is None:
            return []
        if self.pinged is None:
            return self.ping(now) if now >= self.waiting_since + timeout / 2 else []
        if now >= self.pinged + timeout / 2 and self.host.contact.last_heard <= self.pinged:
            self.host.probe_now = True
        return []

    def _free_sequence(self) -> int:
        while True:
            self._sequence = self._sequence + 1 if self._sequence < LAST_SEQUENCE else 1
            if self._sequence not in self.under_way:
                return self._sequence
