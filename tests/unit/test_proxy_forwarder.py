"""The order and pace of forwarding, as a state machine against a simple model, and the verdict on a silent try."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.events import Moment
from proxy.forward import (
    FIRST_PAUSE,
    GIVE_UP_AFTER,
    JITTER,
    LONGEST_PAUSE,
    MOST_AT_ONCE,
    MOST_TRIES,
    Forwarder,
    after_unanswered,
)
from storage.answers import OutboxItem, WaitingRef
from storage.records import OutboxState

WALL = 1_795_000_000_000


def moment(now: float = 100.0, wall: int = WALL, seed: int = 0) -> Moment:
    return Moment(now, wall, seed.to_bytes(32, "big"))


def item(tries: int, first_try: int = WALL, seq: int = 1) -> OutboxItem:
    return OutboxItem(seq, "id", WALL, "hq", "radius", "d", "k", tries, first_try, b"")


class Forwarding(RuleBasedStateMachine):
    """The model: for each record its key and where it stands (waiting, flying, pausing until, set aside)."""

    keys = st.sampled_from(["a", "b", "c"])

    @initialize(window=st.integers(1, 6), before=st.lists(st.tuples(keys, st.integers(-5_000, 5_000)), max_size=8))
    def begin(self, window: int, before: list[tuple[str, int]]) -> None:
        self.forwarder = Forwarder(window)
        self.now = 100.0
        self.seq = 0
        self.waiting: dict[int, str] = {}
        self.flying: dict[int, str] = {}
        self.pausing: dict[int, tuple[float, str]] = {}
        self.apart: dict[int, str] = {}
        refs = []
        for key, pause in before:
            self.seq += 1
            refs.append(WaitingRef(self.seq, key, WALL + pause))
            first = key not in set(self.waiting.values()) | {k for _, k in self.pausing.values()}
            if pause > 0 and first:
                self.pausing[self.seq] = (self.now + pause / 1000, key)
            else:
                self.waiting[self.seq] = key
        self.forwarder.load(refs, moment(self.now))

    @rule(key=keys)
    def kept_and_waits(self, key: str) -> None:
        self.seq += 1
        self.forwarder.add(self.seq, key)
        self.waiting[self.seq] = key

    @rule(key=keys)
    def kept_and_sent_if_free(self, key: str) -> None:
        busy = {*self.waiting.values(), *self.flying.values(), *(k for _, k in self.pausing.values())}
        assert self.forwarder.is_free(key) == (key not in busy)
        if self.forwarder.is_free(key):
            self.seq += 1
            self.forwarder.add_sent(self.seq, key)
            self.flying[self.seq] = key

    @rule(least=st.integers(1, 3))
    def take(self, least: int) -> None:
        window = self.forwarder.window
        taken = self.forwarder.due(self.now, window, least)
        self._resume()
        for seq in taken:
            key = self.waiting.pop(seq)
            assert key not in self.flying.values(), "two of one key in flight"
            older = [other for other, k in self.waiting.items() if k == key and other < seq]
            assert not older, "overtook an earlier record of its key"
            assert key not in {k for _, k in self.pausing.values()}, "overtook one that pauses"
            self.flying[seq] = key
        assert len(taken) <= MOST_AT_ONCE
        assert not taken or len(self.flying) <= window, "over the window"
        if len(self.flying) < window and (taken or least == 1):
            blocked = set(self.flying.values()) | {k for _, k in self.pausing.values()}
            assert all(key in blocked for key in self.waiting.values()), "room, but something free was left"

    @rule(data=st.data())
    @precondition(lambda self: self.flying)
    def delivered(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.flying)))
        del self.flying[seq]
        self.forwarder.gone(seq)

    @rule(data=st.data())
    @precondition(lambda self: self.flying)
    def set_aside(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.flying)))
        self.apart[seq] = self.flying.pop(seq)
        self.forwarder.gone(seq)

    @rule(data=st.data())
    @precondition(lambda self: self.waiting or self.pausing)
    def late_answer(self, data: st.DataObject) -> None:
        known = [seq for seq in (*self.waiting, *self.pausing) if self.forwarder.knows(seq)]
        if known:
            seq = data.draw(st.sampled_from(sorted(known)))
            self.waiting.pop(seq, None)
            self.pausing.pop(seq, None)
            self.forwarder.gone(seq)

    @rule()
    def contact_lost(self) -> None:
        for seq in sorted(self.flying):
            self.forwarder.cut(seq)
        self.waiting.update(self.flying)
        self.flying.clear()

    @rule(data=st.data(), pause=st.floats(0.1, 10))
    @precondition(lambda self: self.flying)
    def unanswered(self, data: st.DataObject, pause: float) -> None:
        seq = data.draw(st.sampled_from(sorted(self.flying)))
        self.pausing[seq] = (self.now + pause, self.flying.pop(seq))
        self.forwarder.pause(seq, self.now + pause)

    @rule(seconds=st.floats(0.05, 6))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    @precondition(lambda self: self.pausing)
    def admin_hurries(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.pausing)))
        self.waiting[seq] = self.pausing.pop(seq)[1]
        self.forwarder.hurry(seq)

    @rule(data=st.data())
    @precondition(lambda self: self.apart)
    def admin_retries_one_set_aside(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.apart)))
        key = self.apart.pop(seq)
        self.seq += 1  # it goes to the end: those behind it have gone on
        self.forwarder.add(self.seq, key)
        self.waiting[self.seq] = key

    @rule(data=st.data())
    @precondition(lambda self: self.waiting)
    def admin_drops_one_that_waits(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.waiting)))
        self.forwarder.drop(seq, self.waiting.pop(seq))

    @rule(data=st.data())
    @precondition(lambda self: self.apart)
    def admin_drops_one_set_aside(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.apart)))
        self.forwarder.drop(seq, self.apart.pop(seq))

    @rule()
    def drained_all_is_sent(self) -> None:
        """Nothing is lost: answered one by one, every record gets its turn."""
        turns = 0
        while self.waiting or self.flying or self.pausing:
            turns += 1
            assert turns < 1000, f"never sent: {self.waiting}, {self.pausing}"
            for seq in sorted(self.flying):
                del self.flying[seq]
                self.forwarder.gone(seq)
            self.now += 11
            for seq in self.forwarder.due(self.now, self.forwarder.window):
                self._resume()
                self.flying[seq] = self.waiting.pop(seq)
        assert self.forwarder.empty

    @invariant()
    def what_is_in_flight_is_known(self) -> None:
        if hasattr(self, "forwarder"):
            assert self.forwarder.in_flight == len(self.flying)

    @invariant()
    def empty_if_and_only_if_nothing_waits(self) -> None:
        if hasattr(self, "forwarder"):
            assert self.forwarder.empty == (not self.waiting and not self.flying and not self.pausing)

    def _resume(self) -> None:
        for seq, (until, key) in list(self.pausing.items()):
            if until <= self.now:
                del self.pausing[seq]
                self.waiting[seq] = key


TestForwarding = Forwarding.TestCase
TestForwarding.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


def test_dropping_one_set_aside_forgets_none_that_waits() -> None:
    forwarder = Forwarder(4)
    forwarder.add_sent(1, "key")
    forwarder.gone(1)
    forwarder.add(2, "key")
    forwarder.drop(1, "key")
    assert not forwarder.empty
    assert forwarder.due(0.0, 4) == (2,)
    forwarder.gone(2)
    assert forwarder.empty


def test_never_more_taken_than_the_window_has_room_for() -> None:
    forwarder = Forwarder(10)
    for seq in range(100):
        forwarder.add(seq, f"k{seq}")
    assert forwarder.due(0.0, 10) == tuple(range(10))
    assert forwarder.due(0.0, 10) == ()
    forwarder.gone(3)
    assert forwarder.due(0.0, 10) == (10,)


def test_a_few_at_a_time_wait_for_more_room() -> None:
    forwarder = Forwarder(10)
    for seq in range(100):
        forwarder.add(seq, f"k{seq}")
    forwarder.due(0.0, 10)
    forwarder.gone(0)
    assert forwarder.due(0.0, 10, least=3) == ()
    forwarder.gone(1)
    forwarder.gone(2)
    assert len(forwarder.due(0.0, 10, least=3)) == 3


def test_a_long_queue_of_one_key_does_not_hide_the_others_for_ever() -> None:
    forwarder = Forwarder(4)
    for seq in range(10_000):
        forwarder.add(seq, "one")
    forwarder.add(10_000, "other")
    found: list[int] = []
    for _ in range(8):
        found += forwarder.due(0.0, 4)
    assert found == [0, 10_000]


def test_pauses_double_up_to_five_minutes_with_a_fifth_of_jitter() -> None:
    for tries in range(12):
        middle = min(FIRST_PAUSE * 2**tries, LONGEST_PAUSE)
        pauses = {after_unanswered(item(tries), True, moment(seed=seed)).pause for seed in range(50)}
        assert all(middle * (1 - JITTER) <= pause <= middle * (1 + JITTER) for pause in pauses)
        assert len(pauses) > 40


def test_set_aside_takes_eight_tries_ten_minutes_and_others_answered() -> None:
    late = moment(wall=WALL + int(GIVE_UP_AFTER * 1000))
    early = moment(wall=WALL + int(GIVE_UP_AFTER * 1000) - 1)
    assert after_unanswered(item(MOST_TRIES - 1), True, late).state is OutboxState.REJECTED
    assert after_unanswered(item(MOST_TRIES - 2), True, late).state is OutboxState.WAITING
    assert after_unanswered(item(MOST_TRIES - 1), True, early).state is OutboxState.WAITING
    assert after_unanswered(item(MOST_TRIES - 1), False, late).state is OutboxState.WAITING
    assert after_unanswered(item(0, first_try=0), True, late).state is OutboxState.WAITING


def test_a_pause_taken_over_is_never_longer_than_the_longest() -> None:
    forwarder = Forwarder(4)
    forwarder.load([WaitingRef(1, "k", WALL + 86_400_000)], moment(0.0))
    assert forwarder.due(LONGEST_PAUSE * (1 + JITTER), 4) == (1,)


def test_a_pause_that_an_admin_cut_short_does_not_shorten_the_next_one() -> None:
    forwarder = Forwarder(4)
    forwarder.add_sent(1, "k")
    forwarder.pause(1, 10.0)
    forwarder.hurry(1)
    assert forwarder.due(5.0, 4) == (1,)
    forwarder.pause(1, 30.0)
    assert forwarder.due(11.0, 4) == ()
    assert forwarder.due(30.0, 4) == (1,)
