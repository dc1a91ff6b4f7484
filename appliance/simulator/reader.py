"""A network card reader for a lab: what is typed is a card that is swiped, what it is told is printed.

It listens as most readers do, or connects as in client mode. Of each message, without white space at its end, the last
character counts; with `rfideas` it has a prompt and takes `rfid:` commands too.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

PROMPT = b"\r\nRF IDeas>"
LIGHTS = {"0": "off", "1": "red", "2": "green", "3": "amber"}
QUIET = 0.2
"""Seconds after which a message without an end is whole."""

_COMMAND = re.compile(r"rfid:(beep\.now|out\.led)=(\d+)", re.IGNORECASE)


class Reader:
    """One reader. `say` gets what it shows to a person: beep, error, a light."""

    def __init__(self, say: Callable[[str], None], *, rfideas: bool = False) -> None:
        self._say = say
        self._rfideas = rfideas
        self._told = ""

    def told(self, data: bytes) -> bytes:
        """It was sent this; gives what it answers."""
        *lines, self._told = re.split("[\r\n]", self._told + data.decode("latin-1"))
        return b"".join(self._obey(line) for line in lines)

    def pause(self) -> bytes:
        """Nothing more has come for a while; gives what it answers."""
        whole, self._told = self._told, ""
        return self._obey(whole) if whole else b""

    def _obey(self, line: str) -> bytes:
        command = _COMMAND.fullmatch(line.strip())
        last = line.rstrip()[-1:]
        if self._rfideas and command is not None:
            beeps = command[1].lower() == "beep.now"
            self._say(f"{command[2]} beep(s)" if beeps else f"light: {LIGHTS.get(command[2], command[2])}")
        elif command is None and last in ("b", "e"):
            self._say("beep" if last == "b" else "error")
        elif command is None and last == "v":
            return b"locum simulate reader\r"
        return PROMPT if self._rfideas else b""


def play(connection: socket.socket, reader: Reader, cards: Iterable[str], pause: float) -> None:
    """Swipe these cards over a connection, each when the one before has had `pause` seconds for its answer."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        for card in ("", *cards):
            if card:
                connection.sendall(card.encode() + b"\n")
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                if not selector.select(min(left, QUIET)):
                    connection.sendall(reader.pause())
                    continue
                data = connection.recv(4096)
                if not data:
                    return
                connection.sendall(reader.told(data))


def connected(address: str, port: int, *, listens: bool) -> socket.socket:
    """The connection to whoever serves the reader. Raises OSError."""
    if not listens:
        return socket.create_connection((address, port))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        connection, _ = listener.accept()
    with suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
