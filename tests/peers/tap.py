"""A recording relay for TCP: what both sides of every connection said, byte for byte, in order.

`Tap` listens on a port of its own and passes every connection on to `target` on loopback. A target that does not listen
is met as its clients would meet it: the connection is closed at once.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field

from tests.peers.ports import LOOPBACK, free_port


@dataclass(slots=True)
class Tapped:
    """One connection: all that went to the server and all that came back."""

    there: bytearray = field(default_factory=bytearray)
    back: bytearray = field(default_factory=bytearray)


class Tap:
    """The relay, in threads of this process."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.connections: list[Tapped] = []
        self._target = target
        self._open: list[socket.socket] = []
        self._front = socket.create_server((LOOPBACK[4], self.port))
        threading.Thread(target=self._accept, name="tap", daemon=True).start()

    def close(self) -> None:
        """Cut every connection and listen no more."""
        for each in (self._front, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def has_sent(self, data: bytes) -> bool:
        """Whether these bytes went to the server on one of the connections."""
        return any(data in bytes(each.there) for each in self.connections)

    def has_received(self, data: bytes) -> bool:
        """Whether these bytes came from the server on one of the connections."""
        return any(data in bytes(each.back) for each in self.connections)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._front.accept()
                try:
                    far = socket.create_connection((LOOPBACK[4], self._target), 2)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                said = Tapped()
                self.connections.append(said)
                self._open += [near, far]
                for source, sink, kept in ((near, far, said.there), (far, near, said.back)):
                    threading.Thread(target=self._carry, args=(source, sink, kept), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                kept += data
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
