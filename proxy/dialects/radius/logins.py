"""Logins over RADIUS, the device's side: relayed while the server answers, decided here while it does not.

RFC 2865 section 4, RFC 5080 section 2.2.2 (a repeated request gets the earlier answer again, for ten seconds), RFC 3579
section 3.2 (Message-Authenticator). While grace lasts the device hears nothing, so that it asks again. A device whose
offline mode is locked gets an Access-Challenge (RFC 2865 section 4.4), see `challenges.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from protocols.errors import ProtocolError, TooLarge
from protocols.radius.packet import Attributes, Code, Packet, Type, encode
from protocols.radius.request import Method, read
from protocols.radius.secrets import relayed_response, sign_encoded_response
from proxy.admission import CARDS_ONLY_LINE, Applicant, Decision, Verdict, normal_card
from proxy.asking import CardAnswer, CardQuestion
from proxy.commands import Command, Keep, Send
from proxy.dialects.radius.challenges import CHALLENGE_LINE, Challenges, code_of, scope_of
from proxy.dialects.radius.clients import Asked
from proxy.dialects.radius.device_login import DeviceLogin, Key, fresh_part, is_bare, why_no_person
from proxy.dialects.radius.towards import Asking, Towards, TowardsRadius
from proxy.dialects.radius.upstream import RadiusUpstream
from proxy.events import Channel, Event, Kept, Moment, NotKept
from proxy.link import State
from proxy.site import Site
from proxy.tally import Tally
from proxy.unlocking import UnlockAsk
from storage.answers import OpenSession
from storage.records import Login, Mode, Personal

REMEMBER_ANSWER = 10.0
MOST_ANSWERS = 8192
MOST_OPEN = 16384
SESSION_TIMEOUT = 3600
MARK_SIZE = 16
OVER_LINE = "Offline mode is over: swipe again"

OUTCOMES: dict[int, str] = {
    Code.ACCESS_ACCEPT: "granted",
    Code.ACCESS_REJECT: "refused",
    Code.ACCESS_CHALLENGE: "challenged",
}


@dataclass(frozen=True, slots=True)
class GrantAsked:
    """Token: an offline grant was to be kept before the device hears of it."""

    login: DeviceLogin
    session: OpenSession
    answer: bytes


class LoginFlow:
    """The logins of one listener. `channel` is its authentication port; `vendor_id`: where Locum's attributes are."""

    def __init__(self, channel: Channel, towards: Towards, site: Site, tally: Tally, vendor_id: int) -> None:
        self.channel = channel
        self.towards = towards
        self.upstream = towards.upstream
        self.site = site
        self.vendor_id = vendor_id
        self._challenges = Challenges()
        self._tally = tally
        self._open: dict[Key, DeviceLogin] = {}
        self._answers: dict[Key, bytes] = {}
        self._answer_ages: deque[tuple[float, Key]] = deque()
        self.upstream.subscribers.append(self)

    def handle(self, event: Event) -> list[Command]:
        if isinstance(event, Kept):
            return self._granted(event.token, event.at) if isinstance(event.token, GrantAsked) else []
        if isinstance(event, NotKept):
            return self._not_granted(event)
        return []

    def asked(self, asked: Asked, data: bytes, at: Moment) -> list[Command]:
        """An authentic Access-Request; `data` is the datagram. Raises ProtocolError if it cannot be read."""
        key = (asked.peer, fresh_part(asked.packet))
        if (answer := self._answers.get(key)) is not None:
            return [Send(self.channel, answer, asked.peer)]
        login = self._open.get(key)
        if login is not None:
            login.last_heard = at.now
            return self._asked_again(login, at)
        if len(self._open) >= MOST_OPEN:
            return self._tally.note("too-many-logins", asked.peer[0], "too many logins at once; some dropped", at.now)
        body = self.towards.body(asked, data)
        request = read(asked.packet, asked.client.secret, vendor_id=self.vendor_id)
        login = self._open[key] = DeviceLogin(self, key, asked, request, body, at)
        seen = self.site.heard(login.device, asked.peer[0], "radius", self.upstream.name, at)
        if login.holds_code:
            login.unlocking_card = self._card_of(request.user_name, login.device)
            client, name = asked.peer[0], request.user_name
            login.challenged = self._challenges.answered(request.state, login.device, client, name, at)
        return self._proceed(login, at) + seen

    def _asked_again(self, login: DeviceLogin, at: Moment) -> list[Command]:
        if login.unavailable and self._state(login) is not State.OFFLINE:
            login.decided = login.unavailable = False
        return [] if login.decided else self._proceed(login, at)

    def _state(self, login: DeviceLogin) -> State:
        return self.site.state_of(login.device, self.upstream)

    def _proceed(self, login: DeviceLogin, at: Moment) -> list[Command]:
        if login.holds_code:
            return self._code_given(login, at)
        if self._state(login) is not State.OFFLINE or login.try_until != float("inf"):
            return self._relay(login, at)
        if not self.site.in_drill(login.device, self.upstream) and self.upstream.tries_first(at.now):
            login.try_until = at.now + self.upstream.answer_timeout
            return self._relay(login, at)
        return self._decide(login, at)

    def _relay(self, login: DeviceLogin, at: Moment) -> list[Command]:
        card = self._card(login)
        if isinstance(self.towards, TowardsRadius):
            return self.towards.relay(login, Asking(card, login.device, self), at)
        applicant = self._applicant(login)
        if applicant.person and not card:
            return self._refuse(login, CARDS_ONLY_LINE, "no swipe card", "locum", at)
        asking = Asking(login.request.user_name if applicant.person else "", login.device, self)
        return self.towards.relay(login, asking, at)

    def state_changed(self, at: Moment) -> list[Command]:
        """Offline is reached, by an outage or a drill: logins in flight are decided at once."""
        undecided = [login for login in self._open.values() if not login.decided]
        offline = [login for login in undecided if self._state(login) is State.OFFLINE]
        return [command for login in offline for command in self._decide(login, at)]

    def tick(self, at: Moment) -> list[Command]:
        """Decide what the server left unanswered, forget what nobody asks for any more."""
        commands: list[Command] = []
        for login in list(self._open.values()):
            if not login.decided and at.now >= login.try_until:
                login.try_until = float("inf")
                if self._state(login) is State.OFFLINE:
                    commands += self._decide(login, at)
            if at.now - login.last_heard >= REMEMBER_ANSWER:
                commands += self._give_up(login, at)
        while self._answer_ages and (self._answer_ages[0][0] <= at.now or len(self._answer_ages) > MOST_ANSWERS):
            del self._answers[self._answer_ages.popleft()[1]]
        self._challenges.forget_old(at)
        return commands

    def _give_up(self, login: DeviceLogin, at: Moment) -> list[Command]:
        """The device has stopped asking."""
        del self._open[login.key]
        if login.decided:
            return []
        login.decided = True
        self.towards.forget(login)
        return [self._ledger(login, "unanswered", "nobody", login.trouble or "the server did not answer", at)]

    def server_answered(self, login: DeviceLogin, packet: Packet, data: bytes, at: Moment) -> list[Command]:
        """The server's own answer: it goes back as it came, and teaches the card memory."""
        server, outcome = self.towards.upstream, OUTCOMES.get(packet.code)
        if not isinstance(server, RadiusUpstream):
            return []
        if outcome is None:
            words = f"{self.upstream.name}: a login was answered with code {packet.code}; dropped"
            return self._tally.note("answer-code", self.upstream.name, words, at.now)
        reason = _text(packet.get(Type.REPLY_MESSAGE))
        if login.decided:
            return [self._ledger(login, outcome, "server", reason, at, late=True)]
        try:
            secrets = (server.secret_for(login.asked), login.asked.client.secret)
            body = relayed_response(data, packet, login.authenticator, secrets, server.proxy_state)
            answer = self._sign(login, packet.code, body)
        except ProtocolError as error:
            return self._tally.note(error.reason, self.upstream.name, f"an answer cannot be passed on: {error}", at.now)
        if outcome == "granted":
            self.site.logged_in_online(login.device, normal_card(login.request.user_name))
        ended = self.site.end(login.device, "next-login", at) if outcome == "granted" else []
        return [self._answer(login, answer, at), self._ledger(login, outcome, "server", reason, at), *ended]

    def card_answered(self, question: CardQuestion, answer: CardAnswer, at: Moment) -> list[Command]:
        """A server that is asked about cards has said whose it is."""
        login = question.token
        if not isinstance(login, DeviceLogin):
            return []
        if answer.trouble:
            login.asked_about, login.trouble = False, answer.trouble
            return []
        refused = answer.refused or ("" if answer.user else "nobody has this card")
        outcome = "refused" if refused else "granted"
        if login.decided:
            return [self._ledger(login, outcome, "server", refused, at, user=answer.user, late=True)]
        if refused:
            return self._refuse(login, refused, refused, "server", at)
        login.decided = True
        session = self._session(login, self._card(login), Mode.ONLINE, at, user=answer.user)
        accept = self._accept(login, session, "")
        self.site.logged_in_online(login.device, session.card)
        kept = self._ledger(login, outcome, "server", "", at, session=session, user=answer.user)
        return [self._answer(login, accept, at), kept, *self.site.begin(session, self.upstream, at)]

    def _decide(self, login: DeviceLogin, at: Moment) -> list[Command]:
        login.decided = True
        self.towards.forget(login)
        applicant = self._applicant(login)
        if login.unlocking_card:
            applicant = replace(applicant, card=login.unlocking_card)
        decision = self.site.judge(login.device, self.upstream, applicant, at)
        match decision.verdict:
            case Verdict.GRANT:
                return self._grant(login, decision, applicant.card, at)
            case Verdict.UNAVAILABLE:
                login.unavailable = True
                return [self._ledger(login, decision.verdict.outcome, "locum", decision.reason, at)]
            case Verdict.LOCKED:
                return self._challenge(login, decision, at)
            case _:
                return self._refuse(login, decision.line, decision.reason, "locum", at)

    def _refuse(self, login: DeviceLogin, line: str, reason: str, decided_by: str, at: Moment) -> list[Command]:
        login.decided = True
        attribute = (Type.REPLY_MESSAGE, line.encode()[:253])
        answer = self._sign(login, Code.ACCESS_REJECT, encode((attribute, *login.asked.proxy_states())))
        return [self._ledger(login, "refused", decided_by, reason, at), self._answer(login, answer, at)]

    # Unlocking

    def _challenge(self, login: DeviceLogin, decision: Decision, at: Moment) -> list[Command]:
        request = login.request
        state = self._challenges.put(login.device, login.asked.peer[0], request.user_name, at)
        attributes: Attributes = (
            (Type.STATE, state),
            (Type.REPLY_MESSAGE, CHALLENGE_LINE.encode()),
            *login.asked.proxy_states(),
        )
        answer = self._sign(login, Code.ACCESS_CHALLENGE, encode(attributes))
        kept = self._ledger(login, decision.verdict.outcome, "locum", decision.reason, at)
        return [kept, self._answer(login, answer, at)]

    def _code_given(self, login: DeviceLogin, at: Moment) -> list[Command]:
        """The answer to a challenge of ours: the code goes no further than this. If the challenge is out of date or
        another's, the code is not read, and a locked device is asked again.
        """
        login.decided = True
        if self._state(login) is not State.OFFLINE:
            return self._refuse(login, OVER_LINE, "not offline", "locum", at)
        if not login.challenged:
            return self._decide(login, at)
        ask = UnlockAsk(
            login.device,
            self.upstream.name,
            scope_of(login.request.unlock_scope),
            code_of(login.request.password),
            self,
            login,
        )
        return self.site.unlock(ask, self.upstream, at)

    def unlock_answered(self, ask: UnlockAsk, outcome: str, retry_after: int, at: Moment) -> list[Command]:
        """The code was checked; if it was right, the device is unlocked and that is on stable storage."""
        login = ask.token
        if not isinstance(login, DeviceLogin) or login.key not in self._open:
            return []
        if outcome == "unlocked" and self._state(login) is not State.OFFLINE:
            return self._refuse(login, OVER_LINE, "not offline", "locum", at)
        if outcome == "unlocked":
            return self._decide(login, at)
        if outcome == "not-stored":
            login.decided = False
            return []
        wait = f"; try again in {retry_after} s" if retry_after else ""
        line = "Wrong code" if outcome == "wrong-code" else "Too many wrong codes"
        return self._refuse(login, f"{line}{wait}", outcome, "locum", at)

    # Granting

    def _session(self, login: DeviceLogin, card: str, mode: Mode, at: Moment, user: str = "") -> OpenSession:
        mark = at.random(MARK_SIZE, f"mark {login.device} {login.asked.packet.identifier} {card}")
        expires = at.wall + SESSION_TIMEOUT * 1000
        return OpenSession(mark.hex(), login.device, self.upstream.name, card, at.wall, expires, mode, user)

    def _accept(self, login: DeviceLogin, session: OpenSession, line: str) -> bytes:
        attributes: Attributes = (
            *(((Type.REPLY_MESSAGE, line.encode()),) if line else ()),
            (Type.CLASS, bytes.fromhex(session.session)),
            (Type.SESSION_TIMEOUT, SESSION_TIMEOUT.to_bytes(4, "big")),
            *login.asked.proxy_states(),
        )
        return self._sign(login, Code.ACCESS_ACCEPT, encode(attributes))

    def _grant(self, login: DeviceLogin, decision: Decision, card: str, at: Moment) -> list[Command]:
        session = self._session(login, card, self.site.mode_of(login.device, self.upstream), at)
        try:
            answer = self._accept(login, session, decision.line)
        except TooLarge as error:
            self.site.not_begun(login.device)
            return self._tally.note(error.reason, login.asked.peer[0], f"no answer fits: {error}", at.now)
        kept = self._ledger(login, "granted", "locum", decision.reason, at, session=session)
        accept = Send(self.channel, answer, login.asked.peer)
        return [Keep(kept.change, self, GrantAsked(login, session, answer), then=(accept,))]

    def _granted(self, token: GrantAsked, at: Moment) -> list[Command]:
        self._settle(token.login, token.answer, at)
        return self.site.begin(token.session, self.upstream, at)

    def _not_granted(self, event: NotKept) -> list[Command]:
        if not isinstance(event.token, GrantAsked):
            return []
        text = f"a login was not granted, because it could not be stored: {event.error}"
        event.token.login.decided = False
        device = event.token.login.device
        self.site.not_begun(device)
        return self._tally.note("grant-not-kept", device, text, event.at.now)

    def _applicant(self, login: DeviceLogin) -> Applicant:
        why_not = why_no_person(login.asked, login.request)
        if not why_not and self.site.pinned_elsewhere(login.device, login.asked.peer[0]):
            why_not = "the device is pinned to another address"
        return Applicant(not why_not, why_not, self._card(login))

    def _card(self, login: DeviceLogin) -> str:
        """The card number, or "" if this is not a swipe card."""
        return self._card_of(login.request.user_name, login.device) if is_bare(login.asked, login.request) else ""

    def _card_of(self, name: str, device: str) -> str:
        return normal_card(name) if self.site.policy_for(device).card_pattern.fullmatch(name) else ""

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
        user: str = "",
        late: bool = False,
    ) -> Keep:
        card = login.unlocking_card or self._card(login)
        name = login.request.user_name
        teaches = bool(card) and decided_by == "server" and outcome in ("granted", "refused")
        if teaches:
            self.site.learn(card, granted=outcome == "granted", user=user, wall=at.wall)
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
            mode=session.mode if session else self._mode(login, decided_by),
            personal=Personal(card=card, user=user) if card else Personal(user=name),
            session=session.session if session else "",
            expires_at=session.expires_at if session else None,
            late=late,
            teaches=teaches,
        )
        return self.site.gaps.keep(change, self.upstream.name)

    def _mode(self, login: DeviceLogin, decided_by: str) -> Mode:
        return self.site.mode_of(login.device, self.upstream) if decided_by == "locum" else Mode.ONLINE


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "replace") if value else ""
