"""Access-Challenges of Locum's own (RFC 2865 section 4.4), with which a locked device is asked for the unlock code.

The State attribute is a mark and 16 random bytes, looked up in a table: bound to device, address and card, good for 60
seconds and for one answer. By the mark Locum knows its own also when they are out of date, used, or of an earlier run:
what comes with them may be the code, which is never relayed. A State without it is somebody else's, and says nothing.
"""

from __future__ import annotations

from collections import deque

from proxy.events import Moment
from proxy.unlocking import ONCE, UNTIL_RESTORED

CHALLENGE_LINE = "Offline mode is locked. Enter the unlock code."
LIVES = 60.0
SIZE = 16
MARK = b"Locum unlock "
MOST = 8192

Bound = tuple[str, str, str]


class Challenges:
    """The challenges that wait for their answer."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Bound] = {}
        self._ages: deque[tuple[float, bytes]] = deque()

    def put(self, device: str, address: str, card: str, at: Moment) -> bytes:
        """A new challenge; gives its State."""
        state = MARK + at.random(SIZE, f"state {device} {address} {card}")
        self._waiting[state] = (device, address, card)
        self._ages.append((at.now + LIVES, state))
        return state

    def answered(self, state: bytes | None, device: str, address: str, card: str, at: Moment) -> bool:
        """Whether this State is one of ours, still good, and this device's. It is used up."""
        if state is None:
            return False
        self.forget_old(at)
        return self._waiting.pop(state, None) == (device, address, card)

    def forget_old(self, at: Moment) -> None:
        """Forget what nobody has answered in time."""
        while self._ages and (self._ages[0][0] <= at.now or len(self._ages) > MOST):
            self._waiting.pop(self._ages.popleft()[1], None)


def is_ours(state: bytes | None) -> bool:
    """Whether Locum has made this State, now or long ago."""
    return state is not None and state.startswith(MARK)


def scope_of(given: int | None) -> str:
    """What Locum-Unlock-Scope asks for; a single use where it is absent or unknown."""
    return UNTIL_RESTORED if given == 2 else ONCE


def code_of(password: bytes | None) -> str:
    """The code in User-Password (PAP)."""
    return (password or b"").decode("utf-8", "replace")
