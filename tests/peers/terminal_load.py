"""Many terminals at once, for benchmarks: hundreds of connections in one process of its own, plain struct and zlib.

Every frame is built before the clock starts. Each connection has a queue of requests and keeps `outstanding` of them on
the wire; with `rate`, requests leave at their times whatever was answered (an open loop, so that a slow answer does not
slow the asking). Written from the dialect's description alone; `python -m tests.peers.terminal_load` is the process,
`TerminalLoad` the test's end.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import time
import zlib
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from tests.peers.child import Child, Commands
from tests.peers.ports import LOOPBACK
from tests.peers.terminal import HEAD, HELLO, JOB, LOGIN, QUERY, REPLY, frame, hello, job, login, text

PATIENCE = 30.0
_TAIL = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a load. `statuses` counts the status of each reply; times in seconds."""

    count: int
    seconds: float
    p50: float
    p99: float
    worst: float
    statuses: dict[int, int]
    processor: float

    @property
    def rate(self) -> float:
        """Replies a second."""
        return self.count / self.seconds


class TerminalLoad(Child):
    """`count` terminals, connected and welcomed when the constructor returns. Each command returns when all is
    answered, and fails if that takes far too long.
    """

    def __init__(self, port: int, count: int, name: str = "load") -> None:
        super().__init__("tests.peers.terminal_load", [str(port), str(count), name])

    def logins(self, count: int, *, cards: int, rate: float = 0.0) -> Answered:
        """Swipes, over the connections in turn; the sessions are what `jobs` names."""
        return self._run(kind="login", count=count, cards=cards, rate=rate)

    def jobs(self, count: int, *, outstanding: int = 1) -> Answered:
        """Jobs of three pages, over the connections in turn, numbered on."""
        return self._run(kind="job", count=count, outstanding=outstanding)

    def queries(self, count: int, *, rate: float = 0.0) -> Answered:
        """Questions for the balance, over the connections in turn."""
        return self._run(kind="query", count=count, rate=rate)

    def _run(self, **command: object) -> Answered:
        told = self.tell(**command)
        if "failed" in told:
            raise RuntimeError(f"the terminals: {told['failed']}")
        told["statuses"] = {int(status): number for status, number in told["statuses"].items()}
        return Answered(**told)


