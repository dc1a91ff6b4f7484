"""A call on its way to the server, and how it can end: what the server said, or why nothing is known.

The order of `Kind` is the order in which calls get a connection where there are too few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from protocols.papercut.calls import Argument, Fault, Value, encode_call
from proxy.commands import Command
from proxy.dialects.papercut.http import CUT, Nonsense, Said, Status
from proxy.events import Moment

PATIENCE = 1.5
"""How many answer timeouts a call lives: contact fails after one, and the call may then go to another address."""


class Kind(IntEnum):
    """Whom a call is for: a person who waits at a device, a probe, a record."""

    LOGIN = 0
    PROBE = 1
    RECORD = 2


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. `written`: the request had been handed to the network, so the server may have carried it out.

    `refused`: the network or the other side refused (refused, reset, unreachable). `timed_out`: nobody said anything.
    `opened`: the connection was open by then.
    """

    words: str
    written: bool = False
    refused: bool = False
    timed_out: bool = False
    opened: bool = True


Ended = Said | Lost
Done = Callable[[Ended, Moment], list[Command]]


@dataclass(slots=True, eq=False)
class Call:
    """One call. `timeout`: seconds from its first sending. `once`: never sent twice, and never over a connection that
    has been idle for long. `fresh`: what came over the kept connections is doubted, so it goes over a new one and they
    go. `began` is when it was first given to the pool.
    """

    kind: Kind
    body: bytes
    done: Done
    timeout: float
    once: bool = False
    fresh: bool = False
    method: str = ""
    began: float = 0.0
    again: bool = False


class Server(Protocol):
    """Who takes calls: the upstream."""

    answer_timeout: float

    @property
    def token(self) -> str:
        """The token of now: it may have changed since the last call of a chain."""

    def submit(self, call: Call, at: Moment) -> list[Command]: ...


def ask(
    server: Server, kind: Kind, done: Done, at: Moment, method: str, *more: Argument, fresh: bool = False
) -> list[Command]:
    """Submit a call that may be sent again without harm. `fresh`: see `Call`."""
    timeout = server.answer_timeout * PATIENCE
    body = encode_call(f"api.{method}", server.token, *more)
    return server.submit(Call(kind, body, done, timeout, fresh=fresh, method=method), at)


def words_of(ended: Fault | Status | Nonsense | Lost) -> str:
    """What went wrong, for a person."""
    if isinstance(ended, Fault):
        return f"the server's fault: {ended.text}"
    return ended.words


def broke(ended: Ended) -> bool:
    """Whether the connection ended before the answer did."""
    if isinstance(ended, Lost):
        return not ended.timed_out
    return isinstance(ended, Nonsense) and ended.reason == CUT


def text_of(value: Value) -> str:
    """A value as the text that it should be; numbers and booleans as the API writes them, None as ""."""
    said = value.value
    if isinstance(said, bool):
        return "true" if said else "false"
    return "" if said is None else str(said) if isinstance(said, str | int | float) else ""


def is_true(value: object) -> bool:
    """Whether a value says yes: some servers answer booleans as text or number."""
    return (
        value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in ("true", "1", "y", "yes"))
    )
