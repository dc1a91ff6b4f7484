"""The simulated server's RADIUS face: Access-Request, Accounting-Request and Status-Server. RFC 2865, 2866, 2869, 5997.

The card is the User-Name. An accounting record is answered once it stands in the book, and a record that comes again
is written again, as RADIUS servers do; only the same datagram within five seconds gets the earlier answer (RFC 5080
section 2.2.2).
An Access-Request must carry a Message-Authenticator: without one nobody could tell a wrong secret. Left out: passwords,
EAP, and any answer to what is not authentic.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from twisted.internet.protocol import DatagramProtocol

from appliance.simulator.rows import DecidedLogin, Record
from appliance.simulator.server import ApplicationServer, now_text
from appliance.simulator.state import NewJob
from protocols.errors import Malformed, NotAuthentic, ProtocolError
from protocols.radius import accounting, request
from protocols.radius.packet import Attributes, Code, LocumType, Packet, Type, Vendor, parse
from protocols.radius.request import Method
from protocols.radius.secrets import sign_response, verify_accounting_request, verify_message_authenticator
from protocols.radius.values import text

UNKNOWN_CARD = "This card is not known here"
NO_CREDIT = "There is no credit left on your account"
CARDS_ONLY = "Please use your card"

REMEMBER_ANSWER = 5.0

Peer = tuple[str, int]
Asked = tuple[Peer, int, bytes]
"""Who asked, the identifier and the authenticator: the same datagram again, if it comes again soon."""


class RadiusFace:
    """Two ports at one address, behind one secret."""

    def __init__(self, bind: str, auth_port: int, accounting_port: int, secret: bytes) -> None:
        self.secret = secret
        self.counts: Counter[str] = Counter()
        self._bind = bind
        self._auth_port = auth_port
        self._accounting_port = accounting_port

    def listen(self, server: ApplicationServer, reactor: Any) -> str:
        """Open both ports. Raises CannotListenError."""
        first = reactor.listenUDP(self._auth_port, AuthenticationPort(self, server), interface=self._bind)
        second = reactor.listenUDP(self._accounting_port, AccountingPort(self, server), interface=self._bind)
        ports = f"{first.getHost().port} (authentication) and {second.getHost().port} (accounting)"
        return f"RADIUS at {self._bind}, ports {ports}"

    def summary(self) -> str:
        """How often it did what."""
        return "RADIUS: " + (", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())) or "nothing")


class _Port(DatagramProtocol):
    """What both ports share: framing, Status-Server, answers, and silence for what is wrong."""

    status_answer: Code
    transport: Any = None

    def __init__(self, face: RadiusFace, server: ApplicationServer) -> None:
        self.face = face
        self.server = server

    def datagramReceived(self, datagram: bytes, addr: Peer) -> None:
        peer = addr[:2]
        try:
            packet = parse(datagram)
            if packet.code == Code.STATUS_SERVER:
                self._must_be_signed(datagram, packet)
                self.face.counts["probes"] += 1
                self.answer(self.status_answer, packet, peer)
            else:
                self.take(datagram, packet, peer)
        except ProtocolError as error:
            self.face.counts[f"dropped ({error.reason})"] += 1
            self.server.complain(f"{peer[0]} {error.reason}", f"dropped a datagram from {peer[0]}: {error}")

    def take(self, datagram: bytes, packet: Packet, peer: Peer) -> None:
        raise NotImplementedError

    def answer(self, code: Code, packet: Packet, peer: Peer, attributes: Attributes = ()) -> bytes:
        """Answer a request, and give the answer; Proxy-States go back in order (RFC 2865 section 5.33)."""
        states = tuple((Type.PROXY_STATE, value) for value in packet.get_all(Type.PROXY_STATE))
        datagram = sign_response(
            code,
            packet.identifier,
            (*attributes, *states),
            packet.authenticator,
            self.face.secret,
            message_authenticator=True,
        )
        self.send(datagram, peer)
        return datagram

    def send(self, datagram: bytes, peer: Peer) -> None:
        # None once the port is closed: a commit may end after that.
        if self.transport is not None:
            self.transport.write(datagram, peer)

    def _must_be_signed(self, datagram: bytes, packet: Packet) -> None:
        if not verify_message_authenticator(datagram, packet, self.face.secret):
            raise NotAuthentic("no-message-authenticator", "this server asks for one in every such request")


class AuthenticationPort(_Port):
    """Access-Request: who may copy."""

    status_answer = Code.ACCESS_ACCEPT

    def take(self, datagram: bytes, packet: Packet, peer: Peer) -> None:
        if packet.code != Code.ACCESS_REQUEST:
            raise Malformed("unexpected-code", f"code {packet.code} on the authentication port")
        self._must_be_signed(datagram, packet)
        asked = request.read(packet, self.face.secret)
        granted, words = self._decide(asked.user_name, asked.method)
        user = self.server.state.accounts.of_card(asked.user_name)
        outcome = "granted" if granted else "refused"
        self.face.counts[f"logins {outcome}"] += 1
        device = asked.nas_identifier or asked.nas_address or peer[0]
        name = user.username if user else ""
        self.server.state.changes.append(
            DecidedLogin(now_text(), name, asked.user_name, device, outcome, words, "radius")
        )
        # Nothing rests on what is noted of a login, so nobody waits for it.
        self.server.settle()
        code = Code.ACCESS_ACCEPT if granted else Code.ACCESS_REJECT
        self.answer(code, packet, peer, ((Type.REPLY_MESSAGE, words.encode()),))

    def _decide(self, card: str, method: Method) -> tuple[bool, str]:
        if method is not Method.NONE:
            return False, CARDS_ONLY
        user = self.server.state.accounts.of_card(card)
        if user is None:
            return False, UNKNOWN_CARD
        if not user.may_copy:
            return False, NO_CREDIT
        # A Reply-Message has room for 253 octets, and a name may be cut anywhere but inside a letter.
        return True, f"Welcome, {user.full_name}".encode()[:253].decode("utf-8", "ignore")


class AccountingPort(_Port):
    """Accounting-Request: what was copied."""

    status_answer = Code.ACCOUNTING_RESPONSE

    def __init__(self, face: RadiusFace, server: ApplicationServer) -> None:
        super().__init__(face, server)
        self._mapping = accounting.default_mapping()
        self._being_written: set[Asked] = set()
        self._answered: dict[Asked, tuple[float, bytes]] = {}

    def take(self, datagram: bytes, packet: Packet, peer: Peer) -> None:
        if packet.code != Code.ACCOUNTING_REQUEST:
            raise Malformed("unexpected-code", f"code {packet.code} on the accounting port")
        verify_accounting_request(datagram, packet, self.face.secret)
        asked = (peer, packet.identifier, packet.authenticator)
        self._forget(time.monotonic())
        if (earlier := self._answered.get(asked)) is not None:
            self.send(earlier[1], peer)
        elif asked not in self._being_written:
            self._being_written.add(asked)
            self._keep(packet, peer)
            self.server.settle(lambda kept: self._written(kept, asked, packet))

    def _written(self, kept: bool, asked: Asked, packet: Packet) -> None:
        self._being_written.discard(asked)
        if kept:
            self.face.counts["records"] += 1
            answer = self.answer(Code.ACCOUNTING_RESPONSE, packet, asked[0])
            self._answered[asked] = (time.monotonic() + REMEMBER_ANSWER, answer)

    def _forget(self, now: float) -> None:
        while self._answered:
            oldest = next(iter(self._answered))
            if self._answered[oldest][0] > now:
                return
            del self._answered[oldest]

    def _keep(self, packet: Packet, peer: Peer) -> None:
        told = accounting.read(packet, self._mapping)
        card = told.user_name or ""
        state, job = self.server.state, told.job
        account = state.accounts.of_card(card)
        device = told.nas_identifier or told.nas_address or peer[0]
        record_id = _record_id(packet)
        state.changes.append(
            Record(
                received_at=now_text(),
                event=told.status.value,
                user=account.username if account else "",
                card=card,
                device=device,
                session=told.session_id,
                job_number=job.job_id if job else None,
                kind=job.kind if job else None,
                pages=job.pages if job else None,
                record_id=record_id,
                delay=told.delay,
            )
        )
        if job:
            state.log_job(
                account,
                NewJob(
                    via="radius",
                    device=device,
                    card=card,
                    job_number=job.job_id,
                    kind=job.kind or "",
                    pages=job.pages or 0,
                    color_pages=job.color_pages or 0,
                    record_id=record_id,
                ),
            )


def _record_id(packet: Packet) -> str:
    try:
        return next((text(value) for number, value in packet.vendor(Vendor.LOCUM) if number == LocumType.RECORD_ID), "")
    except Malformed:
        return ""
