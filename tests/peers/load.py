"""Many requests at once from plain non-blocking sockets: the crowd of copiers in load and crash tests.

Datagrams are built before the clock starts. Request i goes out of socket (i // 256) mod n with identifier i mod 256,
so an answer finds its request by socket and identifier. A request without answer is sent again, byte for byte, each
`resend_after` seconds, and given up after `give_up_after`. Reaches some tens of thousands of requests a second on one
core.
"""

from __future__ import annotations

import hashlib
import heapq
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.peers import wire
from tests.peers.ports import LOOPBACK


@dataclass(slots=True)
class Outcome:
    """What became of a load. `latency[i]` is seconds from first sending to answer, 0.0 while unanswered."""

    total: int
    latency: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    answered: int = 0
    sent: int = 0
    datagrams: int = 0
    forged: int = 0
    given_up: int = 0
    seconds: float = 0.0

    def is_answered(self, index: int) -> bool:
        """Whether request `index` was answered."""
        return self.latency[index] > 0.0

    def answered_indices(self) -> Iterator[int]:
        """The requests that were answered."""
        return (index for index, seconds in enumerate(self.latency) if seconds > 0.0)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which `share` (0 to 1) of the answers came."""
        seen = sorted(seconds for seconds in self.latency if seconds > 0.0)
        return seen[min(len(seen) - 1, int(share * len(seen)))] if seen else float("nan")


class Load:
    """A prepared load; `run` works it off, in this thread or (`start`, `join`) in one of its own.

    `outstanding` requests are on the wire at once; `rate` limits requests a second. With `in_turn`, a request is not
    sent before the one so many before it was answered, as a device does with the records of one session. It ends after
    `within` seconds at the latest; `stop` ends it early, from any thread.
    """

    def __init__(
        self,
        packets: Sequence[bytes],
        port: int,
        secret: bytes,
        *,
        outstanding: int = 64,
        address: str = LOOPBACK[4],
        rate: float | None = None,
        resend_after: float = 1.0,
        give_up_after: float = 20.0,
        within: float = 120.0,
        in_turn: int = 0,
    ) -> None:
        self.in_turn = in_turn
        self.packets = packets
        self.secret = secret
        self.outstanding = outstanding
        self.rate = rate
        self.resend_after = resend_after
        self.give_up_after = give_up_after
        self.within = within
        self.outcome = Outcome(len(packets), [0.0] * len(packets))
        self._sockets = [self._socket(address, port) for _ in range(max(1, -(-outstanding // 128)))]
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @staticmethod
    def _socket(address: str, port: int) -> socket.socket:
        new = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            new.setsockopt(socket.SOL_SOCKET, option, 1 << 21)
        new.connect((address, port))
        new.setblocking(False)
        return new

    def start(self) -> Load:
        """Run in a thread."""
        self._thread = threading.Thread(target=self._run_and_remember, daemon=True)
        self._thread.start()
        return self

    def _run_and_remember(self) -> None:
        try:
            self.run()
        except BaseException as failure:
            self._failure = failure

    def stop(self) -> None:
        """Send nothing more and return from `run` soon."""
        self._stopped = True

    def join(self, within: float = 60.0) -> Outcome:
        """Wait for the thread, raise what it raised, return the outcome."""
        assert self._thread is not None
        self._thread.join(within)
        assert not self._thread.is_alive(), (
            f"the load did not end within {within:g} s: {self.outcome.answered} answered"
        )
        if self._failure is not None:
            raise self._failure
        return self.outcome

    def run(self) -> Outcome:
        """Work the load off."""
        outcome, packets, sockets = self.outcome, self.packets, self._sockets
        count, width = len(packets), len(sockets)
        poll = select.epoll()
        by_number = {}
        for lane, each in enumerate(sockets):
            poll.register(each.fileno(), select.EPOLLIN)
            by_number[each.fileno()] = lane
        pending: list[dict[int, int]] = [{} for _ in sockets]
        first_sent = [0.0] * count
        due: list[tuple[float, int]] = []
        waiting = following = 0
        clock, latency, secret, md5 = time.perf_counter, outcome.latency, self.secret, hashlib.md5
        began = clock()
        while following < count or waiting:
            now = clock()
            if self._stopped or now - began > self.within:
                break
            while following < count and waiting < self.outstanding:
                if self.rate is not None and following >= (now - began) * self.rate:
                    break
                lane, identifier = (following >> 8) % width, following & 255
                if identifier in pending[lane]:
                    break
                if 0 < self.in_turn <= following and not latency[following - self.in_turn]:
                    break
                pending[lane][identifier] = following
                first_sent[following] = now = clock()
                self._send(sockets[lane], packets[following])
                heapq.heappush(due, (now + self.resend_after, following))
                following += 1
                waiting += 1
            for number, _ in poll.poll(0.002 if waiting or self.rate else 0.0):
                lane = by_number[number]
                mine, receive = pending[lane], sockets[lane].recv
                while True:
                    try:
                        got = receive(4096)
                    except BlockingIOError:
                        break
                    except OSError:
                        continue
                    index = mine.get(got[1])
                    if index is None:
                        continue
                    if got[4:20] != md5(got[:4] + packets[index][4:20] + got[20:] + secret).digest():
                        outcome.forged += 1
                        continue
                    del mine[got[1]]
                    waiting -= 1
                    latency[index] = clock() - first_sent[index]
                    outcome.answered += 1
                    outcome.codes[got[0]] += 1
            now = clock()
            while due and due[0][0] <= now:
                index = heapq.heappop(due)[1]
                lane, identifier = (index >> 8) % width, index & 255
                if pending[lane].get(identifier) != index:
                    continue
                if now - first_sent[index] > self.give_up_after:
                    del pending[lane][identifier]
                    waiting -= 1
                    outcome.given_up += 1
                    continue
                self._send(sockets[lane], packets[index])
                heapq.heappush(due, (now + self.resend_after, index))
            outcome.sent = following
            outcome.seconds = now - began
        outcome.seconds = clock() - began
        poll.close()
        for each in sockets:
            each.close()
        return outcome

    def _send(self, lane: socket.socket, datagram: bytes) -> None:
        self.outcome.datagrams += 1
        try:
            lane.send(datagram)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            # The error of an earlier datagram is reported here and clears itself; this one has not gone out yet.
            try:
                lane.send(datagram)
            except OSError:
                return


def logins(
    count: int,
    secret: bytes,
    *,
    card: Callable[[int], str] = lambda i: f"{i:08X}",
    sign: bool = True,
    nas: str = "copier-1",
) -> list[bytes]:
    """`count` Access-Requests, one card each."""
    name = wire.attribute(wire.NAS_IDENTIFIER, nas)
    return [
        wire.access_request(secret, i & 255, wire.attribute(wire.USER_NAME, card(i)) + name, sign=sign)
        for i in range(count)
    ]


def session_and_job(index: int, sessions: int) -> tuple[str, str]:
    """The session and job number of record `index` of `records`: sessions in turn, jobs counted in each."""
    return f"s{index % sessions:05d}", f"{index // sessions:06d}"


def records(count: int, secret: bytes, *, sessions: int = 300, first: int = 0, nas: str = "copier-1") -> list[bytes]:
    """`count` Interim-Updates with a job each, spread over `sessions` sessions in turn."""
    fixed = (
        wire.attribute(wire.STATUS_TYPE, wire.INTERIM)
        + wire.attribute(wire.NAS_IDENTIFIER, nas)
        + wire.vendor(wire.JOB_KIND, 1)
        + wire.vendor(wire.PAGES, 3)
    )
    made = []
    for i in range(first, first + count):
        session, job = session_and_job(i, sessions)
        made.append(
            wire.accounting_request(
                secret,
                (i - first) & 255,
                fixed
                + wire.attribute(wire.SESSION_ID, session)
                + wire.vendor(wire.JOB_ID, job)
                + wire.attribute(wire.USER_NAME, f"{i % sessions:08X}"),
            )
        )
    return made
