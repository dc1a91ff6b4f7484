"""TCP streams put together from segments, in whatever order and how often they were captured. RFC 9293 section 3.4.

A segment goes in, events come out: `Data` in the order in which the receiver saw it, `Lost` where octets are not in the
capture, `Ended`. The first content of an octet counts; a repeat is ignored. A connection whose beginning is not in the
capture is read from its first segment on. What waits behind a gap is bounded, for one direction and for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.capture.frames import FIN, RST, SYN, Segment

MOST_CONNECTIONS = 8_192
MOST_HELD = 256 << 10
MOST_PIECES = 512
MOST_HELD_IN_ALL = 64 << 20

Peer = tuple[str, int]
"""Address and port."""

_MODULUS = 1 << 32
_HALF = 1 << 31


@dataclass(slots=True, eq=False)
class Direction:
    """One half of a connection: the next octet wanted, and what came ahead of it."""

    next: int | None = None
    ahead: dict[int, bytes] = field(default_factory=dict)
    held: int = 0
    ended: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    """`client` opened it. `whole`: its beginning is in the capture; else who opened it is a guess: the higher port.
    Set `ignored` to hear no more of it.
    """

    client: Peer
    server: Peer
    whole: bool
    ignored: bool = False
    halves: tuple[Direction, Direction] = field(default_factory=lambda: (Direction(), Direction()))


@dataclass(frozen=True, slots=True)
class Data:
    """The next octets of one direction."""

    connection: Connection
    from_client: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """So many octets of one direction are not in the capture."""

    connection: Connection
    from_client: bool
    octets: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more will come of it."""

    connection: Connection


StreamEvent = Data | Lost | Ended


class Streams:
    """All connections of a capture."""

    def __init__(self) -> None:
        self._open: dict[tuple[Peer, Peer], Connection] = {}
        self._held = 0

    def add(self, source: str, target: str, segment: Segment) -> list[StreamEvent]:
        """What a segment brings."""
        here, there = (source, segment.source_port), (target, segment.target_port)
        key = (here, there) if here <= there else (there, here)
        connection = self._open.get(key)
        events: list[StreamEvent] = []
        if segment.flags & SYN and connection is not None and self._begins_anew(connection, here, segment):
            events += self._end(key, connection)
            connection = None
        if connection is None:
            if segment.flags & RST or not (segment.flags & SYN or segment.data):
                return events
            events += self._make_room()
            connection = self._open[key] = _begun(here, there, segment)
        from_client = here == connection.client
        half = connection.halves[not from_client]
        if segment.flags & SYN:
            half.next = (segment.sequence + 1) % _MODULUS
        elif segment.data and not connection.ignored:
            events += self._data(connection, from_client, half, segment)
        half.ended = half.ended or bool(segment.flags & FIN)
        if segment.flags & RST or all(each.ended and not each.ahead for each in connection.halves):
            events += self._end(key, connection)
        return events

    def close(self) -> list[StreamEvent]:
        """The capture has ended: what is behind a gap is handed out, and all connections end."""
        return [event for key, connection in list(self._open.items()) for event in self._end(key, connection)]

    def _begins_anew(self, connection: Connection, here: Peer, segment: Segment) -> bool:
        half = connection.halves[here != connection.client]
        return half.next is not None and (segment.sequence + 1) % _MODULUS != half.next

    def _data(self, connection: Connection, from_client: bool, half: Direction, segment: Segment) -> list[StreamEvent]:
        if half.next is None:
            half.next = segment.sequence
        distance = _distance(half.next, segment.sequence)
        if distance > 0:
            # Only what fits before the next piece that is held would ever be read; the longer one is kept.
            if len(half.ahead.get(segment.sequence, b"")) < len(segment.data):
                self._hold(half, segment.sequence, segment.data)
            if half.held > MOST_HELD or len(half.ahead) > MOST_PIECES or self._held > MOST_HELD_IN_ALL:
                return self._skip(connection, from_client, half)
            return []
        fresh = segment.data[-distance:]
        if not fresh:
            return []
        half.next = (half.next + len(fresh)) % _MODULUS
        return [Data(connection, from_client, fresh), *self._caught_up(connection, from_client, half)]

    def _hold(self, half: Direction, sequence: int, data: bytes) -> None:
        more = len(data) - len(half.ahead.get(sequence, b""))
        half.ahead[sequence] = data
        half.held += more
        self._held += more

    def _take(self, half: Direction, sequence: int) -> bytes:
        data = half.ahead.pop(sequence)
        half.held -= len(data)
        self._held -= len(data)
        return data

    def _caught_up(self, connection: Connection, from_client: bool, half: Direction) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        while half.ahead and half.next is not None:
            wanted = half.next
            nearest = min(half.ahead, key=lambda sequence: _distance(wanted, sequence))
            distance = _distance(wanted, nearest)
            if distance > 0:
                break
            fresh = self._take(half, nearest)[-distance:]
            if fresh:
                half.next = (wanted + len(fresh)) % _MODULUS
                events.append(Data(connection, from_client, fresh))
        return events

    def _skip(self, connection: Connection, from_client: bool, half: Direction) -> list[StreamEvent]:
        """Give up what is missing before the nearest piece that is held."""
        if half.next is None or not half.ahead:
            return []
        wanted = half.next
        nearest = min(half.ahead, key=lambda sequence: _distance(wanted, sequence))
        lost = _distance(wanted, nearest)
        half.next = nearest
        return [Lost(connection, from_client, lost), *self._caught_up(connection, from_client, half)]

    def _end(self, key: tuple[Peer, Peer], connection: Connection) -> list[StreamEvent]:
        del self._open[key]
        events: list[StreamEvent] = []
        for from_client, half in zip((True, False), connection.halves, strict=True):
            while half.ahead and not connection.ignored:
                events += self._skip(connection, from_client, half)
            for sequence in list(half.ahead):
                self._take(half, sequence)
        return [*events, Ended(connection)]

    def _make_room(self) -> list[StreamEvent]:
        if len(self._open) < MOST_CONNECTIONS:
            return []
        key, oldest = next(iter(self._open.items()))
        return self._end(key, oldest)


def _begun(here: Peer, there: Peer, segment: Segment) -> Connection:
    if segment.flags & SYN:
        answers = bool(segment.flags & 0x10)
        return Connection(there, here, False) if answers else Connection(here, there, True)
    client, server = (here, there) if here[1] >= there[1] else (there, here)
    return Connection(client, server, False)


def _distance(wanted: int, sequence: int) -> int:
    """How far `sequence` is ahead of `wanted`; below 0: behind it."""
    return (sequence - wanted + _HALF) % _MODULUS - _HALF
