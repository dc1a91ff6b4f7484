"""A long way to a TCP server: every byte arrives half a round trip later, each way, in the order in which it left.

A new connection costs a round trip too. `Far` is the test's end, `python -m tests.peers.far` the process.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

from tests.peers.child import Child, Commands
from tests.peers.ports import LOOPBACK, free_port


class Far(Child):
    """`port` stands for the port `back`, `round_trip` seconds away."""

    def __init__(self, back: int, round_trip: float) -> None:
        self.port = free_port()
        super().__init__("tests.peers.far", [str(self.port), str(back), str(round_trip)])

    def connections(self) -> int:
        """How many were opened so far."""
        return int(self.tell()["connections"])


class _Way:
    """The relay's process. What is on its way waits in one queue, since all of it takes equally long."""

    def __init__(self, front: int, back: int, round_trip: float) -> None:
        self.back, self.round_trip = back, round_trip
        self.front = socket.create_server((LOOPBACK[4], front), backlog=1024)
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.poll.register(self.front.fileno(), select.EPOLLIN)
        self.ends: dict[int, socket.socket] = {}
        self.other: dict[int, socket.socket] = {}
        self.late: deque[tuple[float, Callable[[], None]]] = deque()
        self.fresh: deque[tuple[float, Callable[[], None]]] = deque()
        self.connections = 0

    def accept(self) -> None:
        device, _ = self.front.accept()
        self.connections += 1
        self.fresh.append((time.monotonic() + self.round_trip, lambda: self.join(device)))

    def join(self, device: socket.socket) -> None:
        try:
            server = socket.create_connection((LOOPBACK[4], self.back), 5)
        except OSError:
            device.close()
            return
        for one, another in ((device, server), (server, device)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.ends[one.fileno()], self.other[one.fileno()] = one, another
            self.poll.register(one.fileno(), select.EPOLLIN)

    def read(self, number: int) -> None:
        one, another = self.ends[number], self.other[number]
        try:
            got = one.recv(65536)
        except OSError:
            got = b""
        if not got:
            self.poll.unregister(number)
            del self.ends[number], self.other[number]
        self.late.append((time.monotonic() + self.round_trip / 2, lambda: self.arrive(another, got)))

    @staticmethod
    def arrive(end: socket.socket, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if data:
                end.sendall(data)
            else:
                end.shutdown(socket.SHUT_WR)

    def run(self) -> None:
        commands = Commands()
        Commands.answer(ready=True)
        while True:
            due = [queue[0][0] for queue in (self.late, self.fresh) if queue]
            # epoll counts in milliseconds, select(2) in microseconds.
            select.select([self.poll], [], [], max(0.0, min(due) - time.monotonic()) if due else None)
            for number, _ in self.poll.poll(0):
                if number == 0:
                    for _ in commands.read():
                        Commands.answer(connections=self.connections)
                elif number == self.front.fileno():
                    self.accept()
                elif number in self.ends:
                    self.read(number)
            now = time.monotonic()
            for queue in (self.fresh, self.late):
                while queue and queue[0][0] <= now:
                    queue.popleft()[1]()


def main() -> None:
    """`far FRONT BACK ROUND_TRIP`"""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        _Way(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])).run()


if __name__ == "__main__":
    main()
