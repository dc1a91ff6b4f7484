"""Unlocking: where offline mode waits for an adult's code (environment education), and what wrong codes cost.

An unlock is for one device: for a single use (the next session that is granted there, used up when it ends, void if
none begins within two minutes), or until the connection is restored (dropped when the upstream leaves OFFLINE, in force
again if it falls straight back). The limiter comes before the hash: five wrong codes at a device within ten minutes
close it to codes for a time that doubles from 30 s to one hour; a hundred wrong codes in one outage close all devices
to codes until the admin or the outage's end opens them again. Tries whose hash is still being computed count as wrong
until they prove right, so a burst gains nothing. The code itself is kept nowhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.commands import Command, Keep, Tell, Verify
from proxy.events import Event, Kept, Moment, NotKept, Verified
from proxy.gaps import Gaps
from storage.answers import OpenSession
from storage.records import Mode, UnlockStep

ONCE = "once"
UNTIL_RESTORED = "until-restored"

VOID_AFTER = 120.0
WRONG_AT_DEVICE = 5
WRONG_WITHIN = 600.0
FIRST_CLOSURE = 30.0
LONGEST_CLOSURE = 3600.0
WRONG_IN_OUTAGE = 100
WRONG_BEFORE = "wrong codes before: the outage goes on"
PROMISED_FOR = 10.0
"""How long a single use is kept for a grant on its way to stable storage, if nothing more is heard of it."""
UNSET_EVERY = 60.0
MOST_DEVICES = 20_000


class UnlockWaiter(Protocol):
    """The dialect's flow, which answers the person at the device."""

    def unlock_answered(self, ask: UnlockAsk, outcome: str, retry_after: int, at: Moment) -> list[Command]:
        """outcome: unlocked (it is on stable storage), wrong-code, too-many (try again after so many seconds, 0: not
        known when), not-stored.
        """


@dataclass(frozen=True, slots=True)
class UnlockAsk:
    """Somebody at `device` gave a code. `scope`: once or until-restored; `token` is the waiter's own."""

    device: str
    upstream: str
    scope: str
    code: str = field(repr=False)
    waiter: UnlockWaiter
    token: object


@dataclass(slots=True)
class Unlock:
    """An unlock in force. `session`: the mark of the session that a single use has let in; `promised`: when it was
    promised to a grant that is not on stable storage yet.
    """

    upstream: str
    scope: str
    since: float
    session: str = ""
    promised: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Suspended:
    """An unlock until the connection is restored, dropped at `since` (monotonic) because it was."""

    upstream: str
    scope: str
    since: float


@dataclass(slots=True)
class Wrong:
    """Wrong codes at one device: when, until when it is closed, and how often it was. Monotonic seconds."""

    times: deque[float] = field(default_factory=deque)
    closed_until: float = float("-inf")
    closures: int = 0
    checking: int = 0


@dataclass(frozen=True, slots=True)
class StepAsked:
    """Token: an unlock was to be kept before the device hears of it."""

    ask: UnlockAsk
    step: UnlockStep


