"""What is counted while the service runs: logins, jobs, forwarded records, and how long the ledger takes.

Plain numbers, kept whether or not anybody asks for them; `appliance.metrics` gives them to Prometheus. They begin at 0
with each start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from storage.answers import Outcome, Stored
from storage.records import Delivery, Keepable, Login, Record

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds in seconds: from a commit on a fast disk to one on a worn-out flash card."""


class Durations:
    """How often something took up to how long."""

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper bound, how many took no longer), the last bound being infinite."""
        rows, so_far = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            so_far += count
            rows.append((bound, so_far))
        return rows


class Rates:
    """`observe` fits the driver's `observe`: it is told of every change that is on stable storage."""

    def __init__(self) -> None:
        self.logins: Counter[tuple[str, str]] = Counter()
        self.jobs: Counter[str] = Counter()
        self.forwarded: Counter[tuple[str, str]] = Counter()
        self.commits = Durations()
        self.login_seconds: dict[str, Durations] = {}

    def observe(self, change: Keepable, outcome: Outcome, seconds: float | None) -> None:
        """A change was stored; `seconds` as in `Driver`."""
        if seconds is not None:
            self.observe_commit(seconds)
        kind = type(change)
        if kind is Login:
            self.observe_login(seconds, change.decided_by, change.outcome)  # type: ignore[union-attr]
        elif kind is Record:
            if change.counts is not None and isinstance(outcome, Stored):  # type: ignore[union-attr]
                self.count_job(change.mode.value)  # type: ignore[union-attr]
        elif kind is Delivery:
            self.count_forwarded(change.upstream, change.outcome)  # type: ignore[union-attr]

    def observe_login(self, seconds: float | None, decided_by: str, outcome: str) -> None:
        """A login was decided; `seconds` from then to its answer, None where the answer did not wait for the ledger."""
        self.logins[decided_by, outcome] += 1
        if seconds is not None:
            self.login_seconds.setdefault(decided_by, Durations()).add(seconds)

    def observe_commit(self, seconds: float) -> None:
        """Somebody waited so long for the ledger."""
        self.commits.add(seconds)

    def count_job(self, mode: str) -> None:
        self.jobs[mode] += 1

    def count_forwarded(self, upstream: str, outcome: str) -> None:
        self.forwarded[upstream, outcome] += 1
