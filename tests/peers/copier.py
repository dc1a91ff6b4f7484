"""A copier in plain sockets: swipes, accounts, and repeats itself as a real NAS does.

A repeat is the same datagram from the same port (RFC 5080 §2.2.1); a `Copier` keeps one socket for each port it talks
to and gives identifiers in turn. Answers are checked against the request; a forged or wrong one fails the test.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

from tests.peers import wire
from tests.peers.ports import LOOPBACK

CODE_NAMES = {2: "accept", 3: "reject", 5: "accounting", 11: "challenge"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, how long after the first sending it came, and how many datagrams were sent for it."""

    packet: wire.Packet
    seconds: float
    sendings: int

    @property
    def kind(self) -> str:
        """accept, reject, challenge or accounting."""
        return CODE_NAMES.get(self.packet.code, str(self.packet.code))

    @property
    def words(self) -> str:
        """Its Reply-Message."""
        return self.packet.text(wire.REPLY_MESSAGE) or ""


class _Line:
    """One UDP socket towards one port, with identifiers in turn."""

    def __init__(self, address: str, port: int, source: str | None) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect((address, port))
        self.identifier = -1

    def next_identifier(self) -> int:
        self.identifier = (self.identifier + 1) % 256
        return self.identifier

    def exchange(self, request: bytes, secret: bytes, wait: float, resend_every: float | None) -> Answer | None:
        began = time.monotonic()
        sendings, next_sending = 0, began
        while (now := time.monotonic()) < began + wait:
            if now >= next_sending:
                self.send(request)
                sendings += 1
                next_sending = now + resend_every if resend_every else began + wait
            self.socket.settimeout(max(0.001, min(next_sending, began + wait) - now))
            try:
                got = self.socket.recv(4096)
            except OSError:
                if resend_every is None and not sendings:
                    return None
                continue
            if got[1] != request[1]:
                continue
            assert wire.is_authentic(got, request, secret), f"an answer that is not authentic: {got.hex()}"
            return Answer(wire.take_apart(got), time.monotonic() - began, sendings)
        return None

    def send(self, request: bytes) -> None:
        try:
            self.socket.send(request)
        except ConnectionRefusedError:
            self.socket.send(request)


@dataclass(slots=True)
class Copier:
    """One NAS. `name` goes out as NAS-Identifier; `source` is its address where it must have one of its own."""

    auth_port: int
    acct_port: int
    secret: bytes
    name: str = "copier-1"
    address: str = LOOPBACK[4]
    source: str | None = None
    extra: bytes = b""
    auth: _Line = field(init=False)
    acct: _Line = field(init=False)

    def __post_init__(self) -> None:
        self.auth = _Line(self.address, self.auth_port, self.source)
        self.acct = _Line(self.address, self.acct_port, self.source)

    def close(self) -> None:
        """Close both sockets."""
        self.auth.socket.close()
        self.acct.socket.close()

    def login_request(
        self, user: str, *, password: bytes | None = None, extra: bytes = b"", sign: bool = True
    ) -> bytes:
        """A fresh Access-Request for one card or user."""
        attributes = (
            wire.attribute(wire.USER_NAME, user) + wire.attribute(wire.NAS_IDENTIFIER, self.name) + self.extra + extra
        )
        return wire.access_request(self.secret, self.auth.next_identifier(), attributes, password=password, sign=sign)

    def swipe(
        self,
        card: str,
        *,
        wait: float = 3.0,
        resend_every: float | None = None,
        password: bytes | None = None,
        extra: bytes = b"",
        sign: bool = True,
    ) -> Answer | None:
        """Log in with a card; None if nothing came within `wait` seconds."""
        request = self.login_request(card, password=password, extra=extra, sign=sign)
        return self.auth.exchange(request, self.secret, wait, resend_every)

    def accounting(
        self,
        status: int,
        session: str = "",
        *,
        user: str = "",
        job: str = "",
        pages: int | None = None,
        extra: bytes = b"",
    ) -> bytes:
        """A fresh Accounting-Request."""
        attributes = wire.attribute(wire.STATUS_TYPE, status) + wire.attribute(wire.NAS_IDENTIFIER, self.name)
        if session:
            attributes += wire.attribute(wire.SESSION_ID, session)
        if user:
            attributes += wire.attribute(wire.USER_NAME, user)
        if job:
            attributes += wire.vendor(wire.JOB_ID, job) + wire.vendor(wire.JOB_KIND, 1)
        if pages is not None:
            attributes += wire.vendor(wire.PAGES, pages)
        return wire.accounting_request(self.secret, self.acct.next_identifier(), attributes + self.extra + extra)

    def account(
        self,
        status: int,
        session: str = "",
        *,
        user: str = "",
        job: str = "",
        pages: int | None = None,
        extra: bytes = b"",
        wait: float = 3.0,
        resend_every: float | None = 1.0,
    ) -> Answer | None:
        """Send an Accounting-Request, repeated each `resend_every` seconds; None if nothing came within `wait`."""
        request = self.accounting(status, session, user=user, job=job, pages=pages, extra=extra)
        return self.acct.exchange(request, self.secret, wait, resend_every)

    def job(self, session: str, number: str, card: str = "0A1B2C3D", pages: int = 3, **how: float | None) -> bool:
        """Report one copy job in an Interim-Update; whether it was acknowledged."""
        wait, resend = how.get("wait", 3.0), how.get("resend_every", 1.0)
        return (
            self.account(
                wire.INTERIM, session, user=card, job=number, pages=pages, wait=wait or 3.0, resend_every=resend
            )
            is not None
        )
