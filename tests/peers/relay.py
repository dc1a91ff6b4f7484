"""A bad network between Locum and the server: a UDP relay that drops, delays, swallows and refuses.

`Relay` is the test's end, `python -m tests.peers.relay` the process. Each client address gets its own socket towards
the server, so answers find back. Losses come from a seeded generator. `closed` shuts the front sockets, so that the
kernel itself answers with ICMP port unreachable; a server behind the relay that is dead is met with silence.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence

from tests.peers.child import Child, Commands
from tests.peers.ports import LOOPBACK, free_port


class Relay(Child):
    """A relay in front of `targets` (ports on loopback); `ports[i]` stands for `targets[i]`.

    `round_trip` in seconds is split over both ways; `drop` is the share of datagrams lost, each way.
    """

    def __init__(
        self,
        targets: Sequence[int],
        *,
        drop: float = 0.0,
        round_trip: float = 0.0,
        seed: int = 1,
        address: str = LOOPBACK[4],
    ) -> None:
        self.ports = [free_port() for _ in targets]
        pairs = [f"{front}:{back}" for front, back in zip(self.ports, targets, strict=True)]
        super().__init__("tests.peers.relay", [address, str(seed), *pairs])
        self.tell(drop=drop, delay=round_trip / 2)

    def black_hole(self, hole: bool = True) -> None:
        """Swallow everything, both ways; what was on its way is lost too."""
        self.tell(hole=hole)

    def close(self, closed: bool = True) -> None:
        """Close the front sockets (senders are refused), or open them again."""
        self.tell(closed=closed)

    def counters(self) -> dict[str, int]:
        """Datagrams `there`, `back`, `dropped` and `swallowed` so far."""
        return dict(self.tell())


class _Wire:
    """The relay's process."""

    def __init__(self, address: str, seed: int, pairs: list[tuple[int, int]]) -> None:
        self.address, self.pairs, self.random = address, pairs, random.Random(seed)
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.fronts: dict[int, tuple[socket.socket, int]] = {}
        self.backs: dict[int, tuple[socket.socket, int, tuple[object, ...]]] = {}
        self.known: dict[tuple[int, tuple[object, ...]], socket.socket] = {}
        self.late: deque[tuple[float, int, bytes, tuple[object, ...] | None]] = deque()
        self.drop = self.delay = 0.0
        self.hole = False
        self.count = {"there": 0, "back": 0, "dropped": 0, "swallowed": 0}
        self.open()

    def _bind(self, port: int) -> socket.socket:
        new = socket.socket(self.family, socket.SOCK_DGRAM)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        new.setblocking(False)
        new.bind((self.address, port))
        self.poll.register(new.fileno(), select.EPOLLIN)
        return new

    def open(self) -> None:
        for front, back in self.pairs:
            made = self._bind(front)
            self.fronts[made.fileno()] = (made, back)

    def close(self) -> None:
        fronts, backs = [each[0] for each in self.fronts.values()], [each[0] for each in self.backs.values()]
        for each in (*fronts, *backs):
            self.poll.unregister(each.fileno())
            each.close()
        self.fronts.clear()
        self.backs.clear()
        self.known.clear()
        self.late.clear()

    def obey(self, command: dict[str, object]) -> None:
        if "drop" in command:
            self.drop = float(str(command["drop"]))
        if "delay" in command:
            self.delay = float(str(command["delay"]))
        if "hole" in command:
            self.hole = bool(command["hole"])
            self.late.clear()
        if "closed" in command and bool(command["closed"]) == bool(self.fronts):
            if command["closed"]:
                self.close()
            else:
                self.open()
        Commands.answer(**self.count)

    def _pass_on(self, number: int, datagram: bytes, peer: tuple[object, ...] | None) -> None:
        """Write to socket `number`; `peer` is None for a connected back socket."""
        with contextlib.suppress(OSError):
            if peer is None:
                if number in self.backs:
                    self.backs[number][0].send(datagram)
                    self.count["there"] += 1
            elif number in self.fronts:
                self.fronts[number][0].sendto(datagram, peer)
                self.count["back"] += 1

    def _carry(self, number: int, datagram: bytes, peer: tuple[object, ...] | None) -> None:
        if self.hole:
            self.count["swallowed"] += 1
        elif self.drop and self.random.random() < self.drop:
            self.count["dropped"] += 1
        elif self.delay:
            self.late.append((time.monotonic() + self.delay, number, datagram, peer))
        else:
            self._pass_on(number, datagram, peer)

    def _back_for(self, front: int, port: int, peer: tuple[object, ...]) -> int:
        back = self.known.get((front, peer))
        if back is None:
            back = self._bind(0)
            back.connect((self.address, port))
            self.known[front, peer] = back
            self.backs[back.fileno()] = (back, front, peer)
        return back.fileno()

    def receive(self, number: int) -> None:
        is_front = number in self.fronts
        mine = self.fronts[number][0] if is_front else self.backs[number][0]
        for _ in range(64):
            try:
                datagram, peer = mine.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue
            if is_front:
                self._carry(self._back_for(number, self.fronts[number][1], peer), datagram, None)
            else:
                self._carry(self.backs[number][1], datagram, self.backs[number][2])

    def run(self) -> None:
        commands = Commands()
        Commands.answer(ready=True)
        while True:
            pause = max(0.0, self.late[0][0] - time.monotonic()) if self.late else -1
            for number, _ in self.poll.poll(pause):
                if number == 0:
                    for command in commands.read():
                        self.obey(command)
                elif number in self.fronts or number in self.backs:
                    self.receive(number)
            now = time.monotonic()
            while self.late and self.late[0][0] <= now:
                self._pass_on(*self.late.popleft()[1:])


def main() -> None:
    """`relay ADDRESS SEED FRONT:BACK...`"""
    address, seed, *pairs = sys.argv[1:]
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        _Wire(address, int(seed), [(int(a), int(b)) for a, b in (pair.split(":") for pair in pairs)]).run()


if __name__ == "__main__":
    main()
