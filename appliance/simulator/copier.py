"""One copier that speaks RADIUS: people swipe cards at it, copy, and it reports what they did. RFC 2865, 2866, 5080.

It knows one address and one secret and asks until it is answered, as copiers do: the same datagram again after growing
pauses (RFC 5080 section 2.2.1), and for a record that waits longer a new one with the right Acct-Delay-Time (RFC 2866
section 5.2). It gives up on a login after a while, on a record never. It counts for itself what it sent and what was
acknowledged.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.protocol import DatagramProtocol

from protocols.errors import ProtocolError
from protocols.radius.packet import Attributes, Code, LocumType, Packet, Type, Vendor, parse, vendor_attribute
from protocols.radius.secrets import hide_password, sign_accounting_request, sign_request, verify_response
from protocols.radius.values import text

START, STOP, INTERIM, ACCOUNTING_ON = 1, 2, 3, 7
KIND_NUMBERS = {"copy": 1, "print": 2, "scan": 3, "fax": 4}
SAME_DATAGRAM_FOR = 5.0
LONGEST_PAUSE = 4.0

Build = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """What the copier takes for the server: a numeric address, two UDP ports and the secret."""

    address: str
    auth_port: int
    accounting_port: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginAnswer:
    """What came of a swipe: `words` is what the display shows, `marks` the Class values for accounting."""

    granted: bool
    words: str
    marks: tuple[bytes, ...]
    seconds: float


@dataclass(slots=True)
class CopiedJob:
    """A job as the copier counted it. `acknowledged` turns true once somebody took the record for good."""

    device: str
    number: str
    session: str
    card: str
    kind: str
    pages: int
    color_pages: int
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """One person's use of the copier, under the copier's own id."""

    id: str
    card: str
    marks: tuple[bytes, ...]


@dataclass(slots=True)
class _Question:
    datagram: bytes
    authenticator: bytes
    answer: Deferred[Packet | None]
    again: Any = None
    end: Any = None


class Line(DatagramProtocol):
    """One UDP socket towards one port. `sent_again` counts datagrams that were repeated."""

    def __init__(self, reactor: Any, target: Target, port: int, *, source: str = "", first_pause: float = 1.0) -> None:
        self.sent_again = 0
        self._reactor = reactor
        self._secret = target.secret
        self._first_pause = first_pause
        self._identifier = -1
        self._open: dict[int, _Question] = {}
        any_address = "::" if ip_address(target.address).version == 6 else "0.0.0.0"
        self._port = reactor.listenUDP(0, self, interface=source or any_address)
        # Not connected: the reactor closes a connected UDP socket once it hears that nobody is there.
        self._peer = target.address, port

    def ask(self, build: Build, wait: float) -> Deferred[Packet | None]:
        """Send what `build` makes for an identifier until it is answered; None after `wait` seconds without answer."""
        identifier = self._next_identifier()
        datagram = build(identifier)
        question = self._open[identifier] = _Question(datagram, datagram[4:20], Deferred())
        question.end = self._reactor.callLater(wait, self._finish, identifier, None)
        question.again = self._reactor.callLater(self._first_pause, self._send_again, identifier, self._first_pause)
        self._send(datagram)
        return question.answer

    def close(self) -> None:
        """Stop asking; what is open is answered with None."""
        for identifier in list(self._open):
            self._finish(identifier, None)
        self._port.stopListening()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if addr[:2] != self._peer:
            return
        try:
            packet = parse(datagram)
            question = self._open.get(packet.identifier)
            if question is None:
                return
            verify_response(datagram, packet, question.authenticator, self._secret)
        except ProtocolError:
            # Not from one who knows the secret, or an answer to an older question: as if it had not come.
            return
        self._finish(packet.identifier, packet)

    def _next_identifier(self) -> int:
        for _ in range(256):
            self._identifier = (self._identifier + 1) % 256
            if self._identifier not in self._open:
                return self._identifier
        raise RuntimeError("256 requests are open on one socket: a copier asks one thing at a time")

    def _send_again(self, identifier: int, pause: float) -> None:
        question = self._open[identifier]
        pause = min(pause * 2, LONGEST_PAUSE)
        jittered = pause * random.uniform(0.9, 1.1)
        question.again = self._reactor.callLater(jittered, self._send_again, identifier, pause)
        self.sent_again += 1
        self._send(question.datagram)

    def _send(self, datagram: bytes) -> None:
        try:
            self._port.write(datagram, self._peer)
        except OSError:
            # A full buffer or an unreachable net: lost, as a datagram may be, and repeated.
            return

    def _finish(self, identifier: int, packet: Packet | None) -> None:
        question = self._open.pop(identifier)
        for timer in (question.again, question.end):
            if timer.active():
                timer.cancel()
        question.answer.callback(packet)


class Copier:
    """One copier of this name. `run` goes before session ids, so that they are new after a restart of the copier."""

    def __init__(
        self,
        reactor: Any,
        name: str,
        target: Target,
        *,
        run: str = "",
        source: str = "",
        first_pause: float = 1.0,
    ) -> None:
        self.name = name
        self.jobs: list[CopiedJob] = []
        self.records_acknowledged = 0
        self._target = target
        self._run = run
        self._sessions = 0
        self._closed = False
        self._logins = Line(reactor, target, target.auth_port, source=source, first_pause=first_pause)
        self._records = Line(reactor, target, target.accounting_port, source=source, first_pause=first_pause)
        self._one_record = DeferredLock()

    @property
    def sent_again(self) -> int:
        """How many datagrams were repeated."""
        return self._logins.sent_again + self._records.sent_again

    def close(self) -> None:
        """Switch it off: whoever waits for an answer gets none."""
        self._closed = True
        self._logins.close()
        self._records.close()

    async def log_in(self, name: str, *, password: str = "", wait: float = 15.0) -> LoginAnswer | None:
        """Ask whether this card (or user, with a password) may copy; None if nobody answers in `wait` seconds."""
        began = time.monotonic()
        packet = await self._logins.ask(lambda identifier: self._access_request(identifier, name, password), wait)
        if packet is None:
            return None
        words = " ".join(text(value) for value in packet.get_all(Type.REPLY_MESSAGE))
        granted = packet.code == Code.ACCESS_ACCEPT
        return LoginAnswer(granted, words, tuple(packet.get_all(Type.CLASS)), time.monotonic() - began)

    async def is_answered(self, wait: float) -> bool:
        """Whether somebody answers Status-Server on both ports (RFC 5997)."""
        secret = self._target.secret
        for line in (self._logins, self._records):
            probe = await line.ask(lambda identifier: _status_server(identifier, secret), wait)
            if probe is None:
                return False
        return True

    async def power_on(self) -> bool:
        """Tell that the copier starts anew (Accounting-On); whether it was acknowledged."""
        return await self._report(ACCOUNTING_ON, ())

    async def begin(self, card: str, marks: tuple[bytes, ...] = ()) -> Session:
        """Begin a session of somebody who was let in, and report it."""
        self._sessions += 1
        session = Session(f"{self._run}{self._sessions:06d}", card, marks)
        await self._report(START, self._of(session))
        return session

    async def copy(self, session: Session, kind: str, pages: int, color_pages: int = 0) -> CopiedJob:
        """Do a job and report it; returns once it is acknowledged, or the copier is switched off."""
        number = f"{self._run}{len(self.jobs) + 1:06d}"
        job = CopiedJob(self.name, number, session.id, session.card, kind, pages, color_pages)
        self.jobs.append(job)
        job.acknowledged = await self._report(INTERIM, (*self._of(session), *_job_attributes(job)))
        return job

    async def end(self, session: Session) -> bool:
        """End the session and report it; whether that was acknowledged."""
        return await self._report(STOP, self._of(session))

    async def _report(self, status: int, attributes: Attributes) -> bool:
        """Send one record until it is acknowledged, one after the other."""
        happened = time.time()
        attributes = (
            (Type.ACCT_STATUS_TYPE, _number(status)),
            (Type.NAS_IDENTIFIER, self.name.encode()),
            *attributes,
            (Type.EVENT_TIMESTAMP, _number(int(happened))),
        )
        await self._one_record.acquire()
        try:
            while not self._closed:
                delay = _number(max(0, int(time.time() - happened)))
                whole = (*attributes, (Type.ACCT_DELAY_TIME, delay))
                if await self._records.ask(self._accounting_request(whole), SAME_DATAGRAM_FOR) is not None:
                    self.records_acknowledged += 1
                    return True
            return False
        finally:
            self._one_record.release()

    def _accounting_request(self, attributes: Attributes) -> Build:
        return lambda identifier: sign_accounting_request(identifier, attributes, self._target.secret)

    def _access_request(self, identifier: int, name: str, password: str) -> bytes:
        authenticator = os.urandom(16)
        attributes: Attributes = ((Type.USER_NAME, name.encode()), (Type.NAS_IDENTIFIER, self.name.encode()))
        if password:
            hidden = hide_password(password.encode(), authenticator, self._target.secret)
            attributes = (*attributes, (Type.USER_PASSWORD, hidden))
        return sign_request(Code.ACCESS_REQUEST, identifier, authenticator, attributes, self._target.secret)

    def _of(self, session: Session) -> Attributes:
        marks = tuple((Type.CLASS, mark) for mark in session.marks)
        return ((Type.USER_NAME, session.card.encode()), (Type.ACCT_SESSION_ID, session.id.encode()), *marks)


def _status_server(identifier: int, secret: bytes) -> bytes:
    return sign_request(Code.STATUS_SERVER, identifier, os.urandom(16), (), secret)


def _job_attributes(job: CopiedJob) -> Iterator[tuple[int, bytes]]:
    """The job in the attributes of `dictionary.locum`."""
    told = (
        (LocumType.JOB_KIND, _number(KIND_NUMBERS[job.kind])),
        (LocumType.JOB_ID, job.number.encode()),
        (LocumType.PAGES, _number(job.pages)),
        (LocumType.COLOR_PAGES, _number(job.color_pages)),
    )
    return (vendor_attribute(Vendor.LOCUM, number, value) for number, value in told)


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")