class Unlocking:
    """Unlocked devices and wrong codes. `hash`: Argon2id of the code, `card_hash`: of the number of the unlock card, ""
    while none is set; `is_offline`: whether this device, whose logins go to this upstream, is offline.
    """

    def __init__(self, hash: str = "") -> None:
        self.hash = hash
        self.card_hash = ""
        self.is_offline: Callable[[str, str], bool] = lambda device, upstream: True
        self.gaps = Gaps()
        self._unlocks: dict[str, Unlock] = {}
        self._suspended: dict[str, Suspended] = {}
        self._wrong: dict[str, Wrong] = {}
        self._wrong_in: dict[str, int] = {}
        self._wrong_before: dict[str, int] = {}
        self._is_away: dict[str, bool] = {}
        self._left: dict[str, float] = {}
        self._checking_in: dict[str, int] = {}
        self._unset_told = float("-inf")

    # What is asked

    def scope_on(self, device: str) -> str:
        """The unlock in force on this device: once, until-restored, or ""."""
        unlock = self._unlocks.get(device)
        return unlock.scope if unlock is not None else ""

    def lets_in(self, device: str, now: float) -> bool:
        """Whether another session may begin on this device: a single use is good for one."""
        unlock = self._unlocks.get(device)
        return unlock is not None and not unlock.session and now - unlock.promised >= PROMISED_FOR

    def places(self) -> dict[str, str]:
        """The unlocked devices, each with its upstream."""
        return {device: unlock.upstream for device, unlock in self._unlocks.items()}

    def codes_refused(self, upstream: str) -> bool:
        """Whether a hundred wrong codes have closed all devices of this upstream to codes."""
        return self._wrong_in.get(upstream, 0) >= WRONG_IN_OUTAGE

    # Codes

    def ask(self, ask: UnlockAsk, *, unread: bool, at: Moment) -> list[Command]:
        """A code was given. `unread`: the device needs none (it is open or unlocked), so any is right."""
        if unread:
            step = UnlockStep(at.wall, ask.device, ask.upstream, "unlocked", "", "the device was not locked")
            return [self.gaps.keep(step, ask.upstream), *ask.waiter.unlock_answered(ask, "unlocked", 0, at)]
        if not self.hash:
            why = "no unlock code is set: 'locum unlock-code set'"
            refused = self._refuse(ask, "wrong-code", why, 0, at)
            if at.now - self._unset_told < UNSET_EVERY:
                return refused
            self._unset_told = at.now
            told = Tell("warning", f"a code was tried, but {why}", {"device": ask.device}, alarm="wrong-codes")
            return [*refused, told]
        in_outage = self._wrong_in.get(ask.upstream, 0) + self._checking_in.get(ask.upstream, 0)
        if in_outage >= WRONG_IN_OUTAGE:
            return self._refuse(ask, "too-many", "too many wrong codes in this outage", 0, at)
        wrong = self._wrong_at(ask.device)
        if wrong is None:
            return self._refuse(ask, "too-many", "too many devices with wrong codes", 0, at)
        if at.now < wrong.closed_until:
            seconds = math.ceil(wrong.closed_until - at.now)
            return self._refuse(ask, "too-many", "too many wrong codes at this device", seconds, at)
        _forget_old(wrong, at.now)
        if wrong.checking and len(wrong.times) + wrong.checking >= WRONG_AT_DEVICE:
            return self._refuse(ask, "too-many", "the codes before are still being checked", 1, at)
        wrong.checking += 1
        self._checking_in[ask.upstream] = self._checking_in.get(ask.upstream, 0) + 1
        return [Verify(ask.code, self.hash, self, ask)]

    def by_card(self, ask: UnlockAsk, at: Moment) -> list[Command]:
        """The unlock card was swiped at a device that has no keypad; `ask` has no code."""
        step = UnlockStep(at.wall, ask.device, ask.upstream, "unlocked", ask.scope, "by the unlock card")
        return [Keep(step, self, StepAsked(ask, step))]

    def handle(self, event: Event) -> list[Command]:
        """A code was checked, or an unlock is on stable storage."""
        if isinstance(event, Verified) and isinstance(event.token, UnlockAsk):
            return self._checked(event.token, event.right, event.at)
        if isinstance(event, Kept) and isinstance(event.token, StepAsked):
            ask = event.token.ask
            self._unlocks[ask.device] = Unlock(ask.upstream, ask.scope, event.at.now)
            if not self.is_offline(ask.device, ask.upstream):
                # The server came back while the code was compared or the unlock stored.
                dropped = self._drop(ask.device, event.at)
                return [*dropped, *ask.waiter.unlock_answered(ask, "unlocked", 0, event.at)]
            text = f"offline mode was unlocked at {ask.device} ({ask.scope})"
            told = Tell("info", text, {"device": ask.device, "scope": ask.scope}, alarm="unlock")
            return [told, *ask.waiter.unlock_answered(ask, "unlocked", 0, event.at)]
        if isinstance(event, NotKept) and isinstance(event.token, StepAsked):
            self.gaps.missed(event.token.step, event.at)
            return event.token.ask.waiter.unlock_answered(event.token.ask, "not-stored", 0, event.at)
        return []

    def _checked(self, ask: UnlockAsk, right: bool, at: Moment) -> list[Command]:
        wrong = self._wrong_at(ask.device) or Wrong()
        wrong.checking = max(0, wrong.checking - 1)
        self._checking_in[ask.upstream] = max(0, self._checking_in.get(ask.upstream, 0) - 1)
        if right:
            self._wrong.pop(ask.device, None)
            step = UnlockStep(at.wall, ask.device, ask.upstream, "unlocked", ask.scope)
            return [Keep(step, self, StepAsked(ask, step))]
        told = self._count_wrong(ask.device, ask.upstream, at.now)
        seconds = math.ceil(max(0.0, wrong.closed_until - at.now))
        return [*self._refuse(ask, "wrong-code", "", seconds, at), *told]

    def _count_wrong(self, device: str, upstream: str, now: float) -> list[Command]:
        wrong = self._wrong_at(device)
        commands: list[Command] = []
        if wrong is not None:
            _forget_old(wrong, now)
            wrong.times.append(now)
            if len(wrong.times) >= WRONG_AT_DEVICE:
                closed = min(FIRST_CLOSURE * 2 ** min(wrong.closures, 10), LONGEST_CLOSURE)
                wrong.closures += 1
                wrong.closed_until = now + closed
                text = f"{len(wrong.times)} wrong codes at {device}: it takes none for {closed:g} s"
                commands.append(Tell("warning", text, {"device": device}, alarm="wrong-codes"))
        total = self._wrong_in[upstream] = self._wrong_in.get(upstream, 0) + 1
        if total == WRONG_IN_OUTAGE:
            text = f"{upstream}: {total} wrong codes in this outage; none is taken until 'locum unlock-code allow'"
            commands.append(Tell("error", text, {"upstream": upstream}, alarm="wrong-codes"))
        return commands

    def _refuse(self, ask: UnlockAsk, outcome: str, reason: str, seconds: int, at: Moment) -> list[Command]:
        step = UnlockStep(at.wall, ask.device, ask.upstream, outcome, ask.scope, reason)
        # A wrong code counts after a power cut too, so it is written down at once; the others may be gathered.
        kept = self.gaps.keep(step, ask.upstream, wait=outcome == "wrong-code")
        return [kept, *ask.waiter.unlock_answered(ask, outcome, seconds, at)]

    def _wrong_at(self, device: str) -> Wrong | None:
        wrong = self._wrong.get(device)
        if wrong is None:
            if len(self._wrong) >= MOST_DEVICES:
                return None
            wrong = self._wrong[device] = Wrong()
        return wrong

    # By hand

    def unlock_by_hand(self, device: str, upstream: str, scope: str, who: str, at: Moment) -> list[Command]:
        """An admin unlocks; never blocked by wrong codes."""
        self._unlocks[device] = Unlock(upstream, scope, at.now)
        step = UnlockStep(at.wall, device, upstream, "by-hand-unlocked", scope, "", who)
        text = f"offline mode was unlocked at {device} ({scope}) by hand"
        return [Keep(step), Tell("info", text, {"device": device, "who": who}, alarm="unlock")]

    def lock_by_hand(self, device: str, upstream: str, who: str, at: Moment) -> list[Command]:
        """An admin locks again; a session that is open goes on."""
        if self._unlocks.pop(device, None) is None:
            return []
        return [Keep(UnlockStep(at.wall, device, upstream, "by-hand-locked", "", "", who))]

    def allow_codes(self, who: str, at: Moment) -> list[Command]:
        """An admin lets codes be tried again, everywhere."""
        upstreams = sorted(self._wrong_in) or [""]
        self._wrong_in.clear()
        self._wrong_before.clear()
        self._wrong.clear()
        return [Keep(UnlockStep(at.wall, "*", each, "cleared", "", "", who)) for each in upstreams]

    # Sessions and states

    def promise(self, device: str, at: Moment) -> None:
        """A session was granted on the device, and begins once that is on stable storage."""
        unlock = self._unlocks.get(device)
        if unlock is not None and unlock.scope == ONCE:
            unlock.promised = at.now

    def not_begun(self, device: str) -> None:
        """The session that was granted does not begin: it could not be stored."""
        unlock = self._unlocks.get(device)
        if unlock is not None:
            unlock.promised = float("-inf")

    def session_began(self, device: str, mark: str, at: Moment) -> list[Command]:
        """A session was granted on the device: a single use is now this session's."""
        unlock = self._unlocks.get(device)
        if unlock is None or unlock.scope != ONCE or unlock.session:
            return []
        unlock.session = mark
        return [Keep(UnlockStep(at.wall, device, unlock.upstream, "begun", ONCE, mark))]

    def session_ended(self, device: str, mark: str, at: Moment) -> list[Command]:
        """A session has ended: the single use that let it in is used up."""
        unlock = self._unlocks.get(device)
        if unlock is None or not mark or unlock.session != mark:
            return []
        return self._end(device, "used", at)

    def went_offline(self, upstream: str, *, lost: float, delay: float, at: Moment) -> list[Command]:
        """An upstream is offline. `lost`: when contact was (monotonic); was that within the delay of its last having
        left OFFLINE, the unlocks that were dropped then are in force again, and so are the wrong codes.
        """
        commands: list[Command] = []
        self._is_away[upstream] = True
        before = self._wrong_before.pop(upstream, 0)
        if before and lost - self._left.get(upstream, float("-inf")) < delay:
            self._wrong_in[upstream] = before
            step = UnlockStep(at.wall, "*", upstream, "in-force-again", "", f"{before} {WRONG_BEFORE}")
            commands.append(Keep(step, wait=False))
        for device, each in [*self._suspended.items()]:
            if each.upstream == upstream:
                del self._suspended[device]
                if lost - each.since < delay and device not in self._unlocks:
                    self._unlocks[device] = Unlock(upstream, each.scope, at.now)
                    step = UnlockStep(at.wall, device, upstream, "in-force-again", each.scope)
                    commands.append(Keep(step, wait=False))
        return commands

    def left_offline(self, upstream: str, spared: Callable[[str], bool], at: Moment) -> list[Command]:
        """An upstream is not offline. `spared`: the devices that stay as they are, for a drill runs there."""
        if self._is_away.pop(upstream, False):
            self._left[upstream] = at.now
        going = [device for device, name in self.places().items() if name == upstream and not spared(device)]
        return [command for device in going for command in self._drop(device, at)]

    def outage_ended(self, upstream: str, at: Moment) -> list[Command]:
        """An outage, or the last drill, is over: its wrong codes count no more against all devices."""
        before = self._wrong_in.pop(upstream, 0)
        if not before:
            return []
        self._wrong_before[upstream] = before
        return [Keep(UnlockStep(at.wall, "*", upstream, "cleared", "", "the outage is over"), wait=False)]

    def drill_ended(self, device: str, at: Moment) -> list[Command]:
        """A drill is over: what was unlocked in it is locked again."""
        return self._end(device, "dropped", at) if device in self._unlocks else []

    def tick(self, at: Moment) -> list[Command]:
        """A single use that nobody used within two minutes is void."""
        void = [
            device
            for device, unlock in self._unlocks.items()
            if unlock.scope == ONCE and not unlock.session and at.now - unlock.since >= VOID_AFTER
        ]
        return [command for device in void for command in self._end(device, "void", at)]

    def _drop(self, device: str, at: Moment) -> list[Command]:
        """The server is back."""
        unlock = self._unlocks[device]
        if unlock.scope == UNTIL_RESTORED:
            self._suspended[device] = Suspended(unlock.upstream, unlock.scope, at.now)
        return self._end(device, "dropped", at)

    def _end(self, device: str, outcome: str, at: Moment) -> list[Command]:
        unlock = self._unlocks.pop(device)
        return [Keep(UnlockStep(at.wall, device, unlock.upstream, outcome, unlock.scope), wait=False)]

    # A restart

    def restore(self, steps: Iterable[UnlockStep], began: Iterable[tuple[OpenSession, bool]], at: Moment) -> None:
        """Go on where the last run stopped, from the steps since the outage began, in their order.

        `began`: the sessions of that time, oldest first, and whether each has ended. The first that Locum granted on a
        device after it was unlocked for a single use has had that use, whether or not its step was still written.
        """
        given: dict[str, int] = {}
        for step in steps:
            then = at.now - max(0.0, (at.wall - step.at) / 1000)
            match step.outcome:
                case "in-force-again" if step.device == "*":
                    self._wrong_in[step.upstream] = int(step.reason.partition(" ")[0])
                case "unlocked" | "by-hand-unlocked" | "in-force-again" if step.scope:
                    self._unlocks[step.device] = Unlock(step.upstream, step.scope, then)
                    given[step.device] = step.at
                    self._suspended.pop(step.device, None)
                    if step.outcome == "unlocked":
                        self._wrong.pop(step.device, None)
                case "begun":
                    unlock = self._unlocks.get(step.device)
                    if unlock is not None:
                        unlock.session = step.reason
                case "used" | "void" | "by-hand-locked":
                    self._unlocks.pop(step.device, None)
                case "dropped":
                    dropped = self._unlocks.pop(step.device, None)
                    if dropped is not None and dropped.scope == UNTIL_RESTORED:
                        self._suspended[step.device] = Suspended(step.upstream, step.scope, then)
                case "cleared":
                    before = self._wrong_in.pop(step.upstream, 0)
                    if step.who:
                        self._wrong.clear()
                    else:
                        self._wrong_before[step.upstream], self._left[step.upstream] = before, then
                case "wrong-code" if not step.reason:
                    self._count_wrong(step.device, step.upstream, then)
        for session, ended in began:
            unlock = self._unlocks.get(session.device)
            if unlock is None or unlock.scope != ONCE or unlock.session or session.mode is Mode.ONLINE:
                continue
            if session.at >= given.get(session.device, 0):
                unlock.session = session.session
                if ended:
                    del self._unlocks[session.device]


def _forget_old(wrong: Wrong, now: float) -> None:
    while wrong.times and wrong.times[0] <= now - WRONG_WITHIN:
        wrong.times.popleft()
