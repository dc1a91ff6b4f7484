"""Unlocking without a wire: the limiter's arithmetic, and that a restart finds what was, whatever happened before."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.commands import Command, Keep, Tell, Verify
from proxy.events import Kept, Moment, NotKept, Verified
from proxy.unlocking import (
    FIRST_CLOSURE,
    LONGEST_CLOSURE,
    ONCE,
    PROMISED_FOR,
    UNTIL_RESTORED,
    VOID_AFTER,
    WRONG_AT_DEVICE,
    WRONG_IN_OUTAGE,
    UnlockAsk,
    Unlocking,
)
from storage.answers import Stored
from storage.records import UnlockStep

WALL = 1_795_000_000_000
RIGHT, WRONG = "246813", "135791"
DEVICES = ("a", "b", "c")


@dataclass
class Desk:
    """One Unlocking with its storage, its hash and the person at the device in the test's hands."""

    unlocking: Unlocking = field(default_factory=lambda: Unlocking("hash"))
    now: float = 1000.0
    kept: list[UnlockStep] = field(default_factory=list)
    told: list[Tell] = field(default_factory=list)
    said: list[tuple[str, int]] = field(default_factory=list)
    compared: int = 0
    waiting: list[Verify] = field(default_factory=list)
    slow: bool = False
    disk_full: bool = False
    offline: bool = True

    def __post_init__(self) -> None:
        self.unlocking.is_offline = lambda device, upstream: self.offline

    def at(self) -> Moment:
        return Moment(self.now, WALL + round(self.now * 1000), bytes(32))

    def unlock_answered(self, ask: UnlockAsk, outcome: str, retry_after: int, at: Moment) -> list[Command]:
        self.said.append((outcome, retry_after))
        return []

    def give(self, code: str, device: str = "a", scope: str = ONCE, *, unread: bool = False) -> str:
        """A code at a device; what was said to it, "" nothing yet."""
        before = len(self.said)
        ask = UnlockAsk(device, "hq", scope, code, self, None)
        self.run(self.unlocking.ask(ask, unread=unread, at=self.at()))
        return self.said[-1][0] if len(self.said) > before else ""

    def run(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Verify):
                self.waiting.append(command)
                if not self.slow:
                    self.compare()
            elif isinstance(command, Tell):
                self.told.append(command)
            elif isinstance(command, Keep):
                assert isinstance(command.change, UnlockStep)
                if self.disk_full and command.owner is not None:
                    self.run(command.owner.handle(NotKept(command.token, "full", self.at())))
                    continue
                self.kept.append(command.change)
                if command.owner is not None:
                    self.run(command.owner.handle(Kept(command.token, Stored(1, "id"), self.at())))

    def compare(self) -> None:
        while self.waiting:
            asked = self.waiting.pop(0)
            self.compared += 1
            self.run(self.unlocking.handle(Verified(asked.token, asked.code == RIGHT, self.at())))

    def restarted(self) -> Desk:
        """Another run on the same steps."""
        desk = Desk(now=self.now, offline=self.offline)
        desk.unlocking.restore(self.kept, [], self.at())
        return desk


def test_a_code_is_compared_once_and_answered_once() -> None:
    desk = Desk()
    assert desk.give(RIGHT) == "unlocked"
    assert (desk.compared, desk.said) == (1, [("unlocked", 0)])
    assert desk.unlocking.scope_on("a") == ONCE


def test_the_limiter_comes_before_the_hash() -> None:
    desk = Desk()
    for _ in range(WRONG_AT_DEVICE + 20):
        desk.give(WRONG)
    assert desk.compared == WRONG_AT_DEVICE
    assert desk.said[WRONG_AT_DEVICE - 1] == ("wrong-code", 30)
    assert set(desk.said[WRONG_AT_DEVICE:]) == {("too-many", 30)}


def test_the_first_wrong_code_says_no_time() -> None:
    desk = Desk()
    desk.give(WRONG)
    assert desk.said == [("wrong-code", 0)]


def test_each_closure_is_twice_as_long_up_to_an_hour() -> None:
    desk, lengths = Desk(), []
    while len(lengths) < 12:
        desk.give(WRONG)
        if desk.said[-1][1]:
            lengths.append(desk.said[-1][1])
            desk.now += lengths[-1]
    assert lengths == [min(FIRST_CLOSURE * 2**number, LONGEST_CLOSURE) for number in range(12)]