class _Line:
    """A terminal's connection."""

    __slots__ = ("buffer", "device", "job", "queue", "sent", "sequence", "session", "socket")

    def __init__(self, port: int, device: str) -> None:
        self.device = device
        self.socket = socket.create_connection((LOOPBACK[4], port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sequence = 1
        self.session = 0
        self.job = 0
        self.queue: deque[tuple[int, bytes]] = deque()
        self.sent: dict[int, float] = {}

    def welcome(self) -> None:
        """Say HELLO and wait for WELCOME, still blocking."""
        self.socket.sendall(frame(HELLO, 1, hello(self.device)))
        while True:
            self.receive()
            for kind, _, payload in self.frames():
                if kind != HELLO | REPLY:
                    raise OSError(f"no WELCOME for {self.device}: {kind:#x} {payload!r}")
                self.socket.setblocking(False)
                return

    def receive(self) -> None:
        got = self.socket.recv(65536)
        if not got:
            raise OSError(f"{self.device}: the connection was closed")
        self.buffer += got

    def frames(self) -> list[tuple[int, int, bytes]]:
        """The complete frames that have come: type, sequence, payload."""
        data, at, found = self.buffer, 0, []
        while len(data) - at >= HEAD.size:
            magic, _, kind, sequence, length = HEAD.unpack_from(data, at)
            end = at + HEAD.size + length
            if len(data) < end + 4:
                break
            if magic != b"CT" or _TAIL.unpack_from(data, end)[0] != zlib.crc32(data[at:end]):
                raise OSError(f"{self.device}: a broken frame")
            found.append((kind, sequence, data[at + HEAD.size : end]))
            at = end + 4
        self.buffer = data[at:]
        return found

    def add(self, kind: int, payload: bytes) -> None:
        """One more request for the queue."""
        self.sequence += 1
        self.queue.append((self.sequence, frame(kind, self.sequence, payload)))

    def send(self) -> None:
        """The next of the queue. Frames are small: the kernel takes them whole."""
        sequence, data = self.queue.popleft()
        self.sent[sequence] = time.perf_counter()
        self.socket.sendall(data)


class _Floor:
    """All terminals."""

    def __init__(self, port: int, count: int, name: str) -> None:
        self.poll = select.epoll()
        self.lines: list[_Line] = []
        self.by_number: dict[int, _Line] = {}
        for number in range(count):
            line = _Line(port, f"{name}-{number:04d}")
            line.welcome()
            self.lines.append(line)
            self.by_number[line.socket.fileno()] = line
            self.poll.register(line.socket.fileno(), select.EPOLLIN)

    def obey(self, command: dict[str, Any]) -> dict[str, object]:
        """Build what is wanted, run it, and say how it went."""
        kind, count = str(command["kind"]), int(command["count"])
        turn = [self.lines[at % len(self.lines)] for at in range(count)]
        now = int(time.time() * 1000)
        for at, line in enumerate(turn):
            if kind == "login":
                line.add(LOGIN, login(f"{0xCA000000 + at % int(command['cards']):08X}"))
            elif kind == "job":
                line.job += 1
                line.add(
                    JOB,
                    job(line.session, line.job, pages=3, started=now - 5000, ended=now, document="minutes of March"),
                )
            else:
                line.add(QUERY, struct.pack(">BQ", 1, line.session) + text(""))
        return self.run(turn, int(command.get("outstanding", 1)), float(command.get("rate", 0.0)))

    def run(self, turn: list[_Line], outstanding: int, rate: float) -> dict[str, object]:
        """Send every queue and wait for all replies. `turn`: whose request is the next, with a rate."""
        took: list[float] = []
        statuses: Counter[int] = Counter()
        count, following = len(turn), 0
        used, began = time.process_time(), time.perf_counter()
        if not rate:
            for line in self.lines:
                for _ in range(min(outstanding, len(line.queue))):
                    line.send()
        while len(took) < count:
            now = time.perf_counter()
            pause = 1.0
            if rate:
                while following < count and now >= began + following / rate:
                    turn[following].send()
                    following += 1
                if following < count:
                    pause = max(0.0, began + following / rate - now)
            ready = self.poll.poll(pause)
            if not ready and now - began > PATIENCE + (count / rate if rate else count / 200):
                raise OSError(f"only {len(took)} of {count} were answered")
            for number, _ in ready:
                line = self.by_number[number]
                line.receive()
                now = time.perf_counter()
                for kind, sequence, payload in line.frames():
                    took.append(now - line.sent.pop(sequence))
                    statuses[_status(kind, payload)] += 1
                    if kind == LOGIN | REPLY:
                        line.session = int.from_bytes(payload[1:9])
                    if line.queue and not rate:
                        line.send()
        seconds = time.perf_counter() - began
        took.sort()
        return {
            "count": count,
            "seconds": seconds,
            "p50": took[count // 2],
            "p99": took[int(count * 0.99)],
            "worst": took[-1],
            "statuses": statuses,
            "processor": time.process_time() - used,
        }


def _status(kind: int, payload: bytes) -> int:
    """The status in a reply; an ERROR counts as -1."""
    if not kind & REPLY or kind == 0xFF:
        return -1
    return payload[8] if kind == JOB | REPLY else payload[0]


def main() -> None:
    """`terminal_load PORT COUNT NAME`"""
    floor = _Floor(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    commands = Commands()
    Commands.answer(ready=True)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            for command in commands.read():
                try:
                    Commands.answer(**floor.obey(command))
                except (OSError, KeyError) as error:
                    Commands.answer(failed=str(error))


if __name__ == "__main__":
    main()
