"""What a card may overrun while nobody checks its balance: pages, sessions, and the outage as a whole.

Counted per outage of an upstream and normalised card; drills count apart. A limit is checked when a session would
begin, so a job that is under way is never cut off. At 80 % the admin is told, once for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.admission import Policy
from proxy.commands import Command, Tell
from storage.answers import Overrun
from storage.records import NOBODY, Personal

WARN_AT = 0.8
MOST_CARDS = 200_000


@dataclass(slots=True)
class Used:
    """What a card has used. `told`: the limits that the admin was warned of; `before`: pages and sessions that an
    earlier run counted, and warned of.
    """

    pages: int = 0
    sessions: int = 0
    told: tuple[str, ...] = ()
    before: tuple[int, int] = (0, 0)


class Limits:
    """The counts, by upstream (or drill) and card. `max_outage_hours`: None, no limit."""

    def __init__(self) -> None:
        self.max_outage_hours: int | None = None
        self._used: dict[str, dict[str, Used]] = {}
        self._promised: dict[str, list[tuple[str, str]]] = {}
        self._hours_told: set[str] = set()

    def restore(self, group: str, overruns: Iterable[Overrun]) -> None:
        """What the ledger knows of the outage that still runs."""
        self._used[group] = {
            each.card: Used(each.pages, each.sessions, before=(each.pages, each.sessions)) for each in overruns
        }

    def forget(self, group: str) -> None:
        """The outage, or the drills, are over."""
        self._used.pop(group, None)
        self._hours_told.discard(group)

    def knows(self, group: str, card: str) -> bool:
        """Whether a session was granted to this card."""
        return card in self._used.get(group, {})

    def reached(self, policy: Policy, group: str, card: str, outage_seconds: float) -> str:
        """Which limit stands against another session, in words; "" none."""
        used = self._used.get(group, {}).get(card, _NOTHING)
        sessions = used.sessions + sum(each.count((group, card)) for each in self._promised.values())
        if policy.max_pages_per_card is not None and used.pages >= policy.max_pages_per_card:
            return f"the limit of {policy.max_pages_per_card} pages for a card is reached"
        if policy.max_sessions_per_card is not None and sessions >= policy.max_sessions_per_card:
            return f"the limit of {policy.max_sessions_per_card} sessions for a card is reached"
        if self.max_outage_hours is not None and outage_seconds >= self.max_outage_hours * 3600:
            return f"the limit of {self.max_outage_hours} hours for an outage is reached"
        return ""

    def promise(self, group: str, card: str, device: str) -> None:
        """A session was granted, and begins once that is on stable storage: it counts from now on."""
        self._promised.setdefault(device, []).append((group, card))

    def promise_over(self, device: str) -> None:
        """The session that was granted first on this device has begun, or will not begin."""
        promised = self._promised.get(device, [])
        if len(promised) > 1:
            promised.pop(0)
        else:
            self._promised.pop(device, None)

    def session(self, policy: Policy, group: str, card: str, device: str) -> list[Command]:
        """A session was granted."""
        used = self._of(group, card)
        used.sessions += 1
        return self._warn(used, "sessions", used.sessions, policy.max_sessions_per_card, card, device)

    def pages(self, policy: Policy, group: str, card: str, device: str, pages: int) -> list[Command]:
        """A job was kept. `pages`: impressions."""
        used = self._of(group, card)
        used.pages += max(0, pages)
        return self._warn(used, "pages", used.pages, policy.max_pages_per_card, card, device)

    def hours(self, group: str, outage_seconds: float) -> list[Command]:
        """Time passes in an outage."""
        limit = self.max_outage_hours
        if limit is None or group in self._hours_told or outage_seconds < WARN_AT * limit * 3600:
            return []
        self._hours_told.add(group)
        text = f"{group}: the outage has lasted {outage_seconds / 3600:.1f} of the {limit} hours that are allowed"
        return [Tell("warning", text, {"upstream": group, "limit": "max_outage_hours"}, alarm="limit")]

    def _of(self, group: str, card: str) -> Used:
        cards = self._used.setdefault(group, {})
        used = cards.get(card)
        if used is None:
            if len(cards) >= MOST_CARDS:
                del cards[next(iter(cards))]
            used = cards[card] = Used()
        return used

    @staticmethod
    def _warn(used: Used, what: str, number: int, limit: int | None, card: str, device: str) -> list[Command]:
        if limit is None or what in used.told or number < WARN_AT * limit:
            return []
        used.told = (*used.told, what)
        if used.before[what == "sessions"] >= WARN_AT * limit:
            return []
        text = f"a card has used {number} of the {limit} {what} that it may while the server is away"
        context: dict[str, str | int] = {"device": device, "limit": f"max_{what}_per_card"}
        return [Tell("warning", text, context, personal=Personal(card=card) if card else NOBODY, alarm="limit")]


_NOTHING = Used()
