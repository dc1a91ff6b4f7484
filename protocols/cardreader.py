"""The byte streams between a network card reader and a print-management server, as both sides publish them.

Reader to server: `<card number>` LF; the text of its version ends in CR; a reader of rf IDEAS writes its prompt, CR LF
`RF IDeas>`, before what it says. Server to reader: of each message without its trailing white space the last character
counts: nothing (ready for a card), `v` (say your version), `b` (beep), `e` (show an error); readers of rf IDEAS also
take lines that begin with `rfid:`, ended by CR or LF, in any case. Both are streams: pieces come split and joined. Both
decoders hold at most `LONGEST` bytes without an end. Left out: set-up commands of readers, which only pass through.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

LONGEST = 256
"""Bytes without an end; what is longer is no message."""
GREETING = b"\r"
"""What a server says first: a reader of rf IDEAS answers with its prompt, others ignore it."""

_END = re.compile(rb"[\r\n]")
_PROMPTS = re.compile(rb"(?:\s*RF IDeas>)+", re.IGNORECASE)
_CARD = re.compile(rb"[0-9A-Za-z;:%+?=._^/$*-]{1,255}")
_RFID = re.compile(rb"rfid:", re.IGNORECASE)
_COMMAND = re.compile(rb"rfid:(beep\.now|out\.led)\s*=\s*([0-9]{1,3})\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CardRead:
    """A card was read. `text`: its number as the reader has it, leading zeros and all."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class VersionSaid:
    """The reader has said its version."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What is no card. reason: too-long (more than `LONGEST` bytes without an end; said once, and dropped up to its
    end), no-card (a line that holds what no card number does).
    """

    reason: str


FromReader = CardRead | VersionSaid | Noise


class Answer(Enum):
    """What a server says to a card."""

    BEEP = "beep"
    ERROR = "error"
    GREEN = "green"
    RED = "red"

    @property
    def refuses(self) -> bool:
        return self in (Answer.ERROR, Answer.RED)


class _Lines:
    """A stream cut at CR and LF, one piece at a time; holds at most `LONGEST` bytes of the last one, in `rest`."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self.dropping = False
        self._unread = b""
        self._at = 0

    def receive_data(self, data: bytes) -> None:
        self._unread, self._at = self._unread[self._at :] + data, 0

    def next(self) -> tuple[bytes, bytes] | None:
        """A line and how it ended; b"" for its end: it has become too long, and is dropped. None: more is needed."""
        while self._at < len(self._unread):
            found = _END.search(self._unread, self._at)
            end = found.start() if found else len(self._unread)
            ending = self._unread[end : end + 1]
            piece, self._at = self._unread[self._at : min(end, self._at + LONGEST + 1)], end + 1
            if self.dropping:
                self.dropping = not ending
                continue
            self.rest += piece
            too_long = len(self.rest) > LONGEST
            self.dropping = too_long and not ending
            if too_long or ending:
                line = bytes(self.rest)
                self.rest.clear()
                return (b"", b"") if too_long else (line, ending)
        return None

    @property
    def next_byte(self) -> bytes:
        return self._unread[self._at : self._at + 1]


class ReaderDecoder:
    """What a reader says: give it bytes, take the events. No exception comes out, whatever goes in.

    A line that ends in CR is a version unless LF follows: some readers end a card with both.
    """

    def __init__(self) -> None:
        self._lines = _Lines()
        self._at_cr = b""
        self._prompted = False

    @property
    def is_rfideas(self) -> bool:
        """Whether the reader has shown the prompt of rf IDEAS."""
        return self._prompted or _PROMPTS.match(self._lines.rest) is not None

    @property
    def between(self) -> bool:
        """Whether nothing of a card has come that has not ended."""
        return not self._lines.dropping and not self._at_cr and not _said(self._lines.rest)

    def receive_data(self, data: bytes) -> None:
        self._lines.receive_data(data)

    def next_event(self) -> FromReader | None:
        """The next event; None: more bytes are needed."""
        while True:
            if self._at_cr and self._lines.next_byte:
                ended, self._at_cr = self._at_cr, b""
                if self._lines.next_byte != b"\n":
                    return VersionSaid()
                return _card(ended)
            found = self._lines.next()
            if found is None:
                return None
            line, ending = found
            if not ending:
                return Noise("too-long")
            self._prompted = self._prompted or _PROMPTS.match(line) is not None
            said = _said(line)
            if said and ending == b"\n":
                return _card(said)
            self._at_cr = said


class ServerDecoder:
    """What a server says to a reader: the answers among it. No exception comes out, whatever goes in.

    A message need not have an end: `pause` says that nothing has followed for a while, so that it is whole.
    """

    def __init__(self) -> None:
        self._lines = _Lines()
        self._found: list[Answer] = []
        self.is_rfideas = False

    def receive_data(self, data: bytes) -> None:
        self._lines.receive_data(data)

    def next_event(self) -> Answer | None:
        """The next answer; None: more bytes are needed."""
        while not self._found and (found := self._lines.next()) is not None:
            self._whole(found[0])
        return self._found.pop(0) if self._found else None

    def pause(self) -> None:
        """A message without an end is whole; a command of rf IDEAS has an end, and is waited for."""
        if not _RFID.search(self._lines.rest):
            self._whole(bytes(self._lines.rest))
            self._lines.rest.clear()

    def _whole(self, line: bytes) -> None:
        at = _RFID.search(line)
        message = line[: at.start()].rstrip() if at else line.rstrip()
        self._found += _LAST.get(message[-1:], [])
        if at:
            self.is_rfideas = True
            command = _COMMAND.fullmatch(line[at.start() :])
            self._found += _COMMANDS[command[1].lower()](int(command[2])) if command else []


def beeps(count: int, *, rfideas: bool) -> bytes:
    """So many beeps."""
    return b"rfid:beep.now=%d\r" % count if rfideas else b"b\r\n" * count


def granted(*, rfideas: bool) -> bytes:
    """A card is let in: two beeps, and green."""
    return (b"rfid:out.led=2\r" if rfideas else b"") + beeps(2, rfideas=rfideas)


def refused(*, rfideas: bool) -> bytes:
    """A card is not let in: the reader's error; red and one beep where that is the reader's way."""
    return b"rfid:out.led=1\rrfid:beep.now=1\r" if rfideas else b"e\r\n"


def ready(*, rfideas: bool) -> bytes:
    """Ready for a card: amber, where there is such a light."""
    return b"rfid:out.led=3\r" if rfideas else b"\r\n"


def _said(line: bytes | bytearray) -> bytes:
    """A line without prompts and white space around it."""
    prompts = _PROMPTS.match(line)
    return bytes(line[prompts.end() :] if prompts else line).strip()


def _card(said: bytes) -> CardRead | Noise:
    return CardRead(said.decode("ascii")) if _CARD.fullmatch(said) else Noise("no-card")


def _light(number: int) -> list[Answer]:
    return {1: [Answer.RED], 2: [Answer.GREEN]}.get(number, [])


_LAST = {b"b": [Answer.BEEP], b"e": [Answer.ERROR]}
_COMMANDS: dict[bytes, Callable[[int], list[Answer]]] = {
    b"beep.now": lambda number: [Answer.BEEP] if number else [],
    b"out.led": _light,
}
