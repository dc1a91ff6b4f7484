"""One copier that speaks the terminal dialect: people swipe cards at it, copy, and it reports what they did.

It knows one address, connects again after growing pauses for as long as it is switched on, and then asks everything
anew that was not answered yet, a job under the number that it had: whoever has it already says so. Several requests may
be open at once. It counts for itself what it sent and what was acknowledged, as `copier.py` does for RADIUS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from appliance.simulator.copier import CopiedJob, Session
from appliance.simulator.terminal_line import Line, Lines, TerminalTarget
from protocols.terminal.messages import (
    NO_BALANCE,
    Capability,
    Error,
    Hello,
    Job,
    JobAck,
    JobStatus,
    Kind,
    Login,
    LoginResult,
    LoginStatus,
    Logout,
    LogoutAck,
    Message,
    Method,
    Ping,
    Pong,
    Query,
    QueryResult,
    Scope,
    Unlock,
    UnlockResult,
    Welcome,
    clip,
)

__all__ = ["TerminalCopier", "TerminalLogin", "TerminalTarget"]

LATER = 1.0
EVERYTHING = Capability.CARD_READER | Capability.KEYPAD | Capability.UNLOCK_CODE | Capability.COLOR


@dataclass(frozen=True, slots=True)
class TerminalLogin:
    """What came of a swipe: `words` is what the display shows, `balance` in hundredths, None if it was not told."""

    granted: bool
    words: str
    seconds: float
    status: int
    session: int
    user: str
    balance: int | None
    permissions: int

    @property
    def marks(self) -> tuple[bytes, ...]:
        """What `begin` wants: the session's number."""
        return (self.session.to_bytes(8, "big"),)


@dataclass(slots=True)
class _Request:
    message: Message
    answer: Deferred[Message | None]
    end: Any = None


