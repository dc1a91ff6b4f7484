"""The order and pace in which the outbox is forwarded, for any dialect.

A record waits for earlier ones of its order key; all others overlap and leave in the order in which they came, at most
`window` of them unanswered. A record that is not answered is tried anew after growing pauses with jitter, and is set
aside (rejected) when it went unanswered eight times over ten minutes while others were answered. This class only says
which sequences are due and what became of a try; sending is the dialect's, writing it down the ledger's.

Records that nobody has looked at yet are two numbers in an array (16 bytes each way); those passed over because their
order key is busy stand in a queue behind it.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.events import Moment
from storage.answers import OutboxItem, WaitingRef
from storage.records import OutboxState

MOST_TRIES = 8
GIVE_UP_AFTER = 600.0
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
JITTER = 0.2
LOOKED_AT_ONCE = 2048
MOST_AT_ONCE = 64
COMPACT_AT = 8192


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where an unanswered try leaves a record: its state, its finished tries, and the pause before the next, in
    seconds.
    """

    state: OutboxState
    tries: int
    pause: float


def after_unanswered(item: OutboxItem, others_answered: bool, at: Moment) -> Verdict:
    """What becomes of a record whose try went unanswered although contact was not lost."""
    tries = item.tries + 1
    first = item.first_try or at.wall
    if tries >= MOST_TRIES and at.wall - first >= GIVE_UP_AFTER * 1000 and others_answered:
        return Verdict(OutboxState.REJECTED, tries, 0.0)
    pause = min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE)
    jitter = 1 + JITTER * (2 * at.fraction(f"pause {item.seq}") - 1)
    return Verdict(OutboxState.WAITING, tries, pause * jitter)


class Forwarder:
    """One upstream's outbox, as far as it must be known to send it. `now` and pauses are monotonic seconds.

    A key is busy while one of its records is ready, in flight or pausing; the others of that key wait.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self._seqs = array("q")
        self._keys = array("q")
        self._head = 0
        self._waiting: Counter[int] = Counter()
        self._behind: dict[int, deque[int]] = {}
        self._busy: dict[int, int] = {}
        self._key_of: dict[int, int] = {}
        self._ready: list[int] = []
        self._pausing: list[tuple[float, int]] = []
        self._held: dict[int, float] = {}
        self._in_flight: set[int] = set()
        self._dropped: set[int] = set()

    def load(self, refs: Iterable[WaitingRef], at: Moment) -> None:
        """Take over what a restart found waiting, in order of sequence. A pause goes on where it was."""
        for ref in refs:
            key = hash(ref.order_key)
            if ref.next_try > at.wall and key not in self._busy and key not in self._waiting:
                self._begin(ref.seq, key)
                # No longer than any pause is: the clock may have been set back meanwhile.
                self._pause(ref.seq, at.now + min((ref.next_try - at.wall) / 1000, LONGEST_PAUSE * (1 + JITTER)))
            else:
                self.add(ref.seq, ref.order_key)

    def add(self, seq: int, order_key: str) -> None:
        """A record was kept and waits."""
        key = hash(order_key)
        self._seqs.append(seq)
        self._keys.append(key)
        self._waiting[key] += 1

    def add_sent(self, seq: int, order_key: str) -> None:
        """A record was kept and is sent right away; only where `is_free` says so."""
        self._begin(seq, hash(order_key))
        self._in_flight.add(seq)

    def is_free(self, order_key: str) -> bool:
        """Whether nothing of this order key waits or is under way."""
        key = hash(order_key)
        return key not in self._busy and key not in self._waiting

    def due(self, now: float, window: int, least: int = 1) -> tuple[int, ...]:
        """The sequences to send now, oldest first; they count as in flight from here on.

        `window` is how many may be in flight. None are given while there is room for fewer than `least` and some are in
        flight: a few at a time cost as much as many.
        """
        while self._pausing and self._pausing[0][0] <= now:
            until, seq = heapq.heappop(self._pausing)
            if self._held.get(seq) == until:
                self.hurry(seq)
        room = min(window - len(self._in_flight), MOST_AT_ONCE)
        if room < least and self._in_flight:
            return ()
        chosen: list[int] = []
        looked = 0
        while len(chosen) < room and looked < LOOKED_AT_ONCE:
            looked += 1
            if self._ready:
                seq = heapq.heappop(self._ready)
                if seq in self._key_of:
                    chosen.append(seq)
            elif self._head < len(self._seqs):
                self._look_at_next()
            else:
                break
        self._in_flight.update(chosen)
        return tuple(chosen)

    def gone(self, seq: int) -> None:
        """The record has left the outbox, or is set aside: those behind it may go."""
        key = self._key_of.pop(seq, None)
        if key is None:
            return
        self._in_flight.discard(seq)
        self._held.pop(seq, None)
        del self._busy[key]
        behind = self._behind.get(key)
        while behind and key not in self._busy:
            self._start(behind.popleft(), key)
        if behind is not None and not behind:
            del self._behind[key]

    def cut(self, seq: int) -> None:
        """Contact was lost while the record was in flight, or it could not be sent: it is due again, unpunished."""
        if seq in self._in_flight:
            self._in_flight.discard(seq)
            heapq.heappush(self._ready, seq)

    def pause(self, seq: int, until: float) -> None:
        """The record went unanswered: it is due again at `until`, and those behind it wait with it."""
        if seq in self._in_flight:
            self._in_flight.discard(seq)
            self._pause(seq, until)

    def hurry(self, seq: int) -> None:
        """A pause is over, or an admin wants it to be."""
        if self._held.pop(seq, None) is not None:
            heapq.heappush(self._ready, seq)

    def knows(self, seq: int) -> bool:
        """Whether the record is ready, in flight or pausing."""
        return seq in self._key_of

    def queues(self, seq: int, order_key: str) -> bool:
        """Whether the record waits for its turn."""
        return seq in self._behind.get(hash(order_key), ()) or seq in self._seqs[self._head :]

    def drop(self, seq: int, order_key: str) -> None:
        """An admin took a record out: one that waits, or one that was set aside and is not known here any more."""
        if seq in self._key_of:
            self.gone(seq)
        elif self.queues(seq, order_key):
            self._count_down(hash(order_key))
            self._dropped.add(seq)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def empty(self) -> bool:
        """Whether nothing is waiting or sent; what was rejected does not count."""
        return not self._busy and not self._waiting

    def _look_at_next(self) -> None:
        seq, key = self._seqs[self._head], self._keys[self._head]
        self._head += 1
        if self._head >= COMPACT_AT and self._head * 2 >= len(self._seqs):
            del self._seqs[: self._head], self._keys[: self._head]
            self._head = 0
        if key in self._busy:
            self._behind.setdefault(key, deque()).append(seq)
        else:
            self._start(seq, key)

    def _start(self, seq: int, key: int) -> None:
        if seq in self._dropped:
            self._dropped.discard(seq)
            return
        self._count_down(key)
        self._begin(seq, key)
        heapq.heappush(self._ready, seq)

    def _begin(self, seq: int, key: int) -> None:
        self._busy[key] = seq
        self._key_of[seq] = key

    def _pause(self, seq: int, until: float) -> None:
        self._held[seq] = until
        heapq.heappush(self._pausing, (until, seq))

    def _count_down(self, key: int) -> None:
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
