"""A terminal server that takes everything and does nothing: faster than what stands in front of it, for benchmarks.

LOGIN is granted under a session number that counts up, JOB and RECORD are "stored", QUERY is done, LOGOUT and PING are
answered. Written from the dialect's description alone; `python -m tests.peers.terminal_echo` is the process.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import time

from tests.peers.child import Child, Commands
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.terminal import HEAD, HELLO, JOB, LOGIN, LOGOUT, PING, QUERY, RECORD, REPLY, frame, text

ALL = 31


class EchoServer(Child):
    """It listens when the constructor returns."""

    def __init__(self, address: str = LOOPBACK[4], port: int | None = None) -> None:
        self.port = port or free_port()
        super().__init__("tests.peers.terminal_echo", [address, str(self.port)])


class _Echo:
    """The server's process."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.front = socket.create_server((address, port), family=family, backlog=1024)
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.poll.register(self.front.fileno(), select.EPOLLIN)
        self.lines: dict[int, socket.socket] = {}
        self.rest: dict[int, bytes] = {}
        self.session = 0

    def answer(self, kind: int, sequence: int, payload: bytes) -> bytes:
        if kind == LOGIN:
            self.session += 1
            said = struct.pack(">BQ", 0, self.session) + text("somebody") + text("") + struct.pack(">qH", 1240, ALL)
        elif kind == HELLO:
            said = text("echo") + struct.pack(">HQB", 30, int(time.time() * 1000), 0)
        elif kind == JOB:
            said = payload[8:16] + b"\0"
        elif kind == RECORD:
            said = payload[:16] + bytes(9) + text("somebody")
        elif kind == QUERY:
            said = b"\0\1" + text("12.40")
        elif kind == LOGOUT:
            said = payload
        else:
            said = b"\0" if kind == PING else b"\4" + text("unknown type")
        return frame(kind | REPLY, sequence, said)

    def accept(self) -> None:
        new, _ = self.front.accept()
        new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines[new.fileno()] = new
        self.rest[new.fileno()] = b""
        self.poll.register(new.fileno(), select.EPOLLIN)

    def read(self, number: int) -> None:
        line = self.lines[number]
        try:
            got = line.recv(65536)
        except OSError:
            got = b""
        if not got:
            self.poll.unregister(number)
            self.lines.pop(number).close()
            return
        data, at, answers = self.rest[number] + got, 0, []
        while len(data) - at >= HEAD.size:
            _, _, kind, sequence, length = HEAD.unpack_from(data, at)
            end = at + HEAD.size + length
            if len(data) < end + 4:
                break
            answers.append(self.answer(kind, sequence, data[at + HEAD.size : end]))
            at = end + 4
        self.rest[number] = data[at:]
        with contextlib.suppress(OSError):
            line.sendall(b"".join(answers))

    def run(self) -> None:
        commands = Commands()
        Commands.answer(ready=True)
        while True:
            for number, _ in self.poll.poll():
                if number == 0:
                    commands.read()
                elif number == self.front.fileno():
                    self.accept()
                else:
                    self.read(number)


def main() -> None:
    """`terminal_echo ADDRESS PORT`"""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        _Echo(sys.argv[1], int(sys.argv[2])).run()


if __name__ == "__main__":
    main()
