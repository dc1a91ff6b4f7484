"""The next midnight in the site's time zone, whatever clocks do: changed twice a year, set by hand, the zone reloaded.

A midnight that a zone's clocks leave out is the moment at which they are changed; of one that they show twice the first
counts. Midnights that passed while nothing ran are not made up for.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta, tzinfo

LONGEST_DAY = 26 * 3_600_000
"""Milliseconds. What is further off than this was meant for a clock that has been set back since."""


class Midnights:
    """`zone` may be set anew at any time."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._next = 0
        self._by: tzinfo | None = None

    def passed(self, wall: int) -> bool:
        """Whether midnight has passed since this was asked last. `wall`: ms UTC."""
        if self.zone is not self._by or self._next - wall > LONGEST_DAY:
            self._by, self._next = self.zone, next_midnight(wall, self.zone)
            return False
        if wall < self._next:
            return False
        self._next = next_midnight(wall, self.zone)
        return True


def next_midnight(wall: int, zone: tzinfo) -> int:
    """The first midnight in a time zone after a time, both in ms UTC."""
    day = datetime.fromtimestamp(wall / 1000, zone).date() + timedelta(days=1)
    return int(datetime.combine(day, time(), zone).timestamp() * 1000)
