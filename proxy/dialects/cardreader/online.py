"""Reading along while the server serves the reader: each card, and the server's answer to it.

The bytes themselves pass by unchanged. Answers are taken for those of the oldest card that has none; what comes within
`SETTLES` of the first belongs to it too, for a beep may come several times. An error or a red light is a refusal,
anything else a grant. A card that is swiped again in its session ends it. What the server leaves unanswered for
`answer_timeout` is written down so, and the upstream looks whether its server is there; an answer that comes later is
written down as late, and closed again at the server if Locum has let the card in meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from protocols.cardreader import Answer
from proxy.commands import Command
from proxy.dialects.cardreader.shared import Shared, Swipe
from proxy.events import Moment
from storage.records import Mode

SETTLES = 0.25
LATE_FOR = 60.0
MOST_WAITING = 8


class Waiting:
    """A card that the server was shown. `decided`: given up, or taken over by Locum (`taken`); `begins`: it was no
    logout.
    """

    __slots__ = ("answers", "begins", "decided", "doubted", "settles", "swipe", "taken")

    def __init__(self, swipe: Swipe, begins: bool) -> None:
        self.swipe = swipe
        self.begins = begins
        self.answers: list[Answer] = []
        self.settles = float("inf")
        self.decided = self.taken = False
        self.doubted = False


class Online:
    """The cards of one reader that its server has seen. `show`: show it a card, out of turn."""

    def __init__(self, shared: Shared, show: Callable[[Swipe], list[Command]]) -> None:
        self._shared = shared
        self._show = show
        self._waiting: deque[Waiting] = deque()

    @property
    def undecided(self) -> bool:
        """Whether a card waits for the server's word."""
        return any(not each.decided for each in self._waiting)

    @property
    def empty(self) -> bool:
        """Whether no card waits for anything any more."""
        return not self._waiting

    def swiped(self, swipe: Swipe, at: Moment) -> list[Command]:
        """A card was read, and the server will be shown it."""
        session = self._shared.session
        # What was given up before this one has no answer to come that could be told from this one's.
        self._waiting = deque(each for each in self._waiting if not each.decided)
        commands = [] if len(self._waiting) < MOST_WAITING else self._unanswered(self._waiting.popleft(), at)
        self._waiting.append(Waiting(swipe, session is None or session.card != swipe.card))
        return commands

    def answered(self, answer: Answer, at: Moment) -> None:
        """The server has said something to the reader."""
        if self._waiting:
            first = self._waiting[0]
            first.answers.append(answer)
            first.settles = min(first.settles, at.now + SETTLES)

    def tick(self, at: Moment) -> tuple[list[Command], list[Swipe]]:
        """What time brings; and the cards of which to say at the reader that nobody serves them."""
        commands: list[Command] = []
        unserved: list[Swipe] = []
        while self._waiting and self._waiting[0].settles <= at.now:
            commands += self._settled(self._waiting.popleft(), at)
        timeout = self._shared.upstream.answer_timeout
        for each in list(self._waiting):
            waited = at.now - each.swipe.at
            if each.decided:
                if waited >= LATE_FOR:
                    self._waiting.remove(each)
            elif waited >= timeout and not each.answers:
                each.decided = True
                commands += self._unanswered(each, at)
                unserved.append(each.swipe)
            elif waited >= timeout / 2 and not each.doubted:
                each.doubted = True
                commands += self._shared.upstream.doubted(at)
        return commands, unserved

    def taken_over(self, at: Moment) -> tuple[list[Command], list[Swipe]]:
        """Locum decides from now on: what the server has answered is settled, the other cards are given out."""
        commands: list[Command] = []
        for each in [each for each in self._waiting if each.answers]:
            self._waiting.remove(each)
            commands += self._settled(each, at)
        given = [each for each in self._waiting if not each.decided]
        for each in given:
            each.decided = each.taken = True
        return commands, [each.swipe for each in given]

    def cut(self, at: Moment, *, reader: bool) -> list[Command]:
        """A connection has ended: the server's, from which no late answer comes any more, or the reader's."""
        commands: list[Command] = []
        if reader:
            commands = [command for each in self._waiting if not each.decided for command in self._unanswered(each, at)]
            self._waiting.clear()
        self._waiting = deque(each for each in self._waiting if not each.decided)
        return commands

    def _settled(self, each: Waiting, at: Moment) -> list[Command]:
        shared, swipe, late = self._shared, each.swipe, each.decided
        session = shared.session
        if any(answer.refuses for answer in each.answers):
            # During somebody's session it may only mean that the copier is in use.
            return [shared.ledger(swipe, "refused", "server", "", at, teaches=session is None, late=late)]
        if each.taken or (late and shared.serves):
            kept = shared.ledger(swipe, "granted", "server", "", at, teaches=True, late=True)
            # The same card again ends the session that it has begun there.
            return [kept, *(self._show(swipe) if each.begins else [])]
        if session is not None and session.card == swipe.card:
            return shared.end("logout", at)
        begun = shared.new_session(swipe, Mode.ONLINE, at)
        kept = shared.ledger(swipe, "granted", "server", "", at, begun, teaches=True, late=late)
        return [kept, *shared.begin(begun, at)]

    def _unanswered(self, each: Waiting, at: Moment) -> list[Command]:
        return [self._shared.ledger(each.swipe, "unanswered", "nobody", "the server did not answer", at)]
