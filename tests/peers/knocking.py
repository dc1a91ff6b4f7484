"""A copier at which somebody logs in all the time: a login every so often, each sent once more when nothing came.

As radclient and copiers do it: the same datagram from the same port (RFC 5080 §2.2.1), a fixed time later. One socket;
what the kernel says of a refusal is noted and the login goes on. Every login has a card of its own, and no other such
copier has it too.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from tests.peers import wire
from tests.peers.netns import Wire

EVERY = 0.05
AGAIN = 1.0
ACCEPT = 2
_cards = count(0x10000000, 0x10000)


@dataclass(slots=True)
class Login:
    """`began`, `answered`: monotonic seconds; `answered` is None while nothing came. `sendings`: datagrams sent."""

    card: str
    request: bytes
    began: float
    sendings: int = 0
    answered: float | None = None
    code: int = 0

    @property
    def took(self) -> float:
        """Seconds until the answer; infinite without one."""
        return float("inf") if self.answered is None else self.answered - self.began


class Knocking(threading.Thread):
    """`logins`: all that were begun, in their order. To be run in the copier's namespace by `knocking`."""

    def __init__(self, made: socket.socket, secret: bytes, name: str, every: float = EVERY) -> None:
        super().__init__(daemon=True)
        self.logins: list[Login] = []
        self.refusals = 0
        self._socket, self._secret, self._name, self._first = made, secret, name, next(_cards)
        self._every = every
        self._ending = threading.Event()

    @property
    def sent(self) -> int:
        """Datagrams."""
        return sum(login.sendings for login in self.logins)

    def finish(self) -> list[Login]:
        """Begin no more; every login that is answered at all has been when this returns."""
        self._ending.set()
        self.join(30)
        return self.logins

    def since(self, moment: float, until: float = float("inf")) -> list[Login]:
        """Those that began after a moment (monotonic), and before another."""
        return [login for login in self.logins if moment <= login.began < until]

    def answered(self, number: int = 1, *, since: float = 0.0) -> bool:
        """Whether so many that began after a moment have an answer."""
        return sum(login.answered is not None for login in self.since(since)) >= number

    def run(self) -> None:
        under_way: dict[int, Login] = {}
        next_login = time.monotonic()
        while under_way or not self._ending.is_set():
            now = time.monotonic()
            if now >= next_login and not self._ending.is_set():
                login = self._begin(now)
                under_way[login.request[1]] = login
                next_login += self._every
            for login in list(under_way.values()):
                if login.sendings == 1 and now >= login.began + AGAIN:
                    self._send(login)
                elif now >= login.began + 3 * AGAIN:
                    del under_way[login.request[1]]
            self._receive(under_way, max(0.001, min(next_login, now + EVERY) - time.monotonic()))

    def _begin(self, now: float) -> Login:
        number = len(self.logins)
        card = f"{self._first + number:08X}"
        attributes = wire.attribute(wire.USER_NAME, card) + wire.attribute(wire.NAS_IDENTIFIER, self._name)
        login = Login(card, wire.access_request(self._secret, number % 256, attributes), now)
        self.logins.append(login)
        self._send(login)
        return login

    def _send(self, login: Login) -> None:
        login.sendings += 1
        try:
            self._socket.send(login.request)
        except ConnectionRefusedError:
            # It is said of an earlier datagram; this one has not left.
            self.refusals += 1
            with contextlib.suppress(OSError):
                self._socket.send(login.request)

    def _receive(self, under_way: dict[int, Login], wait: float) -> None:
        self._socket.settimeout(wait)
        try:
            answer = self._socket.recv(4096)
        except TimeoutError:
            return
        except ConnectionRefusedError:
            self.refusals += 1
            return
        login = under_way.get(answer[1])
        if login is not None and wire.is_authentic(answer, login.request, self._secret):
            login.answered, login.code = time.monotonic(), answer[0]
            del under_way[answer[1]]


@contextmanager
def knocking(
    line: Wire, secret: str, to: tuple[str, int], *, namespace: str = "", name: str = "KM-1", every: float = EVERY
) -> Iterator[Knocking]:
    """Logins from the copier's namespace, or another's, to an address and port, for as long as the block lasts."""
    with line.inside(namespace or line.copier):
        made = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)
        made.connect(to)
    with made:
        thread = Knocking(made, secret.encode(), name, every)
        thread.start()
        try:
            yield thread
        finally:
            thread.finish()
