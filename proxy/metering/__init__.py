"""Accounting by page meters, for copiers that report no jobs: what a copier's counters went up by is the job.

`Metered` is what a card reader's flow tells the meters of the copier beside it; `Metering` (in `flow.py`) is the flow
that reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.commands import Command
    from proxy.events import Moment
    from storage.answers import OpenSession


class Metered(Protocol):
    """The page meters of one copier."""

    def began(self, session: OpenSession, at: Moment) -> list[Command]:
        """A session has begun; after a restart, one that began before it is still open."""

    def ended(self, session: OpenSession, at: Moment) -> list[Command]:
        """It has ended."""

    def moved_at(self, session: str) -> float | None:
        """When a meter last moved in the session of this mark (monotonic seconds); None: it has not yet."""


class NoMeters:
    """A copier whose meters are not read: only logins are kept of it."""

    def began(self, session: OpenSession, at: Moment) -> list[Command]:
        return []

    def ended(self, session: OpenSession, at: Moment) -> list[Command]:
        return []

    def moved_at(self, session: str) -> float | None:
        return None
