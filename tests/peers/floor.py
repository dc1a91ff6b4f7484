"""A floor of copiers for plain tests: terminals of `terminal.py` on an event loop in a thread of its own.

`Floor.terminal("KM-1")` gives a terminal whose methods wait for their answers, so that a test reads from top to bottom;
its connection reads on while the test does something else. `Floor.run` takes a coroutine for what must go on at once.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Coroutine
from concurrent.futures import Future
from itertools import count
from typing import Any, TypeVar

from tests.peers.terminal import GRANTED, QUERY, UNLOCK, LoginReply, Reply, Terminal, text

T = TypeVar("T")


class Floor:
    """The loop and every terminal that was made on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="floor", daemon=True)
        self._thread.start()
        self._made: list[Standing] = []
        self._numbers: defaultdict[str, count[int]] = defaultdict(lambda: count(1))

    def run(self, work: Coroutine[Any, Any, T], within: float = 60.0) -> T:
        """Do it and wait for what it gives."""
        return self.begin(work).result(within)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin it; the future gives what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def next_number(self, device: str) -> int:
        """A job number that this device has never used, whatever it is connected to."""
        return next(self._numbers[device])

    def terminal(self, port: int, device: str, *, tls: ssl.SSLContext | None = None) -> Standing:
        """A terminal that has said HELLO. Raises Lost."""
        made = Standing(self, Terminal(port, device, tls=tls))
        self._made.append(made)
        self.run(made.terminal.connect())
        return made

    def close(self) -> None:
        """Switch every terminal off and end the loop."""
        for each in self._made:
            each.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


class Standing:
    """A terminal whose every request waits for its reply."""

    def __init__(self, floor: Floor, terminal: Terminal) -> None:
        self.floor, self.terminal = floor, terminal

    def swipe(self, card: str, method: int = 1, secret: str = "", within: float = 5.0) -> LoginReply:
        """Try to log in."""
        return self.floor.run(self.terminal.swipe(card, within, method, secret))

    def log_in(self, card: str, within: float = 5.0) -> int:
        """Log in; gives the session's number."""
        reply = self.swipe(card, within=within)
        assert reply.status == GRANTED, f"{card} was not let in: {reply}"
        return reply.session

    def job(self, session: int, number: int | None = None, within: float = 5.0, **what: object) -> int:
        """Report a job, under a new number if none is given; gives the status of its acknowledgement."""
        if number is None:
            number = self.floor.next_number(self.terminal.device)
        return self.floor.run(self.terminal.job(session, number, within, **what))

    def logout(self, session: int) -> None:
        """End the session."""
        self.floor.run(self.terminal.logout(session))

    def unlock(self, code: str, scope: int = 1) -> tuple[int, int]:
        """Try a code; gives status and retry_after."""
        return self.floor.run(self.terminal.unlock(code, scope, within=15))

    def unlock_at_once(self, *codes: str) -> list[tuple[int, int]]:
        """Try many codes without waiting for answers between them."""

        async def all_of_them() -> list[Reply]:
            tries = [self.terminal.request(UNLOCK, bytes((2,)) + text(code), 20) for code in codes]
            return await asyncio.gather(*tries)

        return [struct.unpack(">BH", reply.payload) for reply in self.floor.run(all_of_them())]

    def query(self, what: int, session: int, argument: str = "") -> tuple[int, list[str]]:
        """Ask for something; gives status and values."""
        payload = bytes((what,)) + struct.pack(">Q", session) + text(argument)
        reply = self.floor.run(self.terminal.request(QUERY, payload))
        values, rest = [], reply.payload[2:]
        for _ in range(reply.payload[1]):
            size = rest[0]
            values.append(rest[1 : 1 + size].decode())
            rest = rest[1 + size :]
        return reply.status, values

    def ping(self) -> int:
        """The state that PONG says."""
        return self.floor.run(self.terminal.ping())

    def close(self) -> None:
        """Switch it off."""
        self.floor.run(self.terminal.close())
