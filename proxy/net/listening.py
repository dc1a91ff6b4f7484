"""A listening socket of our own: bound at once, accepted from later, closed at once.

Twisted's port would be closed one turn of the reactor later, too late for a reload that binds the same number again.
Connections beyond the limits are taken and closed, so that they do not stay in the kernel's queue before others.
"""

from __future__ import annotations

import resource
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.logger import Logger

from proxy.net.transparent import make_transparent
from proxy.net.udp import family_of

MOST = 8192
MOST_OF_ONE = 1024
"""Connections at a time, of all devices and of one address."""
BACKLOG = 1024
AT_ONCE = 64
PAUSE = 1.0
"""Seconds without accepting after the system had no more file descriptors."""

log = Logger()


class Listener:
    """`accepted(number, socket)` is called for each connection, numbered from 1, and the socket closed afterwards;
    `refused(address, text)` for one too many. `left(number)` says that one is free again. `transparent`: it takes what
    is for the server (`transparent.py`). Raises OSError if it cannot listen.
    """

    def __init__(
        self,
        reactor: Any,
        address: str,
        port: int,
        accepted: Callable[[int, socket.socket], None],
        refused: Callable[[str, str], None],
        *,
        transparent: bool = False,
    ) -> None:
        self._reactor = reactor
        self._accepted = accepted
        self._refused = refused
        self._numbered = 0
        self._address_of: dict[object, str] = {}
        self._of_address: Counter[str] = Counter()
        self._resting: Any = None
        family = family_of(address)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if transparent:
                make_transparent(self.socket)  # what it accepts inherits this
            self.socket.bind((address, port))
            self.socket.listen(BACKLOG)
        except OSError:
            self.socket.close()
            raise
        allow_many_files()

    def start(self) -> None:
        self._reactor.addReader(self)

    def left(self, number: object) -> None:
        address = self._address_of.pop(number, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def close(self) -> None:
        self._reactor.removeReader(self)
        if self._resting is not None and self._resting.active():
            self._resting.cancel()
        self.socket.close()

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "tcp"

    def connectionLost(self, reason: object) -> None:
        """A listening socket is never lost; epoll asks for the method."""

    def doRead(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, source = self.socket.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                self._rest(error)
                return
            with connection:
                self._take(connection, source[0])

    def _take(self, connection: socket.socket, address: str) -> None:
        if len(self._address_of) >= MOST:
            self._refused(address, f"{MOST} connections are open; more are turned away")
            return
        if self._of_address[address] >= MOST_OF_ONE:
            self._refused(address, f"{MOST_OF_ONE} connections of {address} are open; more of it are turned away")
            return
        self._numbered += 1
        self._address_of[self._numbered] = address
        self._of_address[address] += 1
        self._accepted(self._numbered, connection)

    def _rest(self, error: OSError) -> None:
        log.warn("no connection can be accepted: {error}", error=error.strerror)
        self._reactor.removeReader(self)
        self._resting = self._reactor.callLater(PAUSE, self.start)


def allow_many_files() -> None:
    """Raise this process's limit of open files to what the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
