"""Logins at terminals: relayed while the server answers, decided here while it does not.

A terminal server gets the LOGIN on the device's line; its answer goes back unchanged. A PaperCut server is asked whose
card it is, for nothing else can be asked there, and the session number is then Locum's. A login that the server leaves
unanswered for `answer_timeout` is answered "server unavailable", or decided here if the device is offline by then. A
later answer is written down and teaches the card memory; a session that it opened is closed again at the server.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.errors import ProtocolError
from protocols.terminal.frames import Frame, Type
from protocols.terminal.messages import (
    ALL_PERMISSIONS,
    NO_BALANCE,
    OFFLINE_SESSION_BIT,
    Login,
    LoginResult,
    LoginStatus,
    Logout,
    clip,
    decode,
)
from proxy.admission import CARDS_ONLY_LINE, METHOD_LINE, Applicant, Decision, Verdict
from proxy.asking import CardAnswer, CardQuestion
from proxy.commands import Command, Keep, Tell
from proxy.dialects.terminal.connection import Connection
from proxy.dialects.terminal.device_login import METHODS, DeviceLogin, Word, entry_of
from proxy.dialects.terminal.shared import Shared, is_locums, mark_of
from proxy.events import Kept, Moment, NotKept
from proxy.link import State
from storage.answers import OpenSession
from storage.records import Mode

LOCUMS_SESSION = 3600 * 1000
SERVERS_SESSION = 24 * 3600 * 1000
"""How long a session is held open that nobody ends, in milliseconds: Locum's own, and the server's, which is the
server's to end.
"""
UNAVAILABLE_LINE = "The server does not answer: try again"
NO_SUCH_CARD_LINE = "Nobody has this card"
STATUS = {
    Verdict.REFUSE: LoginStatus.REFUSED,
    Verdict.LOCKED: LoginStatus.LOCKED,
    Verdict.METHOD: LoginStatus.METHOD,
    Verdict.UNAVAILABLE: LoginStatus.UNAVAILABLE,
    Verdict.LIMIT: LoginStatus.LIMIT,
}
KNOWN = frozenset(LoginStatus)
OUTCOMES: dict[int, str] = {
    LoginStatus.GRANTED: "granted",
    LoginStatus.LOCKED: "locked",
    LoginStatus.UNAVAILABLE: "unavailable",
}
"""What the ledger calls a server's answer; every other is a refusal."""


@dataclass(frozen=True, slots=True)
class GrantAsked:
    """Token: an offline grant was to be kept before the device hears of it."""

    login: DeviceLogin
    session: OpenSession
    line: str


