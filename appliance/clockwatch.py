"""Watches the wall clock against the monotonic one: every step of it is kept, for an auditor reads times."""

from __future__ import annotations

from proxy.commands import Command, Keep, Tell
from proxy.events import Moment
from storage.records import Note

STEP = 2000
"""Milliseconds between two looks by which the clocks may differ before it is called a step."""


class ClockWatch:
    """Compares the two clocks from one look to the next."""

    def __init__(self) -> None:
        self._last: Moment | None = None

    def look(self, at: Moment) -> list[Command]:
        """What to keep and tell if the wall clock was set since the last look."""
        last, self._last = self._last, at
        if last is None:
            return []
        stepped = (at.wall - last.wall) - int((at.now - last.now) * 1000)
        if abs(stepped) < STEP:
            return []
        text = f"the clock was set {'forward' if stepped > 0 else 'back'} by {abs(stepped) / 1000:.1f} s"
        return [Keep(Note(at.wall, "clock-step", {"milliseconds": stepped}), wait=False), Tell("warning", text)]
