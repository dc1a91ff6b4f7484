"""The sessions that Locum granted while offline: by mark, by device, and until when.

A mark is an opaque random number that comes back with the session's records. It is bound to device and card: a mark
shown by another device proves nothing. A session keeps what it is to its end; records that arrive after the end still
find it.
"""

from __future__ import annotations

from proxy.events import Moment
from storage.answers import OpenSession
from storage.records import Logout

REMEMBERED_AFTER_END = 24 * 3600 * 1000
LOOK_EVERY = 1000


class Sessions:
    """Open and lately ended offline sessions. All times in milliseconds UTC, as they must survive a restart."""

    def __init__(self) -> None:
        self._by_mark: dict[str, OpenSession] = {}
        self._open: dict[str, OpenSession] = {}
        self._looked = 0

    def begin(self, session: OpenSession, at: Moment) -> list[Logout]:
        """A login was granted on `session.device`; the one before it on that device ends."""
        ended = self.end(session.device, "next-login", at)
        self._by_mark[session.session] = session
        self._open[session.device] = session
        return ended

    def restore(self, session: OpenSession, *, ended: bool = False) -> None:
        """A session found in the ledger at start, in the order in which they began."""
        self._by_mark[session.session] = session
        if not ended:
            self._open[session.device] = session

    def end(self, device: str, cause: str, at: Moment) -> list[Logout]:
        """The session open on `device`, if any, ends because of `cause`."""
        session = self._open.pop(device, None)
        return [] if session is None else [Logout(at.wall, device, session.session, cause)]

    def end_marked(self, device: str, mark: str, cause: str, at: Moment) -> list[Logout]:
        """The session with this mark ends, if it is the one open on `device`."""
        session = self._open.get(device)
        return self.end(device, cause, at) if session is not None and session.session == mark else []

    def expire(self, at: Moment) -> list[Logout]:
        """End what has run its time, forget what ended a day ago. Looks once a second."""
        if at.wall - self._looked < LOOK_EVERY and at.wall >= self._looked:
            return []
        self._looked = at.wall
        over = [s for s in self._open.values() if s.expires_at <= at.wall]
        old = [m for m, s in self._by_mark.items() if s.expires_at + REMEMBERED_AFTER_END <= at.wall]
        for mark in old:
            del self._by_mark[mark]
        return [logout for s in over for logout in self.end(s.device, "timeout", at)]

    def marked(self, device: str, mark: str) -> OpenSession | None:
        """The session with this mark, open or lately ended, if it is this device's."""
        session = self._by_mark.get(mark)
        return session if session is not None and session.device == device else None

    def on(self, device: str) -> OpenSession | None:
        """The session open on this device."""
        return self._open.get(device)

    def count(self, device: str) -> int:
        return int(device in self._open)
