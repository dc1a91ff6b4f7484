"""Whose pages they were: who was at the copier between two readings.

A reading is taken at every change of session. Then between two readings there is one session, or nobody. Where the
copier slept through a change, several may be between two readings: who began only a moment before the later one cannot
have made the pages; a session goes before nobody; between two sessions nobody can tell, so that nobody is charged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.answers import OpenSession

MOMENT = 5.0
"""Seconds in which nobody gets from a swipe to a page on the meter."""


@dataclass(slots=True)
class Span:
    """One session at one copier, in monotonic seconds; `ended` None: it is open."""

    session: OpenSession
    began: float
    ended: float | None = None

    @property
    def mark(self) -> str:
        return self.session.session


@dataclass(frozen=True, slots=True)
class Attributed:
    """Whose the pages are. `span` None: nobody's; `unclear`: several may have made them."""

    span: Span | None
    unclear: bool = False


def attribute(spans: Sequence[Span], first: float, last: float) -> Attributed:
    """Whose the pages between two readings are, which were taken at `first` and `last`."""
    there = [each for each in spans if each.began < last and (each.ended is None or each.ended > first)]
    idle_before = _idle(there, first, last)
    earlier = [each for each in there if each.began <= last - MOMENT]
    if earlier or idle_before:
        there = earlier
    if not there:
        return Attributed(None)
    if len(there) == 1:
        return Attributed(there[0])
    first_began = min(there, key=lambda each: each.began)
    # All began within the moment: the first of them had the most of it; else nobody can tell.
    return Attributed(first_began) if not earlier else Attributed(None, unclear=True)


def over(spans: Iterable[Span], at: float) -> list[Span]:
    """Those that had ended by then."""
    return [each for each in spans if each.ended is not None and each.ended <= at]


def _idle(there: Sequence[Span], first: float, last: float) -> bool:
    """Whether nobody was there at some time between the readings, before the first of these sessions."""
    return not there or min(each.began for each in there) > first
