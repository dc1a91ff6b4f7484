"""Logins over RADIUS, the device's side: relayed while the server answers, decided here while it does not.

RFC 2865 section 4, RFC 5080 section 2.2.2 (a repeated request gets the earlier answer again, for ten seconds), RFC 3579
section 3.2 (Message-Authenticator). While grace lasts the device hears nothing, so that it asks again. Left out here:
Access-Challenge of Locum's own, which comes with unlocking.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from protocols.errors import ProtocolError, TooLarge
from protocols.radius.packet import Attributes, Code, Packet, Type, encode
from protocols.radius.request import AccessRequest, Method, read
from protocols.radius.secrets import relayed_request, relayed_response, sign_encoded_response
from proxy.admission import Applicant, Decision, Verdict, decide, normal_card
from proxy.commands import Command, Keep, Send
from proxy.dialects.radius.clients import Asked, device_of
from proxy.dialects.radius.requests import RelayedLogin
from proxy.dialects.radius.upstream import RadiusUpstream
from proxy.events import Channel, Event, Kept, Moment, NotKept, Peer
from proxy.link import State
from proxy.site import Site
from proxy.tally import Tally
from storage.records import Login, Mode, OpenSession, Personal

REMEMBER_ANSWER = 10.0
MOST_ANSWERS = 8192
MOST_OPEN = 16384
SESSION_TIMEOUT = 3600
MARK_SIZE = 16

COPIER = "copier"
NO_PERSON_SERVICES = {2: "Framed", 4: "Callback-Framed", 6: "Administrative", 7: "NAS-Prompt"}
NO_PERSON_SERVICES |= {9: "Callback-NAS-Prompt", 10: "Call-Check", 11: "Callback-Administrative"}
NO_PERSON_PORTS = {15: "Ethernet", 18: "other wireless", 19: "802.11"}
OUTCOMES: dict[int, str] = {
    Code.ACCESS_ACCEPT: "granted",
    Code.ACCESS_REJECT: "refused",
    Code.ACCESS_CHALLENGE: "challenged",
}

Key = tuple[Peer, bytes]


class DeviceLogin(RelayedLogin):
    """One Access-Request of a device, from its first datagram to ten seconds after its last."""

    def __init__(
        self,
        flow: LoginFlow,
        key: Key,
        asked: Asked,
        request: AccessRequest,
        body: bytes,
        at: Moment,
    ) -> None:
        super().__init__(body, asked.packet.authenticator)
        self.flow = flow
        self.key = key
        self.asked = asked
        self.request = request
        self.device = device_of(request.nas_identifier, request.nas_address, asked.peer[0])
        self.last_heard = at.now
        self.decided = False
        self.unavailable = False
        self.try_until = float("inf")

    def answered(self, packet: Packet, data: bytes, at: Moment) -> list[Command]:
        return self.flow.server_answered(self, packet, data, at)


@dataclass(frozen=True, slots=True)
class GrantAsked:
    """Token: an offline grant was to be kept before the device hears of it."""

    login: DeviceLogin
    session: OpenSession
    answer: bytes


class LoginFlow:
    """The logins of one listener. `channel` is its authentication port."""

    def __init__(self, channel: Channel, upstream: RadiusUpstream, site: Site, tally: Tally) -> None:
        self.channel = channel
        self.upstream = upstream
        self.site = site
        self._tally = tally
        self._open: dict[Key, DeviceLogin] = {}
        self._answers: dict[Key, bytes] = {}
        self._answer_ages: deque[tuple[float, Key]] = deque()
        upstream.subscribers.append(self)

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Kept):
            return self._granted(event.token, event.at) if isinstance(event.token, GrantAsked) else []
        if isinstance(event, NotKept):
            return self._not_granted(event)
        return []

    def asked(self, asked: Asked, data: bytes, at: Moment) -> list[Command]:
        """An authentic Access-Request; `data` is the datagram. Raises ProtocolError if it cannot be read."""
        key = (asked.peer, _fresh_part(asked.packet))
        if (answer := self._answers.get(key)) is not None:
            return [Send(self.channel, answer, asked.peer)]
        login = self._open.get(key)
        if login is not None:
            login.last_heard = at.now
            return self._asked_again(login, at)
        if len(self._open) >= MOST_OPEN:
            return self._tally.note("too-many-logins", asked.peer[0], "too many logins at once; some dropped", at.now)
        secret = asked.client.secret
        body = relayed_request(data, asked.packet, secret, self.upstream.settings.secret)
        body = self.upstream.with_proxy_state(body)
        request = read(asked.packet, secret, vendor_id=self.upstream.settings.vendor_id)
        login = self._open[key] = DeviceLogin(self, key, asked, request, body, at)
        seen = self.site.heard(login.device, asked.peer[0], "radius", self.upstream.name, at)
        return self._proceed(login, at) + seen

    def _asked_again(self, login: DeviceLogin, at: Moment) -> list[Command]:
        if login.unavailable and self.upstream.state is not State.OFFLINE:
            login.decided = login.unavailable = False
        return [] if login.decided else self._proceed(login, at)

    def _proceed(self, login: DeviceLogin, at: Moment) -> list[Command]:
        if self.upstream.state is not State.OFFLINE:
            return self.upstream.relay(login, at)
        if login.try_until != float("inf"):
            return self.upstream.relay(login, at)
        if self.upstream.tries_first(at.now):
            login.try_until = at.now + self.upstream.settings.answer_timeout
            return self.upstream.relay(login, at)
        return self._decide(login, at)

    def state_changed(self, at: Moment) -> list[Command]:
        """Offline is reached: logins in flight are decided at once."""
        if self.upstream.state is not State.OFFLINE:
            return []
        undecided = [login for login in self._open.values() if not login.decided]
        return [command for login in undecided for command in self._decide(login, at)]

    def tick(self, at: Moment) -> list[Command]:
        """Decide what the server left unanswered, forget what nobody asks for any more."""
        commands: list[Command] = []
        for login in list(self._open.values()):
            if not login.decided and at.now >= login.try_until:
                login.try_until = float("inf")
                if self.upstream.state is State.OFFLINE:
                    commands += self._decide(login, at)
            if at.now - login.last_heard >= REMEMBER_ANSWER:
                commands += self._give_up(login, at)
        while self._answer_ages and (self._answer_ages[0][0] <= at.now or len(self._answer_ages) > MOST_ANSWERS):
            del self._answers[self._answer_ages.popleft()[1]]
        return commands + [Keep(logout, wait=False) for logout in self.site.sessions.expire(at)]

    def _give_up(self, login: DeviceLogin, at: Moment) -> list[Command]:
        """The device has stopped asking."""
        del self._open[login.key]
        if login.decided:
            return []
        login.decided = True
        self.upstream.forget(login)
        return [self._ledger(login, "unanswered", "nobody", login.trouble or "the server did not answer", at)]

    def server_answered(self, login: DeviceLogin, packet: Packet, data: bytes, at: Moment) -> list[Command]:
        """The server's own answer: it goes back as it came, and teaches the card memory."""
        outcome = OUTCOMES.get(packet.code)
        if outcome is None:
            words = f"{self.upstream.name}: a login was answered with code {packet.code}; dropped"
            return self._tally.note("answer-code", self.upstream.name, words, at.now)
        reason = _text(packet.get(Type.REPLY_MESSAGE))
        if login.decided:
            return [self._ledger(login, outcome, "server", reason, at, late=True)]
        try:
            secrets = (self.upstream.settings.secret, login.asked.client.secret)
            body = relayed_response(data, packet, login.authenticator, secrets, self.upstream.proxy_state)
            answer = self._sign(login, packet.code, body)
        except ProtocolError as error:
            return self._tally.note(error.reason, self.upstream.name, f"an answer cannot be passed on: {error}", at.now)
        if outcome == "granted":
            self.site.logged_in_online(login.device, normal_card(login.request.user_name))
        ended = self.site.sessions.end(login.device, "next-login", at) if outcome == "granted" else []
        return [
            self._answer(login, answer, at),
            self._ledger(login, outcome, "server", reason, at),
            *(Keep(logout, wait=False) for logout in ended),
        ]

    def _decide(self, login: DeviceLogin, at: Moment) -> list[Command]:
        login.decided = True
        self.upstream.forget(login)
        applicant = self._applicant(login)
        facts = self.site.facts(applicant.card) if applicant.card else None
        decision = decide(self.site.policy_for(login.device), applicant, facts, at.wall)
        if decision.verdict is Verdict.GRANT:
            return self._grant(login, decision, applicant.card, at)
        kept = self._ledger(login, decision.verdict.value, "locum", decision.reason, at)
        if decision.verdict is Verdict.UNAVAILABLE:
            login.unavailable = True
            return [kept]
        line = (Type.REPLY_MESSAGE, decision.line.encode())
        answer = self._sign(login, Code.ACCESS_REJECT, encode((line, *login.asked.proxy_states())))
        return [kept, self._answer(login, answer, at)]

    def _grant(self, login: DeviceLogin, decision: Decision, card: str, at: Moment) -> list[Command]:
        mark = at.random(MARK_SIZE, f"mark {login.device} {login.asked.packet.identifier} {card}")
        expires = at.wall + SESSION_TIMEOUT * 1000
        session = OpenSession(mark.hex(), login.device, self.upstream.name, card, at.wall, expires, Mode.OFFLINE)
        attributes: Attributes = (
            (Type.REPLY_MESSAGE, decision.line.encode()),
            (Type.CLASS, mark),
            (Type.SESSION_TIMEOUT, SESSION_TIMEOUT.to_bytes(4, "big")),
            *login.asked.proxy_states(),
        )
        try:
            answer = self._sign(login, Code.ACCESS_ACCEPT, encode(attributes))
        except TooLarge as error:
            return self._tally.note(error.reason, login.asked.peer[0], f"no answer fits: {error}", at.now)
        kept = self._ledger(login, "granted", "locum", decision.reason, at, session=session)
        accept = Send(self.channel, answer, login.asked.peer)
        return [Keep(kept.change, self, GrantAsked(login, session, answer), then=(accept,))]

    def _granted(self, token: GrantAsked, at: Moment) -> list[Command]:
        self._settle(token.login, token.answer, at)
        self.site.logged_out_online(token.login.device)
        return [Keep(logout, wait=False) for logout in self.site.sessions.begin(token.session, at)]

    def _not_granted(self, event: NotKept) -> list[Command]:
        if not isinstance(event.token, GrantAsked):
            return []
        text = f"a login was not granted, because it could not be stored: {event.error}"
        event.token.login.decided = False
        device = event.token.login.device
        return self._tally.note("grant-not-kept", device, text, event.at.now)

    def _applicant(self, login: DeviceLogin) -> Applicant:
        request, client = login.request, login.asked.client
        why_not = ""
        if client.role != COPIER:
            why_not = f"a client in the role {client.role}"
        elif request.method is Method.EAP:
            why_not = "EAP"
        elif request.service_type in NO_PERSON_SERVICES:
            why_not = f"service type {NO_PERSON_SERVICES[request.service_type]}"
        elif login.asked.packet.get(Type.FRAMED_PROTOCOL) is not None:
            why_not = "a framed protocol"
        elif len(login.asked.packet.get_all(Type.USER_NAME)) > 1:
            why_not = "more than one User-Name"
        elif request.nas_port_type in NO_PERSON_PORTS:
            why_not = f"port type {NO_PERSON_PORTS[request.nas_port_type]}"
        elif self.site.pinned_elsewhere(login.device, login.asked.peer[0]):
            why_not = "the device is pinned to another address"
        return Applicant(not why_not, why_not, self._card(login))

    def _card(self, login: DeviceLogin) -> str:
        """The card number, or "" if this is not a swipe card."""
        request = login.request
        if not self.site.policy_for(login.device).card_pattern.fullmatch(request.user_name):
            return ""
        if request.method is Method.EAP:
            return ""
        if request.method is not Method.NONE and not login.asked.client.ignore_password_offline:
            return ""
        return normal_card(request.user_name)

    def _sign(self, login: DeviceLogin, code: int, body: bytes) -> bytes:
        asked = login.asked
        return sign_encoded_response(
            code,
            asked.packet.identifier,
            body,
            asked.packet.authenticator,
            asked.client.secret,
            message_authenticator=asked.signed,
        )

    def _answer(self, login: DeviceLogin, answer: bytes, at: Moment) -> Send:
        self._settle(login, answer, at)
        return Send(self.channel, answer, login.asked.peer)

    def _settle(self, login: DeviceLogin, answer: bytes, at: Moment) -> None:
        """From here on a repeated request gets this answer again."""
        self._open.pop(login.key, None)
        if login.key not in self._answers:
            self._answer_ages.append((at.now + REMEMBER_ANSWER, login.key))
        self._answers[login.key] = answer

    def _ledger(
        self,
        login: DeviceLogin,
        outcome: str,
        decided_by: str,
        reason: str,
        at: Moment,
        *,
        session: OpenSession | None = None,
        late: bool = False,
    ) -> Keep:
        card = self._card(login)
        name = login.request.user_name
        teaches = bool(card) and decided_by == "server" and outcome in ("granted", "refused")
        if teaches:
            self.site.learn(card, granted=outcome == "granted", user="", wall=at.wall)
        change = Login(
            at=at.wall,
            dialect="radius",
            upstream=self.upstream.name,
            device=login.device,
            client=login.asked.peer[0],
            method=(Method.CARD if card else login.request.method).value,
            outcome=outcome,
            decided_by=decided_by,
            reason=reason,
            mode=Mode.OFFLINE if decided_by == "locum" else Mode.ONLINE,
            personal=Personal(card=card) if card else Personal(user=name),
            session=session.session if session else "",
            expires_at=session.expires_at if session else None,
            late=late,
            teaches=teaches,
        )
        return Keep(change, wait=False)


def _fresh_part(packet: Packet) -> bytes:
    """What tells a repeated request from another of the same client and port (RFC 5080 section 2.2.2)."""
    return bytes((packet.identifier,)) + packet.authenticator


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value else ""