def test_tries_that_are_being_compared_count_as_wrong() -> None:
    desk = Desk(slow=True)
    for _ in range(WRONG_AT_DEVICE):
        assert desk.give(WRONG) == ""
    assert desk.give(RIGHT) == "too-many"
    desk.compare()
    assert desk.compared == WRONG_AT_DEVICE


def test_tries_that_are_being_compared_count_for_the_outage_too() -> None:
    desk = Desk(slow=True)
    for number in range(WRONG_IN_OUTAGE + 50):
        desk.give(WRONG, f"device-{number}")
    desk.compare()
    assert desk.compared == WRONG_IN_OUTAGE
    assert desk.unlocking.codes_refused("hq")


def test_right_codes_at_once_do_not_close_a_device() -> None:
    desk = Desk(slow=True)
    for _ in range(WRONG_AT_DEVICE):
        desk.give(RIGHT)
    desk.compare()
    assert [outcome for outcome, _ in desk.said] == ["unlocked"] * WRONG_AT_DEVICE


def test_the_outage_of_another_upstream_has_its_own_hundred() -> None:
    desk = Desk()
    for number in range(WRONG_IN_OUTAGE):
        desk.give(WRONG, f"device-{number}")
    ask = UnlockAsk("z", "other", ONCE, RIGHT, desk, None)
    desk.run(desk.unlocking.ask(ask, unread=False, at=desk.at()))
    assert desk.said[-1] == ("unlocked", 0)
    assert desk.give(RIGHT) == "too-many"


def test_a_refused_try_leaves_nothing_behind_for_its_device() -> None:
    """Devices that are invented fill no table."""
    desk = Desk()
    for number in range(WRONG_IN_OUTAGE + 1000):
        desk.give(WRONG, f"device-{number}")
    assert len(desk.unlocking._wrong) == WRONG_IN_OUTAGE


def test_an_unlock_that_is_not_stored_is_none() -> None:
    desk = Desk(disk_full=True)
    assert desk.give(RIGHT) == "not-stored"
    assert not desk.unlocking.lets_in("a", desk.now)


def test_an_unlock_that_comes_when_the_server_is_back_is_none() -> None:
    desk = Desk(offline=False)
    desk.give(RIGHT, scope=UNTIL_RESTORED)
    assert desk.unlocking.places() == {}
    assert [step.outcome for step in desk.kept] == ["unlocked", "dropped"]


def test_a_promised_single_use_lets_nobody_else_in_until_it_is_given_up() -> None:
    desk = Desk()
    desk.give(RIGHT)
    desk.unlocking.promise("a", desk.at())
    assert not desk.unlocking.lets_in("a", desk.now)
    desk.unlocking.not_begun("a")
    assert desk.unlocking.lets_in("a", desk.now)
    desk.unlocking.promise("a", desk.at())
    assert desk.unlocking.lets_in("a", desk.now + PROMISED_FOR)


def test_until_restored_is_promised_to_everybody() -> None:
    desk = Desk()
    desk.give(RIGHT, scope=UNTIL_RESTORED)
    desk.unlocking.promise("a", desk.at())
    assert desk.unlocking.lets_in("a", desk.now)


def test_a_devices_single_use_ends_with_its_own_session_only() -> None:
    desk = Desk()
    desk.give(RIGHT)
    desk.run(desk.unlocking.session_began("a", "mark", desk.at()))
    assert desk.unlocking.session_ended("a", "another", desk.at()) == []
    assert desk.unlocking.session_ended("a", "", desk.at()) == []
    assert desk.unlocking.session_ended("b", "mark", desk.at()) == []
    assert len(desk.unlocking.session_ended("a", "mark", desk.at())) == 1


