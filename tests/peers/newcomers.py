"""Somebody new every few milliseconds: a login by RADIUS, or a terminal that connects and says HELLO.

Each has a socket, and so a port, of its own, sends its one request once, and waits. What the kernel does by itself is
left to it: it sends the SYN of a connection again after a second (RFC 6298).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.peers import wire
from tests.peers.netns import Wire
from tests.peers.terminal import HELLO, frame, hello

EVERY = 0.01
PATIENCE = 3.0
SOON = 0.05
"""Seconds: who has an answer within them did not wait."""
IN_A_ROW = 10
"""So many who did not wait, one after the other: there is service again, though a busy machine may be late now and
then.
"""


@dataclass(slots=True)
class Newcomer:
    """`began`, `answered`: monotonic seconds; `answered` is None while nothing came."""

    began: float
    socket: socket.socket
    answered: float | None = None

    @property
    def waited(self) -> bool:
        return self.answered is None or self.answered - self.began > SOON


class Newcomers(threading.Thread):
    """`all`: those that came, in their order. To be run in the copier's namespace by `newcomers`."""

    def __init__(self, line: Wire, to: tuple[str, int], *, secret: bytes = b"") -> None:
        super().__init__(daemon=True)
        self.all: list[Newcomer] = []
        self._line, self._to, self._secret = line, to, secret
        self._ending = threading.Event()
        self._waiting = selectors.DefaultSelector()

    def served_again(self, moment: float) -> float:
        """Seconds from a moment to the answer of the first of some in a row who did not wait; infinite without any."""
        after = [each for each in self.all if each.began >= moment]
        for first, each in enumerate(after[: 1 - IN_A_ROW]):
            if each.answered is not None and not any(other.waited for other in after[first : first + IN_A_ROW]):
                return each.answered - moment
        return float("inf")

    def finish(self) -> None:
        """Nobody else comes; everybody who gets an answer has it when this returns."""
        self._ending.set()
        self.join(2 * PATIENCE)

    def run(self) -> None:
        with self._line.inside(self._line.copier), self._waiting:
            following = time.monotonic()
            while self._waiting.get_map() or not self._ending.is_set():
                now = time.monotonic()
                if now >= following and not self._ending.is_set():
                    self._begin(now)
                    following = max(following + EVERY, now)
                for key, _ in self._waiting.select(max(0.0, min(following - time.monotonic(), EVERY))):
                    self._go_on(key.data)
                for key in list(self._waiting.get_map().values()):
                    if now - key.data.began > PATIENCE:
                        self._leave(key.data)

    def _begin(self, now: float) -> None:
        family = socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM if self._secret else socket.SOCK_STREAM)
        made.setblocking(False)
        newcomer = Newcomer(now, made)
        self.all.append(newcomer)
        made.connect_ex(self._to)
        self._waiting.register(made, selectors.EVENT_READ if self._secret else selectors.EVENT_WRITE, newcomer)
        if self._secret:
            attributes = wire.attribute(wire.USER_NAME, "0A1B2C3D") + wire.attribute(wire.NAS_IDENTIFIER, "KM-1")
            made.send(wire.access_request(self._secret, len(self.all) % 256, attributes))

    def _go_on(self, newcomer: Newcomer) -> None:
        try:
            if self._waiting.get_key(newcomer.socket).events == selectors.EVENT_WRITE:
                newcomer.socket.send(frame(HELLO, 1, hello(f"new-{len(self.all)}")))
                self._waiting.modify(newcomer.socket, selectors.EVENT_READ, newcomer)
                return
            if newcomer.socket.recv(4096):
                newcomer.answered = time.monotonic()
        except OSError:
            pass
        self._leave(newcomer)

    def _leave(self, newcomer: Newcomer) -> None:
        self._waiting.unregister(newcomer.socket)
        newcomer.socket.close()


@contextmanager
def newcomers(line: Wire, to: tuple[str, int], *, secret: bytes = b"") -> Iterator[Newcomers]:
    """From the copier's namespace, for as long as the block lasts; with a secret by RADIUS, else terminals."""
    thread = Newcomers(line, to, secret=secret)
    thread.start()
    try:
        yield thread
    finally:
        with contextlib.suppress(RuntimeError):
            thread.finish()
