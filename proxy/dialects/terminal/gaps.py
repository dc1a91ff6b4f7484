"""Gaps in the ledger: jobs that the server has acknowledged itself while nothing could be stored.

How many there were, and between which times, is written down as soon as something can be stored again.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.commands import Command, Keep
from proxy.events import Flow, Moment
from storage.records import Note, Record

RETRY_STORAGE = 1.0


@dataclass(frozen=True, slots=True)
class Gap:
    """Jobs that were relayed but could not be stored. Milliseconds UTC. Token of the note about them, too."""

    first: int
    last: int
    records: int


class Gaps:
    """The gap that is not written down yet. `owner` is told what came of the note."""

    def __init__(self, owner: Flow, upstream: str) -> None:
        self._owner = owner
        self._upstream = upstream
        self._gap: Gap | None = None
        self._note_at = float("inf")

    def add(self, record: Record, at: Moment) -> None:
        """One more job goes unrecorded."""
        self._widen(Gap(record.at, record.at, 1), at)

    def note(self, at: Moment) -> list[Command]:
        """Something could be stored: the gap can be, if there is one."""
        gap, self._gap = self._gap, None
        self._note_at = float("inf")
        if gap is None:
            return []
        data: dict[str, str | int] = {
            "upstream": self._upstream,
            "first": gap.first,
            "last": gap.last,
            "records": gap.records,
        }
        return [Keep(Note(at.wall, "gap", data), self._owner, gap, wait=False)]

    def not_noted(self, gap: Gap, at: Moment) -> None:
        """It could not be, after all."""
        self._widen(gap, at)

    def tick(self, at: Moment) -> list[Command]:
        """Try again now and then."""
        return self.note(at) if at.now >= self._note_at else []

    def _widen(self, more: Gap, at: Moment) -> None:
        gap = self._gap or Gap(more.first, more.last, 0)
        self._gap = Gap(min(gap.first, more.first), max(gap.last, more.last), gap.records + more.records)
        self._note_at = at.now + RETRY_STORAGE
