"""Terminals that connect, say HELLO, hear WELCOME and hang up, one after the other, for benchmarks.

So many at once in one process of its own; every connection is a new one, from a new port. `python -m
tests.peers.callers` is the process, `Callers` the test's end.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from dataclasses import dataclass

from tests.peers.child import Child, Commands
from tests.peers.terminal import HEAD, HELLO, REPLY, frame, hello

PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Called:
    """What became of some calls: all were answered. Times in seconds, each from connecting to WELCOME."""

    count: int
    seconds: float
    p50: float
    p99: float
    processor: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.count / self.seconds


class Callers(Child):
    """Terminals that call one address and port."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__("tests.peers.callers", [address, str(port)])

    def call(self, count: int, at_once: int) -> Called:
        """Returns when all are answered. Raises RuntimeError if one is not."""
        told = self.tell(count=count, at_once=at_once)
        if "failed" in told:
            raise RuntimeError(f"the callers: {told['failed']}")
        return Called(**told)


def _call(address: str, port: int, count: int, at_once: int) -> dict[str, object]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    poll, clock = select.epoll(), time.perf_counter
    # One device a line, for a terminal server has one line a device.
    greetings = [frame(HELLO, 1, hello(f"caller-{number:03d}")) for number in range(at_once)]
    free = list(range(at_once))
    lines: dict[int, tuple[socket.socket, int, float]] = {}
    took: list[float] = []
    used, began, called = time.process_time(), clock(), 0
    while len(took) < count:
        while free and called < count:
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            lines[made.fileno()] = made, free.pop(), clock()
            made.connect_ex((address, port))
            poll.register(made.fileno(), select.EPOLLOUT)
            called += 1
        ready = poll.poll(PATIENCE)
        if not ready:
            raise OSError(f"only {len(took)} of {count} were answered")
        for number, event in ready:
            made, who, since = lines[number]
            if event & select.EPOLLOUT:
                made.send(greetings[who])
                poll.modify(number, select.EPOLLIN)
                continue
            got = made.recv(4096)
            if HEAD.unpack_from(got)[2] != HELLO | REPLY:
                raise OSError(f"no WELCOME: {got!r}")
            took.append(clock() - since)
            made.close()
            free.append(who)
            del lines[number]
    seconds = clock() - began
    took.sort()
    return {
        "count": count,
        "seconds": seconds,
        "p50": took[count // 2],
        "p99": took[int(count * 0.99)],
        "processor": time.process_time() - used,
    }


def main() -> None:
    """`callers ADDRESS PORT`"""
    address, port = sys.argv[1], int(sys.argv[2])
    commands = Commands()
    Commands.answer(ready=True)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            for command in commands.read():
                try:
                    Commands.answer(**_call(address, port, int(command["count"]), int(command["at_once"])))
                except (OSError, ValueError) as error:
                    Commands.answer(failed=str(error))


if __name__ == "__main__":
    main()
