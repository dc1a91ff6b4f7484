"""Erases personal data that is older than `[ledger] keep_personal`, in bites, so that no login waits for it.

Once an hour the ledger is asked to erase what is too old; as long as a bite was full, the next follows a second later.
What the ledger refuses because the clock went far forward within the last day is said once: a day is left to put a
wrong clock right, and then the clock is believed.
"""

from __future__ import annotations

from proxy.commands import Command, Keep, Tell
from proxy.events import Event, Kept, Moment, NotKept
from storage.answers import Erased
from storage.erasure import CLOCK_TRUSTED_AFTER
from storage.records import EraseOld

BITE = 1_000
"""Entries erased in one commit: 4 ms on a ledger of 300,000 entries, beside which a login's commit is no longer."""
AFTER_START = 60.0
BETWEEN_BITES = 1.0
BETWEEN_LOOKS = 3_600.0
_DAY = 24 * 3_600_000
_BITE = "bite"


class Retention:
    """Asks for the erasure of personal data after `keep` milliseconds; None: it is kept for ever."""

    def __init__(self, keep: int | None) -> None:
        self._keep = keep
        self._next: float | None = None
        self._under_way = False
        self._erased = 0
        self._mistrusted = False

    def configure(self, keep: int | None) -> None:
        """Go on with another length of time, from the next look on."""
        self._keep = keep

    def due(self, at: Moment) -> list[Command]:
        """What is to be done by now; to be asked every now and then."""
        if self._next is None:
            self._next = at.now + AFTER_START
        if self._keep is None or self._under_way or at.now < self._next:
            return []
        self._under_way = True
        return [Keep(EraseOld(at.wall, at.wall - self._keep, BITE), self, _BITE, wait=False)]

    def handle(self, event: Event) -> list[Command]:
        """What became of a bite."""
        if not isinstance(event, Kept | NotKept):
            return []
        self._under_way = False
        outcome = event.outcome if isinstance(event, Kept) else None
        if isinstance(outcome, Erased) and outcome.entries >= BITE:
            self._erased += outcome.entries
            self._next = event.at.now + BETWEEN_BITES
            return []
        self._next = event.at.now + BETWEEN_LOOKS
        return self._said(outcome) if isinstance(outcome, Erased) else []

    def _said(self, outcome: Erased) -> list[Command]:
        if outcome.clock_jump:
            told, self._mistrusted = self._mistrusted, True
            return [] if told else [_mistrust(outcome.clock_jump)]
        self._mistrusted = False
        erased, self._erased = self._erased + outcome.entries, 0
        if not erased:
            return []
        return [Tell("info", f"erased the personal data of {erased:,} old entries (keep_personal)", keep=False)]


def _mistrust(jump: int) -> Tell:
    return Tell(
        "warning",
        f"the clock went forward by {jump // _DAY} days: no personal data is erased for being old until "
        f"{CLOCK_TRUSTED_AFTER // 3_600_000} hours after that; if the clock is wrong, set it right before",
    )
