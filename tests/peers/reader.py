"""A network card reader, and the end of its line at a print-management server, as a test plays them over TCP.

Both are written from what is published of the protocol, apart from Locum's own reading of it. Of each message that the
reader is told, without white space at its end, the last character counts; lines that begin with `rfid:` are commands
where it is a reader of rf IDEAS. The desk lets in the cards that it was given, by one beep, and refuses others.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress

from tests.peers.ports import LOOPBACK, free_port
from tests.peers.waiting import eventually

PROMPT = b"\r\nRF IDeas>"


class Line:
    """One TCP end: it listens on `port`, or keeps connecting to it. What it hears is handed to `heard`."""

    def __init__(self, port: int = 0, *, connects: bool = False, address: str = LOOPBACK[4]) -> None:
        self.address = address
        self.port = port or free_port()
        self.connects = connects
        self.raw = bytearray()
        self.made = 0
        self._connection: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Line:
        self._ends = threading.Event()
        if not self.connects:
            family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
            self._listener = socket.create_server((self.address, self.port), family=family)
            self._listener.settimeout(0.05)
        self._thread = threading.Thread(target=self._work, args=(self._ends,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._ends.set()
        self.hang_up()
        if self._thread is not None:
            self._thread.join(5)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def wait(self, within: float = 10.0) -> Line:
        eventually(lambda: self.connected, within, "the line is connected")
        return self

    def hang_up(self) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes) -> None:
        connection = self._connection
        assert connection is not None, "not connected"
        connection.sendall(data)

    def begun(self) -> None:
        """It is connected."""

    def heard(self, data: bytes) -> None:
        """Bytes came in."""

    def _work(self, ends: threading.Event) -> None:
        while not ends.is_set():
            try:
                if self._listener is not None:
                    connection, _ = self._listener.accept()
                else:
                    connection = socket.create_connection((self.address, self.port), 1)
            except OSError:
                ends.wait(0.05)
                continue
            self._serve(connection, ends)

    def _serve(self, connection: socket.socket, ends: threading.Event) -> None:
        with connection:
            connection.settimeout(0.05)
            self._connection, self.made = connection, self.made + 1
            with suppress(OSError):
                self.begun()
                while not ends.is_set():
                    try:
                        data = connection.recv(65536)
                    except TimeoutError:
                        continue
                    if not data:
                        break
                    self.raw += data
                    self.heard(data)
            self._connection = None


class CardReader(Line):
    """`rfideas`: it has a prompt and takes `rfid:` commands. `beeps` and `errors` are counted; `light` is its LED."""

    def __init__(self, port: int = 0, *, rfideas: bool = False, **how: object) -> None:
        super().__init__(port, **how)  # type: ignore[arg-type]
        self.rfideas = rfideas
        self.beeps = self.errors = self.light = 0
        self._told = b""

    def begun(self) -> None:
        self._told = b""

    def heard(self, data: bytes) -> None:
        *lines, self._told = (self._told + data).replace(b"\n", b"\r").split(b"\r")
        if self._told[-1:] in (b"b", b"e", b"v") and not self._told.lower().startswith(b"rfid:"):
            lines, self._told = [*lines, self._told], b""
        for line in lines:
            self._obey(line.strip())

    def _obey(self, line: bytes) -> None:
        if line.lower().startswith(b"rfid:"):
            key, _, value = line.lower()[5:].partition(b"=")
            if self.rfideas and key == b"beep.now":
                self.beeps += int(value)
            elif self.rfideas and key == b"out.led":
                self.light = int(value)
        elif line.endswith(b"b"):
            self.beeps += 1
        elif line.endswith(b"e"):
            self.errors += 1
        elif line.endswith(b"v"):
            self.send(b"test reader 1\r")
        if self.rfideas:
            self.send(PROMPT)

    def swipe(self, card: str, *, pieces: int = 1) -> None:
        """A card is held to it; its number leaves in so many pieces."""
        said = card.encode() + b"\n"
        size = -(-len(said) // pieces)
        for at in range(0, len(said), size):
            self.send(said[at : at + size])

    def hears(self, beeps: int = 0, errors: int = 0, within: float = 5.0) -> None:
        """Wait for so many more beeps and errors than there were at the last call; more is a failure."""
        eventually(lambda: self.beeps + self.errors >= beeps + errors, within, f"{beeps} beeps, {errors} errors")
        assert (self.beeps, self.errors) == (beeps, errors)
        self.beeps = self.errors = 0


class Desk(Line):
    """The server's end: a bare CR first, then it lets in the `welcome`. `cards`: what it was shown, in order."""

    def __init__(self, welcome: Iterable[str], port: int = 0, **how: object) -> None:
        super().__init__(port, **how)  # type: ignore[arg-type]
        self.welcome = set(welcome)
        self.cards: list[str] = []
        self.silent = False
        self._line = b""

    def begun(self) -> None:
        self._line = b""
        self.send(b"\r")

    def heard(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            card = line.strip().removeprefix(PROMPT.strip()).decode()
            if card:
                self.cards.append(card)
                if not self.silent:
                    self.send(b"b" if card in self.welcome else b"e")
