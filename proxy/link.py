"""The upstream's state: online, grace, offline, recovering. One table, at the end of this file.

The delay runs from the first failed contact, on a monotonic clock; steady contact cancels it. An upstream that was
never authentically heard with its present address and secret is unproven and cannot leave grace: a wrong secret must
never open every copier. An outage has one name, the time of its first failed contact, until the upstream is online
again: a return that did not last until nothing waited any more ends nothing. What contact is, `proxy/contact.py` says;
what the states mean for a login or a job, the flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from proxy.events import Moment
from storage.records import OutageStep


class State(StrEnum):
    ONLINE = "online"
    GRACE = "grace"
    OFFLINE = "offline"
    RECOVERING = "recovering"

    @property
    def relays(self) -> bool:
        """Whether requests go to the server and its answers back."""
        return self in (State.ONLINE, State.RECOVERING)


class Signal(StrEnum):
    CONTACT_FAILED = "contact failed"
    CONTACT_STEADY = "contact steady"
    DELAY_PASSED = "delay passed"
    NOTHING_WAITS = "nothing waits"


@dataclass(frozen=True, slots=True)
class Clock:
    """What a restart needs to know how much time has passed. `boot_ms`: CLOCK_BOOTTIME at monotonic 0."""

    boot_id: str
    boot_ms: int

    def at(self, moment: Moment) -> int:
        return self.boot_ms + int(moment.now * 1000)


@dataclass(frozen=True, slots=True)
class Resumed:
    """The state that a restart found in the ledger, its times on this process's monotonic clock (they may be negative).

    `outage_wall` None: records of an earlier run wait, but there is no outage that they belong to. `left_offline`: when
    this outage last left offline.
    """

    state: State
    since: float
    since_wall: int
    cause: str
    outage_wall: int | None
    delay_from: float
    left_offline: float = float("-inf")


class Link:
    """One upstream's state. `handle` takes a signal and gives the steps to keep; nothing else changes the state."""

    def __init__(self, upstream: str, delay: float, clock: Clock, proven: bool, began: Moment) -> None:
        self.upstream = upstream
        self.delay = delay
        self.proven = proven
        self.state = State.ONLINE
        self.cause = "started"
        self.since = began.now
        self.since_wall = began.wall
        self.outage_wall: int | None = None
        self._outage_began = began.now
        self._clock = clock
        self._delay_from = began.now
        self._left_offline = float("-inf")

    def resume(self, found: Resumed) -> None:
        """Go on where the last run stopped."""
        self.state, self.cause = found.state, found.cause
        self.since, self.since_wall = found.since, found.since_wall
        self.outage_wall = found.outage_wall
        if found.outage_wall is not None:
            self._outage_began = found.since - max(0, found.since_wall - found.outage_wall) / 1000
        self._delay_from = found.delay_from
        self._left_offline = found.left_offline

    def prove(self) -> None:
        """The server was heard with its present address and secret. The delay counts from the next failed contact."""
        if not self.proven:
            self.proven = True
            self._delay_from = float("inf")

    def unprove(self, at: Moment) -> list[OutageStep]:
        """Address or secret have changed: what was granted on the old ones' word ends with them."""
        self.proven = False
        return [self._go(State.GRACE, "its address or secret was changed", at)] if self.state is State.OFFLINE else []

    def delay_has_passed(self, now: float) -> bool:
        """Whether grace is over at `now`, were the server proven."""
        return self.state is State.GRACE and now - self._delay_from >= self.delay

    def handle(self, signal: Signal, cause: str, at: Moment) -> list[OutageStep]:
        """Apply `signal`; the steps taken, none if the state stays."""
        to = TABLE[self.state, signal]
        if signal is Signal.CONTACT_FAILED and self._delay_from == float("inf"):
            self._delay_from = at.now
        if signal is Signal.CONTACT_FAILED and self.state is State.GRACE:
            self.cause = cause
        if to is self.state or (to is State.OFFLINE and not self.proven):
            return []
        straight_back = self.state is State.RECOVERING and at.now - self._left_offline < self.delay
        steps = [self._go(to, cause, at)]
        if to is State.GRACE and self.proven and (straight_back or self.delay_has_passed(at.now)):
            steps.append(self._go(State.OFFLINE, cause, at))
        return steps

    @property
    def lost_at(self) -> float:
        """When contact was last lost: from then the delay counts."""
        return self._delay_from

    def outage_seconds(self, now: float) -> float:
        """How long the outage has lasted, from its first failed contact on; 0.0 while there is none."""
        return 0.0 if self.outage_wall is None else max(0.0, now - self._outage_began)

    def _go(self, to: State, cause: str, at: Moment) -> OutageStep:
        if self.state is State.OFFLINE:
            self._left_offline = at.now
        if to is State.GRACE:
            self._delay_from = at.now
            if self.outage_wall is None:
                self.outage_wall, self._outage_began = at.wall, at.now
        self.state, self.cause, self.since, self.since_wall = to, cause, at.now, at.wall
        outage = self.outage_wall
        if to is State.ONLINE:
            self.outage_wall = None
        return OutageStep(
            at.wall, self.upstream, outage, STEP[to], to.value, cause, self._clock.boot_id, self._clock.at(at)
        )


STEP = {State.GRACE: "failed", State.OFFLINE: "offline", State.RECOVERING: "recovered", State.ONLINE: "drained"}

TABLE: dict[tuple[State, Signal], State] = {
    (State.ONLINE, Signal.CONTACT_FAILED): State.GRACE,
    (State.ONLINE, Signal.CONTACT_STEADY): State.ONLINE,
    (State.ONLINE, Signal.DELAY_PASSED): State.ONLINE,
    (State.ONLINE, Signal.NOTHING_WAITS): State.ONLINE,
    (State.GRACE, Signal.CONTACT_FAILED): State.GRACE,
    (State.GRACE, Signal.CONTACT_STEADY): State.RECOVERING,
    (State.GRACE, Signal.DELAY_PASSED): State.OFFLINE,
    (State.GRACE, Signal.NOTHING_WAITS): State.GRACE,
    (State.OFFLINE, Signal.CONTACT_FAILED): State.OFFLINE,
    (State.OFFLINE, Signal.CONTACT_STEADY): State.RECOVERING,
    (State.OFFLINE, Signal.DELAY_PASSED): State.OFFLINE,
    (State.OFFLINE, Signal.NOTHING_WAITS): State.OFFLINE,
    (State.RECOVERING, Signal.CONTACT_FAILED): State.GRACE,
    (State.RECOVERING, Signal.CONTACT_STEADY): State.RECOVERING,
    (State.RECOVERING, Signal.DELAY_PASSED): State.RECOVERING,
    (State.RECOVERING, Signal.NOTHING_WAITS): State.ONLINE,
}