class TerminalCopier:
    """One copier of this name. `state` is what the other end last said of its server, None before it said anything."""

    def __init__(
        self,
        reactor: Any,
        name: str,
        target: TerminalTarget,
        *,
        first_job: int | None = None,
        capabilities: int = EVERYTHING,
    ) -> None:
        self.name = name
        self.jobs: list[CopiedJob] = []
        self.sent_again = 0
        self.connections = 0
        self.records_acknowledged = 0
        self.errors: list[Error] = []
        self.state: int | None = None
        self._reactor = reactor
        self._hello = Hello(name, "Lab copier", "1", int(capabilities))
        # Microseconds since 1970: no number comes back when the copier is switched on again.
        self._next_job = first_job if first_job is not None else time.time_ns() // 1000
        self._open: dict[int, _Request] = {}
        self._sequence = 0
        self._line: Line | None = None
        self._heart: Any = None
        self._switch_on(target)

    @property
    def connected(self) -> bool:
        """Whether it was welcomed, on the connection that it has now."""
        return self._line is not None

    def close(self) -> None:
        """Switch it off: whoever waits for an answer gets none."""
        self._factory.stop()
        self._stop_heart()
        for sequence in list(self._open):
            self._finish(sequence, None)
        if self._line is not None:
            self._line.transport.abortConnection()
            self._line = None

    def cut(self) -> None:
        """Break the connection, as a cable that is pulled; it connects again by itself."""
        if self._line is not None:
            self._line.transport.abortConnection()

    # --- what people do -------------------------------------------------------------------------------------------

    async def log_in(
        self, name: str, *, password: str = "", wait: float = 15.0, method: int | None = None
    ) -> TerminalLogin | None:
        """Ask whether this card (or user, with a password) may copy; None if nobody answers in `wait` seconds."""
        began = time.monotonic()
        how = method if method is not None else Method.PASSWORD if password else Method.CARD
        reply = await self.ask(Login(how, name, password), wait)
        if not isinstance(reply, LoginResult):
            return None
        return TerminalLogin(
            granted=reply.status == LoginStatus.GRANTED,
            words=reply.message,
            seconds=time.monotonic() - began,
            status=reply.status,
            session=reply.session,
            user=reply.user,
            balance=None if reply.balance == NO_BALANCE else reply.balance,
            permissions=reply.permissions,
        )

    async def unlock(self, code: str, scope: int = Scope.ONCE, *, wait: float = 15.0) -> UnlockResult | None:
        """Give the administrator's code; None if nobody answers."""
        reply = await self.ask(Unlock(scope, code), wait)
        return reply if isinstance(reply, UnlockResult) else None

    async def begin(self, card: str, marks: tuple[bytes, ...] = ()) -> Session:
        """The session of somebody who was let in, with the login's marks; nothing is sent."""
        return Session(str(int.from_bytes(b"".join(marks), "big")), card, marks)

    async def copy(self, session: Session, kind: str, pages: int, color_pages: int = 0) -> CopiedJob:
        """Do a job and report it; returns once it is acknowledged or refused, or the copier is switched off."""
        number, self._next_job = self._next_job, self._next_job + 1
        copied = CopiedJob(self.name, str(number), session.id, session.card, kind, pages, color_pages)
        self.jobs.append(copied)
        now = time.time_ns() // 1_000_000
        job = Job(
            session=int(session.id),
            job=number,
            kind=Kind[kind.upper()],
            started=now,
            ended=now,
            pages=pages,
            color_pages=color_pages,
            sheets=pages,
            copies=1,
            flags=0,
            paper="A4",
            document=clip(f"{kind} {number}"),
            account="",
        )
        copied.acknowledged = await self.report(job) in (JobStatus.STORED, JobStatus.ALREADY)
        self.records_acknowledged += copied.acknowledged
        return copied

    async def report(self, job: Job) -> int | None:
        """Send a job until it is stored or refused; its status, or None if the copier was switched off before."""
        while True:
            reply = await self.ask(job)
            if not isinstance(reply, JobAck):
                return None
            if reply.status != JobStatus.LATER:
                return reply.status
            await deferLater(self._reactor, LATER)

    async def end(self, session: Session) -> bool:
        """Log out; whether that was acknowledged."""
        return isinstance(await self.ask(Logout(int(session.id))), LogoutAck)

    async def ping(self, wait: float = 15.0) -> int | None:
        """What the other end says of its server; None if nobody answers."""
        reply = await self.ask(Ping(), wait)
        return reply.state if isinstance(reply, Pong) else None

    async def is_answered(self, wait: float) -> bool:
        """Whether somebody answers."""
        return await self.ping(wait) is not None

    async def power_on(self) -> bool:
        """Wait until it was welcomed."""
        return await self.ping(wait=60.0) is not None

    async def query(self, what: int, session: Session, argument: str = "", wait: float = 15.0) -> QueryResult | None:
        """Ask for what a server knows of somebody; None if nobody answers."""
        reply = await self.ask(Query(what, int(session.id), argument), wait)
        return reply if isinstance(reply, QueryResult) else None

    def ask(self, message: Message, wait: float | None = None) -> Deferred[Message | None]:
        """Send a request, over as many connections as it takes; its reply, or None after `wait` seconds."""
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        sequence = self._sequence
        request = self._open[sequence] = _Request(message, Deferred())
        if wait is not None:
            request.end = self._reactor.callLater(wait, self._finish, sequence, None)
        if self._line is not None:
            self._line.send(message, sequence)
        return request.answer

    # --- the line -------------------------------------------------------------------------------------------------

    def welcomed(self, line: Line, welcome: Welcome) -> None:
        """A connection is ready: what is open is asked anew, in its order."""
        self._line = line
        self.connections += 1
        self.state = welcome.state
        for sequence, request in list(self._open.items()):
            self.sent_again += self.connections > 1
            line.send(request.message, sequence)
        self._stop_heart()
        if welcome.heartbeat:
            self._heart = self._reactor.callLater(welcome.heartbeat, self._beat, welcome.heartbeat)

    def answered(self, sequence: int, reply: Message) -> None:
        """A reply came."""
        if isinstance(reply, Error):
            self.errors.append(reply)
        if isinstance(reply, Pong):
            self.state = reply.state
        self._finish(sequence, reply)

    def lost(self, line: Line) -> None:
        """The connection is gone."""
        if self._line is line:
            self._line = None
            self._stop_heart()

    def _switch_on(self, target: TerminalTarget) -> None:
        self._factory = Lines(self._reactor, self, self._hello, target)
        self._factory.connect()

    def _beat(self, every: float) -> None:
        self.ask(Ping(), every)
        self._heart = self._reactor.callLater(every, self._beat, every)

    def _stop_heart(self) -> None:
        if self._heart is not None and self._heart.active():
            self._heart.cancel()

    def _finish(self, sequence: int, reply: Message | None) -> None:
        request = self._open.pop(sequence, None)
        if request is not None:
            if request.end is not None and request.end.active():
                request.end.cancel()
            request.answer.callback(reply)
