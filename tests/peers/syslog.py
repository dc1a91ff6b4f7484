"""Syslog servers of a test: one over UDP (RFC 5426), one over TCP with octet counting (RFC 6587 section 3.4.1)."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.peers.ports import LOOPBACK, free_port


class SyslogServer:
    """Listens on `port`, both ways; `udp` and `tcp` are the messages in the order in which they came."""

    def __init__(self) -> None:
        self.port = free_port()
        self.udp: list[str] = []
        self.tcp: list[str] = []
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind((LOOPBACK[4], self.port))
        self._stream = socket.create_server((LOOPBACK[4], self.port))
        self._open: list[socket.socket] = []
        for work in (self._read_datagrams, self._accept):
            threading.Thread(target=work, name="syslog", daemon=True).start()

    @property
    def targets(self) -> list[str]:
        """Both, as [alerts] takes them."""
        return [f"{kind}://{LOOPBACK[4]}:{self.port}" for kind in ("udp", "tcp")]

    def close(self) -> None:
        """Listen no more."""
        for each in (self._datagrams, self._stream, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _read_datagrams(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._datagrams.recv(65535):
                self.udp.append(data.decode())

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._stream.accept()
                self._open.append(connection)
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while size := b"".join(iter(lambda: stream.read(1).strip(), b"")):
                self.tcp.append(stream.read(int(size)).decode())