@pytest.mark.parametrize(
    ("lost_after", "delay", "again"), [(0, 60, True), (59, 60, True), (60, 60, False), (0, 0, False)]
)
def test_in_force_again_if_contact_is_lost_within_the_delay(lost_after: float, delay: float, again: bool) -> None:
    desk = Desk()
    desk.give(RIGHT, scope=UNTIL_RESTORED)
    desk.run(desk.unlocking.left_offline("hq", lambda device: False, desk.at()))
    lost = desk.now + lost_after
    desk.now = lost + delay
    desk.run(desk.unlocking.went_offline("hq", lost=lost, delay=delay, at=desk.at()))
    assert (desk.unlocking.scope_on("a") == UNTIL_RESTORED) is again


def test_another_upstreams_states_change_nothing() -> None:
    desk = Desk()
    desk.give(RIGHT, scope=UNTIL_RESTORED)
    assert desk.unlocking.left_offline("other", lambda device: False, desk.at()) == []
    assert desk.unlocking.places() == {"a": "hq"}


def test_a_spared_device_stays_unlocked() -> None:
    desk = Desk()
    for device in DEVICES:
        desk.give(RIGHT, device, UNTIL_RESTORED)
    desk.run(desk.unlocking.left_offline("hq", lambda device: device == "b", desk.at()))
    assert desk.unlocking.places() == {"b": "hq"}


def test_no_step_line_or_printed_ask_holds_the_code() -> None:
    desk = Desk()
    for code in (WRONG, RIGHT):
        desk.give(code)
    assert RIGHT not in f"{desk.kept}{desk.told}"
    assert WRONG not in f"{desk.kept}{desk.told}"
    assert RIGHT not in repr(UnlockAsk("a", "hq", ONCE, RIGHT, desk, None))


ACTS = st.one_of(
    st.tuples(st.just("give"), st.sampled_from([RIGHT, WRONG, WRONG]), st.sampled_from([ONCE, UNTIL_RESTORED])),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 29.0, 31.0, 119.0, 130.0, 601.0, 3601.0])),
    st.tuples(st.sampled_from(["began", "ended", "by hand", "lock", "allow", "leave", "fall back", "fall", "over"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DEVICES), ACTS), max_size=40))
def test_a_restart_finds_what_was(acts: list[tuple[str, tuple[str, ...]]]) -> None:
    desk = Desk()
    for number, (device, (act, *given_)) in enumerate(acts):
        unlocking, at = desk.unlocking, desk.at()
        match act:
            case "give":
                unread = unlocking.lets_in(device, desk.now)
                desk.give(str(given_[0]), device, str(given_[1]), unread=unread)
            case "wait":
                desk.now += float(given_[0])
                desk.run(unlocking.tick(desk.at()))
            case "began" if unlocking.lets_in(device, desk.now):
                desk.run(unlocking.session_began(device, f"mark {device}", at))
            case "ended":
                desk.run(unlocking.session_ended(device, f"mark {device}", at))
            case "by hand":
                desk.run(unlocking.unlock_by_hand(device, "hq", UNTIL_RESTORED if number % 2 else ONCE, "admin", at))
            case "lock":
                desk.run(unlocking.lock_by_hand(device, "hq", "admin", at))
            case "allow":
                desk.run(unlocking.allow_codes("admin", at))
            case "leave":
                desk.run(unlocking.left_offline("hq", lambda device: False, at))
            case "fall back":
                desk.run(unlocking.went_offline("hq", lost=desk.now, delay=1000.0, at=at))
            case "fall":
                desk.run(unlocking.went_offline("hq", lost=desk.now, delay=0.0, at=at))
            case "over":
                desk.run(unlocking.outage_ended("hq", at))
    after = desk.restarted()
    for device in DEVICES:
        assert after.unlocking.scope_on(device) == desk.unlocking.scope_on(device)
        assert after.unlocking.lets_in(device, desk.now) == desk.unlocking.lets_in(device, desk.now)
    assert after.unlocking._wrong_in.get("hq", 0) == desk.unlocking._wrong_in.get("hq", 0)
    assert {d: w.closed_until for d, w in after.unlocking._wrong.items() if w.times} == {
        d: pytest.approx(w.closed_until) for d, w in desk.unlocking._wrong.items() if w.times
    }
    for each in (desk, after):
        each.run(each.unlocking.tick(Moment(desk.now + VOID_AFTER, each.at().wall + 120_000, bytes(32))))
    assert after.unlocking.places() == desk.unlocking.places()
