"""What flows are told, in the past tense.

Time and randomness are part of every event (`Moment`), so that a flow reads no clock and draws no number of its own:
the same events give the same commands, in a test as on the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from protocols.snmp.messages import Varbind
from proxy.commands import Command, Side
from storage.answers import Outcome

Peer = tuple[str, int, str]
Channel = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """When an event happened. `now`: monotonic seconds. `wall`: milliseconds UTC since 1970. `entropy`: 32 random
    bytes.
    """

    now: float
    wall: int
    entropy: bytes

    def random(self, size: int, label: str) -> bytes:
        """`size` (at most 64) random bytes of this moment's entropy; another label gives other bytes."""
        return hashlib.blake2b(self.entropy, digest_size=size, key=label.encode()[:64]).digest()

    def fraction(self, label: str) -> float:
        """A random number from 0.0 up to but without 1.0."""
        return int.from_bytes(self.random(6, label), "big") / (1 << 48)


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram, or the next piece of a stream, came in on `channel`. `peer`: source address, source port, and the
    address of ours that it came to.
    """

    channel: Channel
    peer: Peer
    data: bytes
    at: Moment


@dataclass(frozen=True, slots=True)
class Connected:
    """A stream is open both ways on `channel`, after the TLS handshake where there is one.

    A device's channel is its listener's channel and a number. `certificate`: SHA-256 of the peer's TLS certificate in
    hex, "" if it showed none.
    """

    channel: Channel
    peer: Peer
    at: Moment
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream on `channel` has ended, or could not be opened; `text` says why. Nothing of it comes afterwards.

    `refused`: the network or the other side refused it (refused, reset, unreachable), in contrast to a timeout or an
    orderly end.
    """

    channel: Channel
    text: str
    at: Moment
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether the code of a `Verify` with this token is the right one."""

    token: object
    right: bool
    at: Moment


@dataclass(frozen=True, slots=True)
class Refused:
    """The network said that nobody listens behind `channel` (ICMP unreachable, refused); `text` is its word."""

    channel: Channel
    text: str
    at: Moment


@dataclass(frozen=True, slots=True)
class Kept:
    """What a `Keep` with this token asked for is on stable storage."""

    token: object
    outcome: Outcome
    at: Moment


@dataclass(frozen=True, slots=True)
class NotKept:
    """What a `Keep` with this token asked for could not be stored; nothing that depends on it was run."""

    token: object
    error: str
    at: Moment


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed. Comes about every 50 ms."""

    at: Moment


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """An Ethernet frame that is watched (`WatchFrames`) came in on one side, its 802.1Q tag in place."""

    side: Side
    data: bytes
    at: Moment


@dataclass(frozen=True, slots=True)
class MetersRead:
    """What a device's SNMP agent has of what a `ReadMeters` with this token asked for, by object identifier.

    `troubles`: what the agent did wrong although it answered, in words.
    """

    device: str
    token: object
    found: Mapping[str, Varbind]
    troubles: tuple[str, ...]
    at: Moment


@dataclass(frozen=True, slots=True)
class MetersUnread:
    """A device's SNMP agent did not answer what a `ReadMeters` with this token asked for. kind: silent, nobody (the
    network says that no agent is there), denied (it does not let us read), unreadable (what it says is no SNMP); `why`
    in words.
    """

    device: str
    token: object
    kind: str
    why: str
    at: Moment


Event = (
    Received
    | Connected
    | Closed
    | Refused
    | Kept
    | NotKept
    | Verified
    | Ticked
    | FrameReceived
    | MetersRead
    | MetersUnread
)


class Flow(Protocol):
    """One conversation's logic: an event in, commands out; never waits, never touches a socket."""

    def handle(self, event: Event) -> list[Command]: ...
