"""What the flows of one appliance share: the offline policy of each device, card memory, sessions, devices seen.

The values come from the configuration and from the ledger; a reload replaces them in place, so that every flow sees the
same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from proxy.admission import Policy
from proxy.commands import Command, Keep
from proxy.events import Moment
from proxy.sessions import Sessions
from storage.records import CardFacts, DeviceSeen

SEEN_EVERY = 60.0
MOST_REMEMBERED = 20_000
MOST_LESSONS = 2_048
"""More than any site's logins between two commits."""


class CardMemory(Protocol):
    """Who asks what is remembered of a card; answered at once, from memory or an index."""

    def facts(self, card: str) -> CardFacts | None: ...


@dataclass(slots=True)
class Seen:
    """The last that was heard of a device. `heard`: milliseconds UTC."""

    client: str
    dialect: str
    upstream: str
    heard: int
    kept: float


@dataclass(slots=True)
class Site:
    """`policies` holds the devices that differ from `policy`; `pins` the address that a device must come from."""

    policy: Policy
    policies: dict[str, Policy]
    pins: dict[str, str]
    cards: CardMemory
    sessions: Sessions = field(default_factory=Sessions)
    seen: dict[str, Seen] = field(default_factory=dict)
    online_users: dict[str, str] = field(default_factory=dict)
    lessons: dict[str, CardFacts] = field(default_factory=dict)

    def facts(self, card: str) -> CardFacts | None:
        """What is remembered of a card, also what the server said a moment ago and the ledger does not have yet."""
        return self.lessons.get(card) or self.cards.facts(card)

    def learn(self, card: str, *, granted: bool, user: str, wall: int) -> None:
        """The server's own word on a card."""
        before = None if granted else self.facts(card)
        since = wall if granted else before.granted_at if before else None
        self.lessons.pop(card, None)
        self.lessons[card] = CardFacts(since, granted, user)
        if len(self.lessons) > MOST_LESSONS:
            del self.lessons[next(iter(self.lessons))]

    def policy_for(self, device: str) -> Policy:
        return self.policies.get(device, self.policy)

    def pinned_elsewhere(self, device: str, client: str) -> bool:
        """Whether the config says that this device lives at another address."""
        return self.pins.get(device, client) != client

    def heard(self, device: str, client: str, dialect: str, upstream: str, at: Moment) -> list[Command]:
        """A device has spoken; what to keep of that: the first time, from another address, or once a minute."""
        seen = self.seen.get(device)
        if seen is None:
            if len(self.seen) >= MOST_REMEMBERED:
                return []
            seen = self.seen[device] = Seen(client, dialect, upstream, at.wall, float("-inf"))
        seen.heard = at.wall
        if seen.client == client and at.now - seen.kept < SEEN_EVERY:
            return []
        seen.client, seen.kept = client, at.now
        return [Keep(DeviceSeen(at.wall, device, client, dialect, upstream), wait=False)]

    def logged_out_online(self, device: str, user: str | None = None) -> None:
        """The session that the server had granted on this device (to this user, if one is named) has ended."""
        if user is None or self.online_users.get(device) == user:
            self.online_users.pop(device, None)

    def logged_in_online(self, device: str, user: str) -> None:
        """The server granted a login: the device's next records belong to an online session."""
        if len(self.online_users) >= MOST_REMEMBERED:
            self.online_users.clear()
        self.online_users[device] = user
