"""A stream being opened to a server with a device's address, which Twisted's own connectors cannot have.

The connection is made here and adopted by the reactor when it stands. RFC 9293 section 3.6.1: a port whose last
connection to the same server is not over yet (TIME-WAIT) cannot be had; any other of the same address is taken then.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from proxy.commands import Source
from proxy.net.stream import watch_over
from proxy.net.transparent import bind_as, make_transparent, not_to_be_had
from proxy.net.udp import family_of


class Dialling:
    """What a stream asks of a connector. `elsewhere` is called where another port than the device's is taken. Raises
    OSError if it cannot begin; later errors go to the factory.
    """

    transport = None

    def __init__(
        self,
        reactor: Any,
        to: tuple[str, int],
        source: Source,
        factory: Any,
        elsewhere: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._factory = factory
        try:
            self._socket = _begun(to, source)
        except OSError as error:
            if not not_to_be_had(error, source):
                raise
            elsewhere()
            self._socket = _begun(to, Source(source.address))
        reactor.addWriter(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "tcp"

    def doWrite(self) -> None:
        """It stands, or it has failed."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._reactor.removeWriter(self)
        with self._socket as connection:
            if not number:
                try:
                    self._reactor.adoptStreamConnection(connection.fileno(), connection.family, self._factory)
                    return
                except OSError as error:
                    number = error.errno or errno.ECONNABORTED
        self._failed(number)

    def connectionLost(self, reason: object) -> None:
        """How the reactor says that the socket has an error."""
        if self._socket.fileno() >= 0:
            self.doWrite()

    def disconnect(self) -> None:
        """Give up, and say so."""
        if self._socket.fileno() >= 0:
            self._reactor.removeWriter(self)
            self._socket.close()
            self._failed(errno.ECANCELED)

    def _failed(self, number: int) -> None:
        failure = Failure(OSError(number, os.strerror(number)))  # type: ignore[no-untyped-call]
        self._factory.clientConnectionFailed(self, failure)


def _begun(to: tuple[str, int], source: Source) -> socket.socket:
    made = socket.socket(family_of(to[0]), socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        make_transparent(made)
        watch_over(made)
        bind_as(made, source)
        number = made.connect_ex(to)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
    except OSError:
        made.close()
        raise
    return made
