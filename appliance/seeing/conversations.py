"""From frames to what was said in them: the dialects found by their ports, and by content where ports differ.

One frame in, what it completes out. What cannot be read is counted by reason, and what is none of the dialects is not
looked into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from appliance.seeing import files, papercut, terminal
from appliance.seeing.papercut import PapercutTalk
from appliance.seeing.radius import IsCard, RadiusTalk, SecretsOf
from appliance.seeing.said import Said
from appliance.seeing.terminal import TerminalTalk
from protocols.capture import frames
from protocols.capture.fragments import Fragments
from protocols.capture.frames import TCP, UDP, Packet
from protocols.capture.streams import Connection, Data, Ended, Lost, StreamEvent, Streams
from protocols.errors import ProtocolError
from protocols.radius.accounting import JobMapping

ENCRYPTED = "TLS"
_TLS = (b"\x16\x03", b"\x15\x03", b"\x17\x03")
_ENOUGH = 5
"""So many octets tell what a stream is."""
_LONGEST_LINE = 4_096
_OURS = terminal.PORTS | papercut.PORTS | papercut.TLS_PORTS

Talk = TerminalTalk | PapercutTalk


@dataclass(slots=True)
class Counts:
    """`frames`: all that were read; `unreadable`: by reason."""

    frames: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Unnamed:
    """A connection of which it is not known yet what it speaks."""

    octets: dict[bool, bytes] = field(default_factory=lambda: {True: b"", False: b""})


class Conversations:
    """Everything that a capture holds. `passed` is called with every whole packet, whatever is in it."""

    def __init__(
        self,
        secrets_of: SecretsOf,
        is_card: IsCard,
        mapping: JobMapping | None = None,
        passed: Callable[[int, Packet], None] | None = None,
    ) -> None:
        self.counts = Counts()
        self._radius = RadiusTalk(secrets_of, is_card, mapping)
        self._fragments = Fragments()
        self._streams = Streams()
        self._talks: dict[Connection, Talk | _Unnamed] = {}
        self._passed = passed

    def frame(self, at: int, link: int, data: bytes) -> list[Said]:
        """What a frame completes. `at` in ms, `link` the number of its link layer in capture files."""
        self.counts.frames += 1
        try:
            packet = frames.read(link, data)
            if packet is None:
                return []
            packet = self._fragments.add(packet, at)
            return self._packet(at, packet) if packet is not None else []
        except ProtocolError as error:
            self.counts.unreadable[error.reason] += 1
            return []

    def close(self, at: int) -> list[Said]:
        """The capture has ended."""
        said = self._events(at, self._streams.close())
        self._fragments.close()
        if self._fragments.given_up:
            self.counts.unreadable["fragments-missing"] += self._fragments.given_up
        return said

    def _packet(self, at: int, packet: Packet) -> list[Said]:
        if self._passed is not None:
            self._passed(at, packet)
        if packet.protocol == UDP:
            datagram = frames.datagram(packet)
            source, target = (packet.source, datagram.source_port), (packet.target, datagram.target_port)
            said = self._radius.heard(at, source, target, datagram.data)
            return [said] if said is not None else []
        if packet.protocol == TCP:
            return self._events(at, self._streams.add(packet.source, packet.target, frames.segment(packet)))
        return []

    def _events(self, at: int, events: list[StreamEvent]) -> list[Said]:
        said: list[Said] = []
        for event in events:
            match event:
                case Data(connection, from_client, data):
                    said += self._data(at, connection, from_client, data)
                case Lost(connection):
                    if isinstance(self._talks.get(connection), TerminalTalk | PapercutTalk):
                        self.counts.unreadable["octets-missing"] += 1
                    self._ignore(connection)
                case Ended(connection):
                    self._talks.pop(connection, None)
        return said

    def _data(self, at: int, connection: Connection, from_client: bool, data: bytes) -> list[Said]:
        if connection.ignored:
            return []
        talk = self._talks.get(connection)
        if talk is None:
            talk = self._talks[connection] = _Unnamed()
        if not isinstance(talk, _Unnamed):
            return self._heard(at, connection, talk, from_client, data)
        talk.octets[from_client] += data
        start = talk.octets[from_client]
        if start.startswith(_TLS):
            self._ignore(connection)
            return self._encrypted(at, connection)
        named = _named(connection, start)
        if named is None:
            if len(start) >= _ENOUGH and not _may_become_http(start):
                self._unknown(connection, talk, from_client)
            return []
        self._talks[connection] = named
        return [
            each
            for side in (True, False)
            if talk.octets[side]
            for each in self._heard(at, connection, named, side, talk.octets[side])
        ]

    def _heard(self, at: int, connection: Connection, talk: Talk, from_client: bool, data: bytes) -> list[Said]:
        said, wrong = talk.heard(at, from_client, data)
        self.counts.unreadable.update(wrong)
        return said

    def _encrypted(self, at: int, connection: Connection) -> list[Said]:
        port = connection.server[1]
        dialects = {terminal.DIALECT: terminal.PORTS, papercut.DIALECT: papercut.TLS_PORTS}
        dialect = next((name for name, ports in dialects.items() if port in ports), "")
        if not dialect:
            return []
        self.counts.unreadable["encrypted"] += 1
        return [Said(at, connection.client, connection.server, dialect, ENCRYPTED, {}, True)]

    def _unknown(self, connection: Connection, talk: _Unnamed, from_client: bool) -> None:
        if not connection.whole and connection.server[1] in _OURS:
            talk.octets[from_client] = b""  # the middle of something; what follows may be a beginning
            return
        self._ignore(connection)

    def _ignore(self, connection: Connection) -> None:
        connection.ignored = True
        self._talks.pop(connection, None)


def said_in(
    conversations: Conversations, captures: Iterable[Path], damaged: list[str], told: files.Told | None = None
) -> Iterator[Said]:
    """What capture files say, in their order, as if they were one. Of those that are cut off or damaged, what is before
    that, and into `damaged` goes a line. Raises CannotRead.
    """
    at = 0
    for path in captures:
        try:
            for frame in files.frames(path, told):
                at = frame.at
                yield from conversations.frame(at, frame.link, frame.data)
        except files.Damaged as error:
            damaged.append(str(error))
    yield from conversations.close(at)


def _named(connection: Connection, start: bytes) -> Talk | None:
    """What speaks like this; None: nothing that is known here, or too little to tell."""
    expected = connection.whole and connection.server[1] in terminal.PORTS and len(start) >= _ENOUGH
    if start.startswith(terminal.START) or expected:
        return TerminalTalk(connection)
    if start.startswith(papercut.START) and papercut.PATH in start.partition(b"\r\n")[0]:
        return PapercutTalk(connection)
    return None


def _may_become_http(start: bytes) -> bool:
    return start.startswith(papercut.START) and b"\r\n" not in start and len(start) < _LONGEST_LINE
