"""Cards that Locum decides about: granted is two beeps, refused and locked are the reader's error.

One card after the other. Where offline mode asks for a code, a card is first compared with the hash of the unlock card:
one swipe of that is a single use (one beep), two within five seconds, no other card between, hold until the connection
is restored (three beeps). A card that is not it is just a card, and no wrong code: a reader has no keypad to guess at.
The card of the session that is open ends it (one beep); another card ends it too, and is then decided about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.admission import Applicant, Decision, Verdict
from proxy.commands import Command, Keep, Verify
from proxy.dialects.cardreader.shared import Shared, Swipe
from proxy.events import Event, Kept, Moment, NotKept, Verified
from proxy.unlocking import ONCE, UNTIL_RESTORED, UnlockAsk
from storage.answers import OpenSession

TWICE_WITHIN = 5.0
MOST_SWIPES, MOST_WITHIN = 10, 5.0
"""No person swipes faster; a reader that echoes what it is told does."""
ONCE_BEEPS, UNTIL_BEEPS = 1, 3


@dataclass(frozen=True, slots=True)
class GrantAsked:
    """Token: a grant was to be kept before the reader beeps."""

    swipe: Swipe
    session: OpenSession


@dataclass(frozen=True, slots=True)
class CardAsked:
    """Token: a card was to be compared with the unlock card."""

    swipe: Swipe


class Offline:
    """The cards of one reader while the server is away. `say` tells the reader: granted, refused, or so many beeps;
    `pass_on` gives a card to the server, for Locum decides no longer.
    """

    def __init__(
        self,
        shared: Shared,
        say: Callable[[Verdict | int], list[Command]],
        pass_on: Callable[[Swipe, Moment], list[Command]],
    ) -> None:
        self._shared = shared
        self._say = say
        self._pass_on = pass_on
        self._queue: deque[Swipe] = deque()
        self._busy = False
        self._times: deque[float] = deque(maxlen=MOST_SWIPES)
        self._unlock_swiped = float("-inf")

    @property
    def idle(self) -> bool:
        """Whether no card is being decided about."""
        return not self._busy and not self._queue

    def swiped(self, swipe: Swipe, at: Moment) -> list[Command]:
        """A card was read."""
        if len(self._times) == MOST_SWIPES and at.now - self._times[0] < MOST_WITHIN:
            text = f"{self._shared.device}: more than {MOST_SWIPES} cards in {MOST_WITHIN:g} s; the rest was dropped"
            return self._shared.note("too-many-cards", text, at)
        self._times.append(at.now)
        self._queue.append(swipe)
        return self._next(at)

    def handle(self, event: Event) -> list[Command]:
        """A card was compared, or a grant is on stable storage, or could not be stored."""
        match event:
            case Verified(token=CardAsked(swipe), right=right, at=at):
                return self._unlock(swipe, at) if right else self._decide(swipe, at)
            case Kept(token=GrantAsked(session=session), at=at):
                return self._done([*self._say(Verdict.GRANT), *self._shared.begin(session, at)], at)
            case NotKept(token=GrantAsked(swipe=swipe), error=error, at=at):
                return self._done(self._not_kept(swipe, error, at), at)
        return []

    def _next(self, at: Moment) -> list[Command]:
        if self._busy or not self._queue:
            return []
        self._busy, swipe = True, self._queue.popleft()
        site, device = self._shared.site, self._shared.device
        unlock_card = site.unlocking.card_hash
        if self._shared.serves and unlock_card and site.is_locked_kind(device, self._shared.upstream):
            return [Verify(swipe.card, unlock_card, self._shared.flow, CardAsked(swipe))]
        return self._decide(swipe, at)

    def _done(self, commands: list[Command], at: Moment) -> list[Command]:
        self._busy = False
        return commands + self._next(at)

    # The unlock card

    def _unlock(self, swipe: Swipe, at: Moment) -> list[Command]:
        shared = self._shared
        if not shared.serves:
            # The server came back while the card was compared.
            return self._done(self._say(Verdict.REFUSE), at)
        if shared.site.unlocking.scope_on(shared.device) == UNTIL_RESTORED:
            return self._done(self._say(UNTIL_BEEPS), at)
        twice = swipe.at - self._unlock_swiped <= TWICE_WITHIN
        self._unlock_swiped = swipe.at
        scope = UNTIL_RESTORED if twice else ONCE
        ask = UnlockAsk(shared.device, shared.upstream.name, scope, "", self, swipe)
        return shared.site.unlocking.by_card(ask, at)

    def unlock_answered(self, ask: UnlockAsk, outcome: str, retry_after: int, at: Moment) -> list[Command]:
        """The unlock is on stable storage, or could not be stored."""
        if outcome != "unlocked":
            return self._done(self._say(Verdict.REFUSE), at)
        return self._done(self._say(UNTIL_BEEPS if ask.scope == UNTIL_RESTORED else ONCE_BEEPS), at)

    # Logins

    def _decide(self, swipe: Swipe, at: Moment) -> list[Command]:
        shared, session = self._shared, self._shared.session
        self._unlock_swiped = float("-inf")
        commands: list[Command] = []
        if session is not None:
            same = session.card == swipe.card
            commands = shared.end("logout" if same else "next-login", at)
            if same:
                return self._done([*commands, *self._say(1)], at)
        if not shared.serves:
            return self._done(commands + self._pass_on(swipe, at), at)
        fits = shared.site.policy_for(shared.device).card_pattern.fullmatch(swipe.text)
        applicant = Applicant(True, "", swipe.card if fits else "")
        decision = shared.site.judge(shared.device, shared.upstream, applicant, at)
        if decision.verdict is Verdict.GRANT:
            return commands + self._grant(swipe, decision, at)
        kept = shared.ledger(swipe, decision.verdict.outcome, "locum", decision.reason, at)
        return self._done([*commands, kept, *self._say(decision.verdict)], at)

    def _grant(self, swipe: Swipe, decision: Decision, at: Moment) -> list[Command]:
        shared = self._shared
        session = shared.new_session(swipe, shared.site.mode_of(shared.device, shared.upstream), at)
        kept = shared.ledger(swipe, "granted", "locum", decision.reason, at, session)
        return [Keep(kept.change, shared.flow, GrantAsked(swipe, session))]

    def _not_kept(self, swipe: Swipe, error: str, at: Moment) -> list[Command]:
        """Nothing can be stored, so nobody is let in."""
        shared = self._shared
        shared.site.not_begun(shared.device)
        text = f"a card was not let in, because that could not be stored: {error}"
        kept = shared.ledger(swipe, "unavailable", "locum", "the grant could not be stored", at)
        return [*self._say(Verdict.UNAVAILABLE), kept, *shared.note("grant-not-kept", text, at)]
