"""The numbers of the terminal dialect that stand for something.

`docs/terminal.md`. On the wire they are plain integers, and values that are not named here may come: they are read as
they are and answered with the reply's own refusal, never with an ERROR.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

NO_BALANCE: Final = -(1 << 63)
OFFLINE_SESSION_BIT: Final = 1 << 63
"""Set in the session numbers that Locum grants, clear in those of a server."""
FORWARDER: Final = 1 << 15
"""The capability of one that hands on what others have kept."""
DUPLEX: Final = 1
"""The flag of a job that was printed on both sides; the others are reserved."""


class TerminalState(IntEnum):
    """What WELCOME and PONG tell a device of the connection to the server."""

    ONLINE = 0
    OFFLINE = 1
    LOCKED = 2
    UNAVAILABLE = 3


class Capability(IntFlag):
    """What a device can do."""

    CARD_READER = 1
    KEYPAD = 2
    UNLOCK_CODE = 4
    COLOR = 8
    FORWARDER = FORWARDER


class Permission(IntFlag):
    """What a session may do."""

    COPY = 1
    PRINT = 2
    SCAN = 4
    FAX = 8
    COLOR = 16


ALL_PERMISSIONS: Final = 31


class Method(IntEnum):
    CARD = 1
    PASSWORD = 2
    IDENTITY = 3
    PIN = 4


class Scope(IntEnum):
    ONCE = 1
    UNTIL_RESTORED = 2


class Kind(IntEnum):
    COPY = 1
    PRINT = 2
    SCAN = 3
    FAX = 4


class What(IntEnum):
    BALANCE = 1
    SHARED_ACCOUNTS = 2
    HELD_JOBS = 3
    ASSOCIATE_CARD = 4


class LoginStatus(IntEnum):
    GRANTED = 0
    REFUSED = 1
    LOCKED = 2
    METHOD = 3
    UNAVAILABLE = 4
    LIMIT = 5


class UnlockStatus(IntEnum):
    UNLOCKED = 0
    WRONG = 1
    TOO_MANY = 2
    NOT_OFFLINE = 3


class JobStatus(IntEnum):
    STORED = 0
    ALREADY = 1
    REFUSED = 2
    LATER = 3


class QueryStatus(IntEnum):
    DONE = 0
    REFUSED = 1
    NOT_OFFLINE_AVAILABLE = 2
