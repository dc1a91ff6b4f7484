"""What the parts of one reader's flow share: whose reader it is, how its copier stands, its session, its ledger lines.

A reader is one copier, which is known by the reader's `device` everywhere else. Whoever ends a session (a swipe, time,
a drill's end), the copier's meters are told by `followed`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.admission import normal_card
from proxy.commands import Command, Keep
from proxy.events import Flow, Moment
from proxy.link import State
from proxy.metering import Metered
from proxy.site import Site
from proxy.tally import Tally
from proxy.upstream import Upstream
from storage.answers import OpenSession
from storage.records import Login, Mode, Personal

DIALECT = "cardreader"
LOCUMS_SESSION = 3600 * 1000
SERVERS_SESSION = 24 * 3600 * 1000
"""Milliseconds that a session is held open that nobody ends: Locum's own, and the server's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One `[[reader]]`. `connects`: the reader connects to Locum, which connects on to `server` and `server_port`; else
    the reader listens on `address` and `port`, and the server connects to Locum.

    An accepted connection must come from `address` (the reader's) or `server`, where that is given. `session_idle`:
    seconds. `rfideas`: whether it takes the commands of rf IDEAS; None: once it has shown so.
    """

    device: str
    address: str = ""
    port: int = 0
    server: str = ""
    server_port: int = 0
    connects: bool = False
    session_idle: float = 60.0
    rfideas: bool | None = None


@dataclass(frozen=True, slots=True)
class Swipe:
    """A card that was read. `text` as the reader has it; `at` and `wall`: when (monotonic seconds, ms UTC)."""

    text: str = field(repr=False)
    at: float
    wall: int

    @property
    def card(self) -> str:
        return normal_card(self.text)


@dataclass(slots=True)
class Shared:
    """`flow` is the reader's: it is told what was kept. `client`: the reader's address, as last seen."""

    flow: Flow
    settings: Settings
    upstream: Upstream
    site: Site
    tally: Tally
    metered: Metered
    client: str = ""
    _followed: OpenSession | None = None
    _drawn: int = 0

    @property
    def device(self) -> str:
        return self.settings.device

    @property
    def state(self) -> State:
        """How the upstream stands, for this copier."""
        return self.site.state_of(self.device, self.upstream)

    @property
    def serves(self) -> bool:
        """Whether Locum decides here."""
        return self.state is State.OFFLINE and self.site.policy_for(self.device).enabled

    @property
    def session(self) -> OpenSession | None:
        return self.site.sessions.on(self.device)

    def new_session(self, swipe: Swipe, mode: Mode, at: Moment) -> OpenSession:
        """A session of this card that begins now, under a random mark."""
        self._drawn += 1
        mark = at.random(8, f"session {self.device} {self._drawn}").hex()
        until = at.wall + (SERVERS_SESSION if mode is Mode.ONLINE else LOCUMS_SESSION)
        return OpenSession(mark, self.device, self.upstream.name, swipe.card, at.wall, until, mode)

    def begin(self, session: OpenSession, at: Moment) -> list[Command]:
        """A session has begun; the one before it ends."""
        return self.site.begin(session, self.upstream, at) + self.followed(at)

    def end(self, cause: str, at: Moment) -> list[Command]:
        """The session on this copier, if any, ends."""
        return self.site.end(self.device, cause, at) + self.followed(at)

    def followed(self, at: Moment) -> list[Command]:
        """Tell the meters which session is open now, if that has changed."""
        before, now = self._followed, self.session
        if before is now:
            return []
        self._followed = now
        commands = [] if before is None else self.metered.ended(before, at)
        return commands if now is None else commands + self.metered.began(now, at)

    def note(self, reason: str, text: str, at: Moment) -> list[Command]:
        """Count it, and say it at most once a minute."""
        return self.tally.note(reason, self.device, text, at.now)

    def ledger(
        self,
        swipe: Swipe,
        outcome: str,
        decided_by: str,
        reason: str,
        at: Moment,
        session: OpenSession | None = None,
        *,
        teaches: bool = False,
        late: bool = False,
    ) -> Keep:
        """The login for the ledger; where it teaches, the site has learnt it."""
        if teaches:
            self.site.learn(swipe.card, granted=outcome == "granted", user="", wall=at.wall)
        offline = decided_by == "locum" and self.state is State.OFFLINE
        mode = self.site.mode_of(self.device, self.upstream) if offline else Mode.ONLINE
        entry = Login(
            at=at.wall,
            dialect=DIALECT,
            upstream=self.upstream.name,
            device=self.device,
            client=self.client,
            method="card",
            outcome=outcome,
            decided_by=decided_by,
            reason=reason,
            mode=session.mode if session else mode,
            personal=Personal(card=swipe.card),
            session=session.session if session else "",
            expires_at=session.expires_at if session else None,
            late=late,
            teaches=teaches,
        )
        return self.site.gaps.keep(entry, self.upstream.name)
