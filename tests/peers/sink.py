"""A server that is faster than anything it serves: for benchmarks, where FreeRADIUS itself would be the limit.

Answers Access-Request with Accept (card number F00D...: Reject), Accounting-Request and Status-Server; Proxy-State
comes back in order (RFC 2865 §5.33). It checks nothing and remembers, in memory, which (session, job) came how often
and whether jobs of a session came in order. `delay` holds each answer, for a round trip without a relay's cost.
`python -m tests.peers.sink` is the process; `Sink` the test's end.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import select
import socket
import sys
import time
from collections import deque
from typing import Any

from tests.peers.child import Child, Commands
from tests.peers.ports import LOOPBACK, free_port

_JOB_HEAD = bytes((0, 0, 126, 217, 2))  # Vendor-Id 32473, vendor type 2 (Locum-Job-Id)


class Sink(Child):
    """A sink on two ports, of loopback if not told otherwise."""

    def __init__(
        self,
        secret: str = "server-secret",
        *,
        delay: float = 0.0,
        sign: bool = True,
        ports: tuple[int, int] | None = None,
        address: str = LOOPBACK[4],
    ) -> None:
        self.auth_port, self.acct_port = ports or (free_port(), free_port())
        self.secret = secret.encode()
        super().__init__(
            "tests.peers.sink",
            [str(self.auth_port), str(self.acct_port), secret, str(delay), "signed" if sign else "unsigned", address],
        )

    def book(self, *, whole: bool = False) -> dict[str, Any]:
        """What it got: `logins`, `records`, `distinct`, `repeats`, `disorder`, `first`, `last`; `jobs` if `whole`."""
        return self.tell(whole=whole)

    def forget(self) -> None:
        """Start counting anew."""
        self.tell(forget=True)

    def delay_answers(self, seconds: float) -> None:
        """Hold each answer from now on."""
        self.tell(delay=seconds)


class _Book:
    def __init__(self) -> None:
        self.logins = self.records = self.disorder = 0
        self.jobs: dict[tuple[bytes, bytes], int] = {}
        self.latest: dict[bytes, bytes] = {}
        self.first = self.last = 0.0

    def note(self, datagram: bytes) -> None:
        session = job = b""
        at, end = 20, len(datagram)
        while at < end:
            size = datagram[at + 1]
            if size < 2:
                return
            number = datagram[at]
            if number == 44:
                session = datagram[at + 2 : at + size]
            elif number == 26 and datagram[at + 2 : at + 7] == _JOB_HEAD:
                job = datagram[at + 8 : at + size]
            at += size
        self.records += 1
        self.last = time.monotonic()
        if not self.first:
            self.first = self.last
        key = (session, job)
        seen = self.jobs.get(key, 0)
        self.jobs[key] = seen + 1
        if not seen:
            if job < self.latest.get(session, b""):
                self.disorder += 1
            self.latest[session] = job

    def summary(self, whole: bool) -> dict[str, object]:
        told: dict[str, object] = {
            "logins": self.logins,
            "records": self.records,
            "distinct": len(self.jobs),
            "repeats": self.records - len(self.jobs),
            "disorder": self.disorder,
            "first": self.first,
            "last": self.last,
        }
        if whole:
            told["jobs"] = [[s.decode(), j.decode(), n] for (s, j), n in self.jobs.items()]
        return told


def _answer(datagram: bytes, secret: bytes, sign: bool) -> bytes:
    code = 5 if datagram[0] == 4 else 2
    state, at, end, rejected = b"", 20, len(datagram), False
    while at < end:
        size = datagram[at + 1]
        if size < 2:
            break
        if datagram[at] == 33:
            state += datagram[at : at + size]
        elif datagram[at] == 1 and datagram[at + 2 : at + 6] == b"F00D":
            rejected = True
        at += size
    if code == 2 and rejected:
        code = 3
    front = b""
    if sign and code != 5:
        front = b"\x50\x12" + bytes(16)
    head = bytes((code, datagram[1])) + (20 + len(front) + len(state)).to_bytes(2)
    if front:
        mac = hmac.digest(secret, head + datagram[4:20] + front + state, "md5")
        front = b"\x50\x12" + mac
    return head + hashlib.md5(head + datagram[4:20] + front + state + secret).digest() + front + state


def _listen(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    made.setblocking(False)
    made.bind((address, port))
    return made


def _serve(sockets: list[socket.socket], secret: bytes, delay: float, sign: bool) -> None:
    poll = select.epoll()
    poll.register(0, select.EPOLLIN)
    by_number = {each.fileno(): each for each in sockets}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    book, commands = _Book(), Commands()
    late: deque[tuple[float, socket.socket, bytes, Any]] = deque()
    Commands.answer(ready=True)
    while True:
        pause = max(0.0, late[0][0] - time.monotonic()) if late else -1
        for number, _ in poll.poll(pause):
            if number == 0:
                for command in commands.read():
                    delay = float(command.get("delay", delay))
                    if command.get("forget"):
                        book = _Book()
                    Commands.answer(**book.summary(bool(command.get("whole"))))
                continue
            mine = by_number[number]
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    datagram, peer = mine.recvfrom(4096)
                    if datagram[0] == 4:
                        book.note(datagram)
                    elif datagram[0] == 1:
                        book.logins += 1
                    answer = _answer(datagram, secret, sign)
                    if delay:
                        late.append((time.monotonic() + delay, mine, answer, peer))
                    else:
                        mine.sendto(answer, peer)
        now = time.monotonic()
        while late and late[0][0] <= now:
            _, mine, answer, peer = late.popleft()
            mine.sendto(answer, peer)


def main() -> None:
    """`sink AUTH_PORT ACCT_PORT SECRET DELAY signed|unsigned ADDRESS`"""
    auth, acct, secret, delay, sign, address = sys.argv[1:]
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        sockets = [_listen(address, int(port)) for port in (auth, acct)]
        _serve(sockets, secret.encode(), float(delay), sign == "signed")


if __name__ == "__main__":
    main()
