"""UNLOCK: the code that a person enters at the device, while it is offline.

Every UNLOCK frame is one try, whatever its sequence: on a stream nothing is repeated by the network. An unknown scope
is refused without a try. The device hears of an unlock when it is on stable storage; one that could not be stored is
not in force, and the person is asked to try again in a second.
"""

from __future__ import annotations

from protocols.terminal.frames import Frame
from protocols.terminal.messages import Scope, Unlock, UnlockResult, UnlockStatus
from proxy.commands import Command
from proxy.dialects.terminal.connection import Asked, Connection
from proxy.dialects.terminal.shared import Shared
from proxy.events import Moment
from proxy.link import State
from proxy.unlocking import ONCE, UNTIL_RESTORED, UnlockAsk
from storage.records import UnlockStep

SCOPES: dict[int, str] = {Scope.ONCE: ONCE, Scope.UNTIL_RESTORED: UNTIL_RESTORED}
STATUS = {
    "unlocked": UnlockStatus.UNLOCKED,
    "wrong-code": UnlockStatus.WRONG,
    "too-many": UnlockStatus.TOO_MANY,
    "not-stored": UnlockStatus.TOO_MANY,
}
LONGEST_WAIT = 0xFFFF


class CodeGiven(Asked):
    """An UNLOCK whose code is being compared."""


class Unlocks:
    """The codes given at one listener's devices."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def asked(self, connection: Connection, frame: Frame, unlock: Unlock, at: Moment) -> list[Command]:
        """A code is never relayed: it is Locum's own."""
        shared, given = self._shared, CodeGiven(connection, frame)
        device, scope = given.device, SCOPES.get(unlock.scope)
        if shared.state(device) is not State.OFFLINE or not shared.site.policy_for(device).enabled:
            step = UnlockStep(at.wall, device, shared.upstream.name, "not-offline", scope or "")
            kept = shared.site.gaps.keep(step, shared.upstream.name)
            return [kept, *given.answer(UnlockResult(UnlockStatus.NOT_OFFLINE, 0))]
        if scope is None:
            return given.answer(UnlockResult(UnlockStatus.WRONG, 0))
        ask = UnlockAsk(device, shared.upstream.name, scope, unlock.code, self, given)
        return shared.site.unlock(ask, shared.upstream, at)

    def unlock_answered(self, ask: UnlockAsk, outcome: str, retry_after: int, at: Moment) -> list[Command]:
        """The code was compared; or it was not looked at."""
        given = ask.token
        if not isinstance(given, CodeGiven):
            return []
        if outcome == "too-many" and not retry_after:
            retry_after = LONGEST_WAIT  # until an admin says otherwise, which the dialect has no word for
        elif outcome == "not-stored":
            retry_after = 1
        return given.answer(UnlockResult(STATUS[outcome], min(retry_after, LONGEST_WAIT)))
