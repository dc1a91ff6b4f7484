"""What the flows of one appliance share: the offline policy of each device, card memory, sessions, unlocks, limits,
drills, devices seen; and what follows from all of them for one device.

The values come from the configuration and from the ledger; a reload replaces them in place, so that every flow sees the
same ones. A listener asks here how a device stands (`state_of`), whether a login is granted (`judge`), and tells what
became of it (`begin`, `end`, `job_kept`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.admission import Applicant, Decision, Policy, Verdict, decide
from proxy.commands import Command, Keep
from proxy.drills import Drills
from proxy.events import Event, Moment, Ticked
from proxy.gaps import Gaps
from proxy.limits import Limits
from proxy.link import State
from proxy.sessions import Sessions
from proxy.unlocking import UnlockAsk, Unlocking
from proxy.upstream import Upstream
from storage.answers import CardFacts, OpenSession
from storage.cards import normalised
from storage.records import DeviceSeen, Logout, Mode, Record

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
    """`policies` holds the devices that differ from `policy`; `pins` the address that a device must come from,
    `certificates` the SHA-256 (hex) of the TLS certificate that it must show, `printers` its name at the server.
    """

    policy: Policy
    policies: dict[str, Policy]
    pins: dict[str, str]
    cards: CardMemory
    certificates: dict[str, str] = field(default_factory=dict)
    printers: dict[str, str] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=Sessions)
    unlocking: Unlocking = field(default_factory=Unlocking)
    limits: Limits = field(default_factory=Limits)
    drills: Drills = field(default_factory=Drills)
    gaps: Gaps = field(default_factory=Gaps)
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    online_users: dict[str, str] = field(default_factory=dict)
    lessons: dict[str, CardFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.unlocking.is_offline = self._is_offline
        self.unlocking.gaps = self.gaps

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

    def forget(self, card: str) -> None:
        """The card was erased from the ledger: nothing of it is remembered here either."""
        for each in [known for known in self.lessons if normalised(known) == normalised(card)]:
            del self.lessons[each]

    def policy_for(self, device: str) -> Policy:
        return self.policies.get(device, self.policy)

    # How a device stands

    def state_of(self, device: str, upstream: Upstream) -> State:
        """The upstream's state, for this device: in a drill it is offline while the server is up."""
        return State.OFFLINE if self.drills.on(device) else upstream.state

    def in_drill(self, device: str, upstream: Upstream) -> bool:
        """Whether the device is offline because of a drill only."""
        return upstream.state is not State.OFFLINE and self.drills.on(device)

    def locked(self, device: str, upstream: Upstream, at: Moment) -> bool:
        """Whether offline mode waits for a code on this device."""
        return self.is_locked_kind(device, upstream) and not self.unlocking.lets_in(device, at.now)

    def is_locked_kind(self, device: str, upstream: Upstream) -> bool:
        """Whether this device is offline and needs a code for it, given or not."""
        policy = self.policy_for(device)
        return policy.enabled and policy.asks_code and self.state_of(device, upstream) is State.OFFLINE

    def shown(self, device: str, upstream: Upstream) -> str:
        """How the device stands, as `locum devices` says it."""
        if self.is_locked_kind(device, upstream):
            scope = self.unlocking.scope_on(device)
            return f"unlocked-{scope}" if scope else "locked"
        return self.state_of(device, upstream).value

    # Offline logins

    def judge(self, device: str, upstream: Upstream, applicant: Applicant, at: Moment) -> Decision:
        """Decide a login on a device that is offline."""
        policy, card = self.policy_for(device), applicant.card
        group, seconds = upstream.name, upstream.link.outage_seconds(at.now)
        if self.in_drill(device, upstream):
            group, seconds = _in_drill(upstream.name), 0.0
        decision = decide(
            policy,
            applicant,
            self.facts(card) if card else None,
            at.wall,
            locked=self.locked(device, upstream, at),
            limit=self.limits.reached(policy, group, card, seconds) if card else "",
        )
        if decision.verdict is Verdict.GRANT:
            self.unlocking.promise(device, at)
            self.limits.promise(group, card, device)
        return decision

    def mode_of(self, device: str, upstream: Upstream) -> Mode:
        """The mode of a session that Locum grants on this device now."""
        return Mode.DRILL if self.in_drill(device, upstream) else Mode.OFFLINE

    def begin(self, session: OpenSession, upstream: Upstream, at: Moment) -> list[Command]:
        """A session with a mark has begun and is on stable storage: granted here, or by the server."""
        commands = self._ended(self.sessions.begin(session, at), at)
        if session.mode is Mode.ONLINE:
            return commands
        self.logged_out_online(session.device)
        policy = self.policy_for(session.device)
        group = _in_drill(upstream.name) if session.mode is Mode.DRILL else upstream.name
        commands += self.unlocking.session_began(session.device, session.session, at)
        self.limits.promise_over(session.device)
        return commands + self.limits.session(policy, group, session.card, session.device)

    def not_begun(self, device: str) -> None:
        """The session that was granted on this device could not be stored, and does not begin."""
        self.unlocking.not_begun(device)
        self.limits.promise_over(device)

    def end(self, device: str, cause: str, at: Moment) -> list[Command]:
        """The session open on this device, if any, has ended."""
        return self._ended(self.sessions.end(device, cause, at), at)

    def end_marked(self, device: str, mark: str, cause: str, at: Moment) -> list[Command]:
        """The session with this mark has ended, if it is the one open on the device."""
        return self._ended(self.sessions.end_marked(device, mark, cause, at), at)

    def job_kept(self, record: Record, upstream: Upstream) -> list[Command]:
        """A new job is on stable storage: what a session of Locum's has used counts against the card's limits.

        It counts where the session does, which may be another upstream than the record's; not at all when the outage of
        its session is over.
        """
        card = record.personal.card
        if record.counts is None or record.mode not in (Mode.OFFLINE, Mode.DRILL) or not card:
            return []
        for name in (upstream.name, *(each for each in self.upstreams if each != upstream.name)):
            group = _in_drill(name) if record.mode is Mode.DRILL else name
            if self.limits.knows(group, card):
                policy = self.policy_for(record.device)
                return self.limits.pages(policy, group, card, record.device, record.counts.pages)
        return []

    # Unlocking

    def unlock(self, ask: UnlockAsk, upstream: Upstream, at: Moment) -> list[Command]:
        """Somebody gave a code at a device that is offline."""
        return self.unlocking.ask(ask, unread=not self.locked(ask.device, upstream, at), at=at)

    # What time and states bring

    def state_changed(self, upstream: Upstream, at: Moment) -> list[Command]:
        """An upstream's state has changed; to be told before its listeners are."""
        if upstream.state is State.OFFLINE:
            link = upstream.link
            return self.unlocking.went_offline(upstream.name, lost=link.lost_at, delay=link.delay, at=at)
        commands = self.unlocking.left_offline(upstream.name, self.drills.on, at)
        if upstream.state is State.ONLINE:
            self.limits.forget(upstream.name)
            commands += self.unlocking.outage_ended(upstream.name, at)
        return commands

    def handle(self, event: Event) -> list[Command]:
        """Time ends sessions, unlocks and drills, and uses up what an outage may last; what is missing is noted."""
        if not isinstance(event, Ticked):
            return []
        at = event.at
        commands = self._ended(self.sessions.expire(at), at) + self.unlocking.tick(at) + self.drills.tick(at)
        commands += self.gaps.tick(at)
        for upstream in self.upstreams.values():
            if upstream.state is State.OFFLINE:
                commands += self.limits.hours(upstream.name, upstream.link.outage_seconds(at.now))
        return commands

    def drills_ended(self, running: Callable[[str], bool], at: Moment) -> list[Command]:
        """Drills have ended: their records go to the outbox, and what was unlocked in them is locked again."""
        commands: list[Command] = []
        for device, name in self.unlocking.places().items():
            if not running(device) and self.upstreams[name].state is not State.OFFLINE:
                commands += self.unlocking.drill_ended(device, at)
        for upstream in self.upstreams.values():
            upstream.release(running)
            if not self.drills.any:
                self.limits.forget(_in_drill(upstream.name))
                if upstream.state is State.ONLINE:
                    commands += self.unlocking.outage_ended(upstream.name, at)
            commands += [command for each in upstream.subscribers for command in each.state_changed(at)]
        return commands

    def _is_offline(self, device: str, upstream: str) -> bool:
        flow = self.upstreams.get(upstream)
        return flow is not None and self.state_of(device, flow) is State.OFFLINE

    def _ended(self, logouts: list[Logout], at: Moment) -> list[Command]:
        commands: list[Command] = []
        for logout in logouts:
            # At once: a restart must not find a session, or a single use, that has ended.
            commands.append(Keep(logout))
            commands += self.unlocking.session_ended(logout.device, logout.session, at)
        return commands

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


def _in_drill(upstream: str) -> str:
    return f"{upstream} (drill)"
