"""PING, LOGOUT and QUERY: relayed while the server answers, answered here while it does not, and never left hanging.

LOGOUT is always acknowledged, and a session of Locum's own is never named to the server. Where a request was relayed
and the server's proper reply does not come (the line is down, an ERROR, `answer_timeout`), the device gets the reply
that Locum would have given. A PaperCut server is asked for one thing only, the balance of an online session's card.
"""

from __future__ import annotations

from protocols.errors import ProtocolError
from protocols.terminal.frames import REPLY_BIT, Frame
from protocols.terminal.messages import (
    Logout,
    LogoutAck,
    Message,
    Pong,
    Query,
    QueryResult,
    QueryStatus,
    TerminalState,
    What,
    decode,
)
from proxy.asking import CardAnswer, CardQuestion
from proxy.commands import Command
from proxy.dialects.terminal.connection import Asked, Connection
from proxy.dialects.terminal.shared import Shared, is_locums, mark_of
from proxy.events import Moment
from storage.records import Mode

KNOWN = frozenset(What)
STATES = frozenset(TerminalState)


class SmallRequest(Asked):
    """A PING, LOGOUT or QUERY under way. `own`: what Locum answers if the server does not; None: the state by then."""

    def __init__(self, queries: Queries, connection: Connection, frame: Frame, own: Message | None) -> None:
        super().__init__(connection, frame)
        self.queries = queries
        self.own = own

    def replied(self, reply: Frame, at: Moment) -> list[Command]:
        proper = reply.type == self.frame.type | REPLY_BIT and not isinstance(self.own, LogoutAck)
        if proper and self.own is None and (state := _strange_state(reply)) is not None:
            return self.queries.strange_state(state, at) + self.fall_back()
        return self.pass_on(reply) if proper else self.fall_back()

    def not_relayed(self, why: str, at: Moment) -> list[Command]:
        return self.fall_back()

    def timed_out(self, at: Moment) -> list[Command]:
        return self.fall_back()

    def fall_back(self) -> list[Command]:
        """Locum's own answer."""
        return self.answer(self.own or Pong(self.queries.shared.shown(self.device)))


class Queries:
    """What a device asks besides logins, codes and jobs."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def pinged(self, connection: Connection, frame: Frame, at: Moment) -> list[Command]:
        """The state byte of a server that answers is the server's own."""
        shared, crowded = self.shared, connection.crowded
        asked = SmallRequest(self, connection, frame, None)
        if shared.lines is not None and shared.state(asked.device).relays and not crowded:
            return shared.relay(asked, shared.lines, at)
        return asked.fall_back()

    def strange_state(self, state: int, at: Moment) -> list[Command]:
        """The server has answered a PING with a state that nobody knows: counted, and taken as no answer."""
        upstream = self.shared.upstream.name
        text = f"{upstream}: the server answered PING with state {state}; taken as no answer"
        return self.shared.tally.note("unknown-state", upstream, text, at.now)

    def logged_out(self, connection: Connection, frame: Frame, logout: Logout, at: Moment) -> list[Command]:
        """A drill ends no session of the server's: the server is told of its end all the same."""
        shared = self.shared
        asked = SmallRequest(self, connection, frame, LogoutAck(logout.session))
        ended = shared.site.end_marked(asked.device, mark_of(logout.session), "logout", at)
        if shared.lines is None or not shared.upstream.state.relays or is_locums(logout.session):
            return ended + asked.fall_back()
        relayed = shared.relay(asked, shared.lines, at)
        return ended + relayed + (asked.fall_back() if connection.crowded else [])

    def queried(self, connection: Connection, frame: Frame, query: Query, at: Moment) -> list[Command]:
        """Refused if nobody knows what is asked; not available while the server is away or for offline sessions."""
        shared, away = self.shared, QueryResult(QueryStatus.NOT_OFFLINE_AVAILABLE, ())
        asked = SmallRequest(self, connection, frame, away)
        if query.what not in KNOWN:
            return asked.answer(QueryResult(QueryStatus.REFUSED, ()))
        if not shared.state(asked.device).relays:
            return asked.fall_back()
        if shared.lines is None:
            return self._balance(asked, query, at)
        return asked.fall_back() if is_locums(query.session) else shared.relay(asked, shared.lines, at)

    def _balance(self, asked: SmallRequest, query: Query, at: Moment) -> list[Command]:
        if query.what != What.BALANCE:
            return asked.fall_back()
        session = self.shared.site.sessions.on(asked.device)
        if session is None or session.session != mark_of(query.session):
            return asked.answer(QueryResult(QueryStatus.REFUSED, ()))
        if session.mode is not Mode.ONLINE:
            return asked.fall_back()
        self.shared.deadlines.add(asked, at.now + self.shared.upstream.answer_timeout)
        return self.shared.upstream.ask_card(CardQuestion(session.card, asked.device, self, asked), at)

    def card_answered(self, question: CardQuestion, answer: CardAnswer, at: Moment) -> list[Command]:
        """The server has said how a card stands."""
        asked = question.token
        if not isinstance(asked, SmallRequest):
            return []
        if answer.trouble or answer.balance is None:
            return asked.fall_back()
        return asked.answer(QueryResult(QueryStatus.DONE, (_money(answer.balance),)))


def _strange_state(reply: Frame) -> int | None:
    try:
        message = decode(reply)
    except ProtocolError:
        return -1
    return message.state if isinstance(message, Pong) and message.state not in STATES else None


def _money(hundredths: int) -> str:
    whole, rest = divmod(abs(hundredths), 100)
    return f"{'-' if hundredths < 0 else ''}{whole}.{rest:02d}"