class Logins:
    """The logins of one listener."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._open: dict[DeviceLogin, None] = {}
        self._granting: dict[str, list[DeviceLogin]] = {}
        self._drawn = 0

    def asked(self, connection: Connection, frame: Frame, message: Login, at: Moment) -> list[Command]:
        """A LOGIN came in."""
        login = DeviceLogin(self, connection, frame, message)
        if message.method not in METHODS:
            cards_only = self._shared.lines is None and self._shared.state(login.device) is not State.OFFLINE
            line = CARDS_ONLY_LINE if cards_only else METHOD_LINE
            return self._refuse(login, LoginStatus.METHOD, line, "unknown method", "locum", at)
        self._open[login] = None
        if self._shared.state(login.device) is State.OFFLINE and not self._tries_first(login, at):
            return self._decide(login, at)
        return self._ask_server(login, at)

    def state_changed(self, at: Moment) -> list[Command]:
        """Offline is reached, by an outage or a drill: logins in flight are decided at once."""
        undecided = [login for login in self._open if not login.decided]
        offline = [login for login in undecided if self._shared.state(login.device) is State.OFFLINE]
        return [command for login in offline for command in self._decide(login, at)]

    def _tries_first(self, login: DeviceLogin, at: Moment) -> bool:
        upstream = self._shared.upstream
        return not self._shared.site.in_drill(login.device, upstream) and upstream.tries_first(at.now)

    # The server

    def _ask_server(self, login: DeviceLogin, at: Moment) -> list[Command]:
        shared = self._shared
        if shared.lines is not None:
            return shared.relay(login, shared.lines, at)
        if not login.card:
            return self._refuse(login, LoginStatus.METHOD, CARDS_ONLY_LINE, "no swipe card", "locum", at)
        shared.deadlines.add(login, at.now + shared.upstream.answer_timeout)
        question = CardQuestion(login.login.credential, login.device, self, login)
        return shared.upstream.ask_card(question, at)

    def server_replied(self, login: DeviceLogin, reply: Frame, at: Moment) -> list[Command]:
        """A terminal server's reply goes back as it came, if it is one."""
        try:
            result = decode(reply)
        except ProtocolError as error:
            return self.no_answer(login, f"its reply cannot be read: {error}", at)
        if not isinstance(result, LoginResult):
            return self.no_answer(login, f"it replied with type 0x{reply.type:02x}", at)
        granted = result.status == LoginStatus.GRANTED
        if granted and is_locums(result.session):
            words = "the server granted a session number with bit 63 set, which is Locum's"
            return self._breach(login, "session-number", words, at)
        if granted and not result.session:
            return self._breach(login, "session-number", "the server granted a login without a session number", at)
        if result.status not in KNOWN:
            return self._breach(login, "unknown-status", f"the server answered LOGIN with status {result.status}", at)
        outcome = OUTCOMES.get(result.status, "refused")
        if login.decided or login.connection.closed:
            return self._late(login, outcome, result, at)
        if outcome == "unavailable" and self._shared.state(login.device) is State.OFFLINE:
            return self._decide(login, at)
        self._done(login)
        session = None
        if granted:
            until = at.wall + SERVERS_SESSION
            session = self._session(login, result.session, Mode.ONLINE, until, at, result.user)
        teaches = result.status in (LoginStatus.GRANTED, LoginStatus.REFUSED)
        kept = self._ledger(login, outcome, "server", result.message, at, session, result.user, teaches=teaches)
        began = self._shared.site.begin(session, self._shared.upstream, at) if session else []
        return [*login.pass_on(reply), kept, *began]

    def card_answered(self, question: CardQuestion, answer: CardAnswer, at: Moment) -> list[Command]:
        """A PaperCut server has said whose card it is."""
        login = question.token
        if not isinstance(login, DeviceLogin):
            return []
        if answer.trouble:
            return self._in_trouble(login, answer.trouble, at)
        refused = answer.refused or ("" if answer.user else NO_SUCH_CARD_LINE)
        outcome = "refused" if refused else "granted"
        if login.decided or login.connection.closed:
            self._done(login)
            return [self._ledger(login, outcome, "server", refused, at, user=answer.user, teaches=True, late=True)]
        if refused:
            return self._refuse(login, LoginStatus.REFUSED, refused, refused, "server", at, answer.user, teaches=True)
        self._done(login)
        number, until = self._number(at), at.wall + LOCUMS_SESSION
        session = self._session(login, number, Mode.ONLINE, until, at, answer.user)
        kept = self._ledger(login, outcome, "server", "", at, session, answer.user, teaches=True)
        balance = NO_BALANCE if answer.balance is None else answer.balance
        result = LoginResult(LoginStatus.GRANTED, number, clip(answer.user), "", balance, ALL_PERMISSIONS)
        return [kept, *self._shared.site.begin(session, self._shared.upstream, at), *login.answer(result)]

    def no_answer(self, login: DeviceLogin, why: str, at: Moment) -> list[Command]:
        """The server will say nothing. An offline device need not wait for that any longer; in other states the login
        waits for its time to be over: offline mode may begin before.
        """
        login.trouble = why
        offline = not login.decided and self._shared.state(login.device) is State.OFFLINE
        return self._decide(login, at) if offline else []

    def timed_out(self, login: DeviceLogin, at: Moment) -> list[Command]:
        """The server has said nothing in time."""
        if login.decided:
            return []
        if self._shared.state(login.device) is State.OFFLINE:
            return self._decide(login, at)
        self._done(login)
        why = login.trouble or "the server did not answer"
        kept = self._ledger(login, "unanswered", "nobody", why, at)
        return [kept, *login.answer(_refusal(LoginStatus.UNAVAILABLE, UNAVAILABLE_LINE))]

    def _in_trouble(self, login: DeviceLogin, trouble: str, at: Moment) -> list[Command]:
        """The server is there, but could not say."""
        login.trouble = trouble
        return self.timed_out(login, at)

    def _late(self, login: DeviceLogin, outcome: str, result: LoginResult, at: Moment) -> list[Command]:
        """Locum has decided meanwhile, or the device has gone."""
        self._done(login)
        teaches = result.status in (LoginStatus.GRANTED, LoginStatus.REFUSED)
        kept = self._ledger(login, outcome, "server", result.message, at, user=result.user, teaches=teaches, late=True)
        lines = self._shared.lines
        if outcome != "granted" or lines is None:
            return [kept]
        # A sequence that no device gets to by counting.
        sequence = 0x80000000 | int.from_bytes(at.random(4, f"late {self._draw()}"), "big")
        payload = result.session.to_bytes(8, "big")
        return [kept, *lines.relay(login.device, Frame(Type.LOGOUT, sequence, payload), Logout(result.session), at)]

    def _breach(self, login: DeviceLogin, reason: str, words: str, at: Moment) -> list[Command]:
        """The server said what no server may say: it must not reach the device, and counts as no answer."""
        upstream = self._shared.upstream.name
        text = f"{upstream}: {words}; taken as no answer"
        told = [
            replace(command, alarm="server") if isinstance(command, Tell) else command
            for command in self._shared.tally.note(reason, upstream, text, at.now)
        ]
        return told + self.no_answer(login, words, at)

    # Locum

    def _decide(self, login: DeviceLogin, at: Moment) -> list[Command]:
        """One at a time on a device: a single-use unlock lets one session in, not as many as were asked for at once."""
        waiting = self._granting.get(login.device)
        if waiting is not None:
            login.decided = True
            waiting.append(login)
            return []
        self._done(login)
        if login.connection.closed:
            return [self._ledger(login, "unanswered", "nobody", "the device has gone", at)]
        shared, card = self._shared, login.card
        if not shared.site.policy_for(login.device).card_pattern.fullmatch(login.login.credential):
            card = ""
        decision = shared.site.judge(login.device, shared.upstream, Applicant(True, "", card), at)
        if decision.verdict is Verdict.GRANT:
            return self._grant(login, decision, at)
        kept = self._ledger(login, decision.verdict.outcome, "locum", decision.reason, at)
        line = decision.line or UNAVAILABLE_LINE
        return [kept, *login.answer(_refusal(STATUS[decision.verdict], line))]

    def _grant(self, login: DeviceLogin, decision: Decision, at: Moment) -> list[Command]:
        self._granting[login.device] = []
        mode = self._shared.site.mode_of(login.device, self._shared.upstream)
        number = self._number(at)
        session = self._session(login, number, mode, at.wall + LOCUMS_SESSION, at)
        kept = self._ledger(login, "granted", "locum", decision.reason, at, session)
        return [Keep(kept.change, self._shared.flow, GrantAsked(login, session, decision.line))]

    def kept(self, token: GrantAsked, event: Kept) -> list[Command]:
        """A grant is on stable storage: the session begins, and the device hears of it."""
        began = self._shared.site.begin(token.session, self._shared.upstream, event.at)
        number = int(token.session.session, 16)
        result = LoginResult(LoginStatus.GRANTED, number, "", clip(token.line), NO_BALANCE, ALL_PERMISSIONS)
        return [*token.login.answer(result), *began, *self._next(token.login.device, event.at)]

    def not_kept(self, token: GrantAsked, event: NotKept) -> list[Command]:
        """Nothing can be stored, so nobody is let in."""
        self._shared.site.not_begun(token.login.device)
        text = f"a login was not granted, because it could not be stored: {event.error}"
        told = self._shared.tally.note("grant-not-kept", token.login.device, text, event.at.now)
        kept = self._ledger(token.login, "unavailable", "locum", "the grant could not be stored", event.at)
        answer = token.login.answer(_refusal(LoginStatus.UNAVAILABLE, UNAVAILABLE_LINE))
        return [*answer, kept, *told, *self._next(token.login.device, event.at)]

    def _next(self, device: str, at: Moment) -> list[Command]:
        waiting = self._granting.pop(device)
        commands: list[Command] = []
        for login in waiting:
            login.decided = False
            offline = self._shared.state(device) is State.OFFLINE
            commands += self._decide(login, at) if offline else self._ask_server(login, at)
        return commands

    # What both need

    def _refuse(
        self,
        login: DeviceLogin,
        status: LoginStatus,
        line: str,
        reason: str,
        decided_by: str,
        at: Moment,
        user: str = "",
        *,
        teaches: bool = False,
    ) -> list[Command]:
        self._done(login)
        kept = self._ledger(login, "refused", decided_by, reason, at, user=user, teaches=teaches)
        return [kept, *login.answer(_refusal(status, line))]

    def _done(self, login: DeviceLogin) -> None:
        login.decided = True
        self._open.pop(login, None)

    def _draw(self) -> int:
        self._drawn += 1
        return self._drawn

    def _number(self, at: Moment) -> int:
        drawn = int.from_bytes(at.random(8, f"session {self._draw()}"), "big")
        return drawn | OFFLINE_SESSION_BIT

    def _session(
        self, login: DeviceLogin, number: int, mode: Mode, expires: int, at: Moment, user: str = ""
    ) -> OpenSession:
        names = (mark_of(number), login.device, self._shared.upstream.name, login.card)
        return OpenSession(*names, at.wall, expires, mode, user)

    def _ledger(
        self,
        login: DeviceLogin,
        outcome: str,
        decided_by: str,
        reason: str,
        at: Moment,
        session: OpenSession | None = None,
        user: str = "",
        *,
        teaches: bool = False,
        late: bool = False,
    ) -> Keep:
        word = Word(outcome, decided_by, reason, user, teaches and bool(login.card), late)
        shared = self._shared
        return shared.site.gaps.keep(entry_of(login, word, session, shared, at), shared.upstream.name)


def _refusal(status: LoginStatus, line: str) -> LoginResult:
    return LoginResult(status, 0, "", clip(line), NO_BALANCE, 0)
