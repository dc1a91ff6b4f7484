"""A network card reader, Locum and the reader's server on a fake clock; the server's API decides the state.

The flows are built by `appliance.assembly`, as in `PairHouse`. Both ends of the reader's line are in the test's hands:
`card_reader` and `desk` (the server's end) hold what they have heard. The desk answers cards of its own accord while it
is `attentive`: those in `welcome` with a beep, others with an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from appliance.config import Config, ReaderConfig
from proxy.commands import Close, Command, Connect, Send, Verify
from proxy.events import Channel, Closed, Connected, Received
from proxy.link import State
from tests.flows.house import TICK
from tests.flows.pairs import CARD, PairHouse

READER, DESK = "10.7.0.90", "192.0.2.1"
DEVICE = "OLD-1"
OTHER = "51000051"
ADMINS = "0BADC0DE"
"""The number of the unlock card."""
GRANTED, REFUSED = b"b\r\nb\r\n", b"e\r\n"


@dataclass
class Peer:
    """One end of the line. `up`: it takes connections, or can be reached."""

    up: bool = True
    channel: Channel | None = None
    heard: bytearray = field(default_factory=bytearray)
    closed: int = 0

    def take(self) -> bytes:
        """What was heard since the last time."""
        heard = bytes(self.heard)
        self.heard.clear()
        return heard


@dataclass
class ReaderHouse(PairHouse):
    """`connects`: the reader connects to Locum. `reader_keys`: what differs in its `[[reader]]`."""

    server_speaks: str = "papercut"
    connects: bool = False
    attentive: bool = True
    reader_keys: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.card_reader, self.desk = Peer(), Peer()
        self.welcome = {CARD, OTHER}
        self.in_session = ""
        self.dialled: dict[Channel, Peer] = {}
        self.verified: list[str] = []
        self._numbers = 0
        self._line = b""
        super().__post_init__()

    def start(self) -> None:
        super().start()
        self.pass_time(0.5)

    def restart(self, down_for: float = 0.0, **how: Any) -> None:
        self.card_reader.channel = self.desk.channel = None
        self.dialled.clear()
        super().restart(down_for, **how)

    def config(self) -> Config:
        config = super().config()
        ends = {"port": 7778, "connects": True, "server": DESK, "server_port": 7778}
        if not self.connects:
            ends = {"port": 17778, "address": READER, "reader_port": 7778}
        names = {"dialect": "cardreader", "bind": "0.0.0.0", "upstream": "hq", "records_to": "hq", "device": DEVICE}
        return replace(config, listens=(ReaderConfig(**{**names, **ends, **self.reader_keys}),))

    # The wire

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            channel = getattr(command, "channel", None)
            if channel is None or channel[:1] != ("reader",):
                if isinstance(command, Verify):
                    self.verified.append(command.code)
                super().run([command])
            elif isinstance(command, Connect):
                self._connect(command)
            elif isinstance(command, Send):
                self._sent(command)
            elif isinstance(command, Close):
                for peer in (self.card_reader, self.desk):
                    if peer.channel == channel:
                        peer.channel, peer.closed = None, peer.closed + 1
                self.dialled.pop(channel, None)

    def _connect(self, command: Connect) -> None:
        peer = self.desk if self.connects else self.card_reader
        wanted = (DESK, 7778) if self.connects else (READER, 7778)
        assert (command.address, command.port) == wanted
        if not peer.up:
            refused = Closed(command.channel, "connection refused", self.moment(), refused=True)
            self.dispatch(command.owner, refused)
            return
        peer.channel = command.channel
        self._line = b"" if peer is self.desk else self._line
        self.dispatch(command.owner, Connected(command.channel, (command.address, command.port, ""), self.moment()))

    def _sent(self, send: Send) -> None:
        if send.channel == self.card_reader.channel:
            self.card_reader.heard += send.data
        elif send.channel == self.desk.channel:
            self.desk.heard += send.data
            self._at_desk(send.data)

    def _at_desk(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines if self.attentive else ():
            card = line.strip().decode("latin-1")
            if card in self.welcome:
                self.in_session = "" if self.in_session == card else card
                self.desk_says(b"b")
            else:
                self.desk_says(b"e")

    # What the ends do

    def accept(self, peer: Peer, address: str) -> None:
        """This end connects to Locum."""
        self._numbers += 1
        peer.channel = (*self.listener.channel, self._numbers)
        if peer is self.desk:
            self._line = b""
        self.dispatch(self.listener, Connected(peer.channel, (address, 40000 + self._numbers, ""), self.moment()))

    def join(self) -> None:
        """Both ends are connected; nothing of that is left in what they have heard."""
        if self.connects:
            self.accept(self.card_reader, READER)
        else:
            self.accept(self.desk, DESK)
        self.pass_time(1)
        self.card_reader.take(), self.desk.take()

    def cut(self, peer: Peer, *, down: bool = False) -> None:
        """The connection of this end ends; `down`: it cannot be reached any more."""
        peer.up = not down
        channel, peer.channel = peer.channel, None
        if channel is not None:
            self.dispatch(self.listener, Closed(channel, "connection reset", self.moment(), refused=True))

    def read(self, data: bytes) -> None:
        """The reader says this."""
        assert self.card_reader.channel is not None
        self.dispatch(self.listener, Received(self.card_reader.channel, (READER, 7778, ""), data, self.moment()))

    def desk_says(self, data: bytes) -> None:
        if self.desk.channel is not None:
            self.dispatch(self.listener, Received(self.desk.channel, (DESK, 7778, ""), data, self.moment()))

    def swipe_card(self, card: str = CARD, wait: float = 0.5) -> bytes:
        """A card is swiped; what the reader hears of it within `wait` seconds."""
        self.card_reader.take()
        self.read(card.encode() + b"\n")
        self.pass_time(wait)
        return self.card_reader.take()

    def set_server(self, up: bool) -> None:
        """The whole server goes, or comes back: its API, and its end of the line."""
        super().set_server(up)
        if not hasattr(self, "desk"):
            return
        if not up:
            self.cut(self.desk, down=True)
        else:
            self.desk.up = True
            if not self.connects and self.desk.channel is None:
                self.accept(self.desk, DESK)

    def go_offline(self) -> None:
        self.set_server(False)
        self.until(State.OFFLINE)
        self.pass_time(TICK)
        self.card_reader.take()

    def come_back(self) -> None:
        self.set_server(True)
        self.until(State.ONLINE)
        self.pass_time(1)
        if not self.connects and self.desk.channel is None:
            self.accept(self.desk, DESK)
            self.pass_time(0.5)

    # What the ledger says

    def outcomes(self) -> list[tuple[Any, ...]]:
        """Outcome, by whom, mode and card of every login, in order."""
        return self.rows(
            "SELECT l.outcome, l.decided_by, l.mode, p.card FROM logins l JOIN personal p USING (seq) ORDER BY seq"
        )

    def logouts(self) -> list[str]:
        found = self.rows("SELECT json_extract(body, '$.data.cause') FROM entries WHERE kind = 'logout' ORDER BY seq")
        return [str(row[0]) for row in found]

    def words(self) -> str:
        return " ".join(tell.text for tell in self.told)

    def in_lines(self, text: str) -> bool:
        """Whether a text stands in what was told, or in a body of the ledger."""
        bodies = [str(row[0]) for row in self.rows("SELECT body FROM entries")]
        return any(re.search(re.escape(text), line, re.IGNORECASE) for line in (self.words(), *bodies))
