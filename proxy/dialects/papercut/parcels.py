"""A record on its way through this upstream, and the order of those in hand.

Records of one user go one at a time, in order. Which user a record is of is known only when its card was looked up, so
a record that is known may go only when every earlier one in hand is known too. Records of another card of that user
that are not in hand yet are not waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from proxy.dialects.papercut.calls import Call
from proxy.handover import Waiter
from storage.answers import OutboxItem


class Stage(Enum):
    """Where a record in hand stands. From MARKING on the ledger may say that it was sent."""

    RESOLVING = "its user is being found out"
    READY = "waits for its turn"
    MARKING = "is being marked as sent"
    CALLING = "the server has it, or may have"
    JUDGING = "the server refused it; whether it refuses everything is being found out"
    SETTLING = "its fate is being written down"


@dataclass(slots=True, eq=False)
class Parcel:
    """`marked`: the ledger says already that it was sent. `trial`: it goes alone, to see whether the server takes it.
    `waiter` waits until `patient_until`.
    """

    item: OutboxItem
    waiter: Waiter | None
    marked: bool
    trial: bool
    patient_until: float
    stage: Stage = Stage.RESOLVING
    user: str = ""
    unknown: bool = False
    matched: str = ""
    call: Call | None = None
    called_at: float = 0.0
    fault: str = ""
    fault_at: float = 0.0

    @property
    def seq(self) -> int:
        return self.item.seq


@dataclass(slots=True)
class Parcels:
    """All records in hand, by sequence, and whose turn it is."""

    _all: dict[int, Parcel] = field(default_factory=dict)
    _resolving: set[int] = field(default_factory=set)
    _ready: dict[int, Parcel] = field(default_factory=dict)
    _busy: dict[str, int] = field(default_factory=dict)
    """Of each user with a record that was handed on: its sequence."""

    def __iter__(self) -> Iterator[Parcel]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, seq: int) -> Parcel | None:
        return self._all.get(seq)

    def add(self, parcel: Parcel) -> None:
        self._all[parcel.seq] = parcel
        self._resolving.add(parcel.seq)

    def resolved(self, parcel: Parcel) -> None:
        """Its user is known."""
        self._resolving.discard(parcel.seq)
        parcel.stage = Stage.READY
        self._ready[parcel.seq] = parcel

    def out_of_turn(self, parcel: Parcel) -> None:
        """It waits for its turn no more, but is still in hand; nothing earlier of its user passes it."""
        self._resolving.discard(parcel.seq)
        self._ready.pop(parcel.seq, None)

    def remove(self, parcel: Parcel) -> None:
        """It is not in hand any more, whatever became of it: the next of its user may go."""
        seq = parcel.seq
        if self._all.get(seq) is not parcel:
            return
        del self._all[seq]
        self._resolving.discard(seq)
        self._ready.pop(seq, None)
        if self._busy.get(key_of(parcel.user)) == seq:
            del self._busy[key_of(parcel.user)]

    def next(self, most: int, may: Callable[[Parcel], bool]) -> list[Parcel]:
        """Those that go now, oldest first, at most so many; `may` has the last word on each. They are handed on."""
        if most <= 0 or not self._ready:
            return []
        limit = min(self._resolving) if self._resolving else None
        chosen: list[Parcel] = []
        passed: set[str] = set()
        for seq in sorted(self._ready):
            if len(chosen) >= most or (limit is not None and seq > limit):
                break
            parcel = self._ready[seq]
            key = key_of(parcel.user)
            if key in self._busy or key in passed:
                continue
            if not may(parcel):
                passed.add(key)
                continue
            self._busy[key] = seq
            chosen.append(parcel)
        for parcel in chosen:
            del self._ready[parcel.seq]
            parcel.stage = Stage.MARKING
        return chosen

    def count(self, *stages: Stage) -> int:
        return sum(parcel.stage in stages for parcel in self._all.values())

    @property
    def highest_ready(self) -> int:
        """The highest sequence that waits for its turn; -1: none does."""
        return max(self._ready, default=-1)


def key_of(user: str) -> str:
    """The server knows users by name whatever the case."""
    return user.casefold()
