"""How a device stands: what the upstream's state, a drill, an unlock and the device's own policy make of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from proxy.admission import Applicant, Policy, Verdict
from proxy.commands import Command, Keep
from proxy.events import Event, Moment, Ticked
from proxy.handover import Waiter
from proxy.link import Clock, Link, Resumed, State
from proxy.site import Site
from proxy.unlocking import ONCE, UNTIL_RESTORED
from proxy.upstream import Upstream
from storage.answers import CardFacts, OpenSession, OutboxItem
from storage.records import Counts, Logout, Mode, Personal, Record, UnlockStep

WALL = 1_795_000_000_000
OPEN = Policy(True, "any-card", 86_400.0, True, re.compile(".*"))
SCHOOL = replace(OPEN, asks_code=True)
CARD = "0A1B2C3D"
PERSON = Applicant(True, "", CARD)


def at(now: float) -> Moment:
    return Moment(now, WALL + int(now * 1000), bytes(32))


class NoCards:
    def facts(self, card: str) -> CardFacts | None:
        return None


class Server(Upstream):
    """A server that only has a state."""

    def handle(self, event: Event) -> list[Command]:
        return []

    def send_record(self, item: OutboxItem, at: Moment, waiter: Waiter | None) -> list[Command]:
        return []

    def cut_records(self) -> list[tuple[OutboxItem, Waiter | None]]:
        return []

    def reach(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        return []

    def unreachable(self, cause: str, at: Moment) -> list[Command]:
        return []

    def tries_first(self, now: float) -> bool:
        return False


def site(state: State = State.OFFLINE, policy: Policy = OPEN) -> tuple[Site, Server]:
    made = Site(policy, {}, {}, NoCards())
    link = Link("hq", 60.0, Clock("boot", 0), True, at(0.0))
    link.resume(Resumed(state, 0.0, WALL, "before", WALL if state is not State.ONLINE else None, 0.0))
    made.upstreams["hq"] = server = Server("hq", "radius", link, 256)
    made.drills.ended.append(made.drills_ended)
    return made, server


def session(device: str = "a", mode: Mode = Mode.OFFLINE, mark: str = "mark") -> OpenSession:
    return OpenSession(mark, device, "hq", CARD, WALL, WALL + 3_600_000, mode)


def job(pages: int, mode: Mode = Mode.OFFLINE, upstream: str = "hq") -> Record:
    counts, personal = Counts("copy", pages), Personal(card=CARD)
    return Record(WALL, "radius", upstream, "a", "10.7.0.31", "interim", "s1", mode, "a|s1", personal, counts=counts)


@pytest.mark.parametrize(("state", "drill"), list(product(State, [False, True])))
def test_a_drill_makes_a_device_offline_in_every_state(state: State, drill: bool) -> None:
    made, server = site(state)
    if drill:
        made.drills.start("a", 60, "why", "admin", at(1))
    assert made.state_of("a", server) is (State.OFFLINE if drill else state)
    assert made.state_of("b", server) is state
    assert made.in_drill("a", server) is (drill and state is not State.OFFLINE)
    assert made.mode_of("a", server) is (Mode.DRILL if made.in_drill("a", server) else Mode.OFFLINE)


@pytest.mark.parametrize(("state", "drill", "scope"), list(product(State, [False, True], ["", ONCE, UNTIL_RESTORED])))
def test_how_a_device_of_a_school_is_shown(state: State, drill: bool, scope: str) -> None:
    made, server = site(state, SCHOOL)
    if drill:
        made.drills.start("a", 60, "why", "admin", at(1))
    if scope:
        made.unlocking.unlock_by_hand("a", "hq", scope, "admin", at(1))
    offline = drill or state is State.OFFLINE
    wanted = (f"unlocked-{scope}" if scope else "locked") if offline else state.value
    assert made.shown("a", server) == wanted
    assert made.locked("a", server, at(1)) is (offline and not scope)


def test_a_device_that_is_disabled_or_commercial_is_not_locked() -> None:
    made, server = site(policy=SCHOOL)
    made.policies = {"b": OPEN, "c": replace(SCHOOL, enabled=False)}
    assert [made.locked(device, server, at(1)) for device in "abc"] == [True, False, False]
    assert made.shown("b", server) == "offline"


def test_a_grant_promises_the_single_use() -> None:
    made, server = site(policy=SCHOOL)
    made.unlocking.unlock_by_hand("a", "hq", ONCE, "admin", at(1))
    assert made.judge("a", server, PERSON, at(1)).verdict is Verdict.GRANT
    assert made.judge("a", server, PERSON, at(1)).verdict is Verdict.LOCKED
    made.not_begun("a")
    assert made.judge("a", server, PERSON, at(1)).verdict is Verdict.GRANT


def test_a_refusal_promises_nothing() -> None:
    made, server = site(policy=SCHOOL)
    made.unlocking.unlock_by_hand("a", "hq", ONCE, "admin", at(1))
    assert made.judge("a", server, Applicant(True, "", ""), at(1)).verdict is Verdict.METHOD
    assert made.judge("a", server, PERSON, at(1)).verdict is Verdict.GRANT


def test_a_session_counts_by_its_own_mode_not_by_the_devices_state() -> None:
    made, server = site(State.ONLINE, replace(OPEN, max_sessions_per_card=2))
    made.drills.start("a", 60, "why", "admin", at(1))
    made.drills.stop("a", "by hand", "admin", at(2))
    made.begin(session(mode=Mode.DRILL), server, at(3))
    assert not made.limits.knows("hq", CARD)
    assert made.limits.knows("hq (drill)", CARD)


def test_a_servers_session_counts_for_nothing() -> None:
    made, server = site(policy=replace(OPEN, max_sessions_per_card=1))
    made.begin(session(mode=Mode.ONLINE), server, at(1))
    assert made.judge("a", server, PERSON, at(2)).verdict is Verdict.GRANT


@pytest.mark.parametrize(
    ("mode", "counted"), [(Mode.OFFLINE, True), (Mode.DRILL, False), (Mode.ONLINE, False), (Mode.UNKNOWN, False)]
)
def test_pages_count_with_the_sessions_of_their_kind(mode: Mode, counted: bool) -> None:
    made, server = site(policy=replace(OPEN, max_pages_per_card=5))
    made.begin(session(), server, at(1))
    made.job_kept(job(5, mode), server)
    assert (made.judge("a", server, PERSON, at(2)).verdict is Verdict.LIMIT) is counted


def test_pages_count_where_their_session_does() -> None:
    made, server = site(policy=replace(OPEN, max_pages_per_card=5))
    made.upstreams["books"] = books = Server("books", "radius", Link("books", 60.0, Clock("", 0), True, at(0)), 256)
    made.begin(session(), server, at(1))
    made.job_kept(job(5, upstream="books"), books)
    assert made.judge("a", server, PERSON, at(2)).verdict is Verdict.LIMIT


def test_pages_of_a_card_without_a_session_in_this_outage_count_for_nothing() -> None:
    made, server = site(policy=replace(OPEN, max_pages_per_card=5))
    made.job_kept(job(500), server)
    assert made.judge("a", server, PERSON, at(2)).verdict is Verdict.GRANT


def test_time_ends_sessions_and_with_them_the_single_use() -> None:
    made, server = site(policy=SCHOOL)
    made.unlocking.unlock_by_hand("a", "hq", ONCE, "admin", at(1))
    made.begin(session(), server, at(2))
    made.handle(Ticked(at(3599)))
    assert made.shown("a", server) == "unlocked-once"
    kept = [each.change for each in made.handle(Ticked(at(3601))) if isinstance(each, Keep)]
    assert [type(change) for change in kept] == [Logout, UnlockStep]
    assert made.shown("a", server) == "locked"


def test_the_end_of_a_drill_leaves_what_an_outage_has_unlocked() -> None:
    for state, left in ((State.OFFLINE, {"a": "hq"}), (State.ONLINE, {})):
        made, _ = site(state, SCHOOL)
        made.drills.start("a", 60, "why", "admin", at(1))
        made.unlocking.unlock_by_hand("a", "hq", UNTIL_RESTORED, "admin", at(1))
        made.drills.tick(at(61))
        assert made.unlocking.places() == left


def test_the_end_of_one_drill_leaves_the_devices_of_another() -> None:
    made, _ = site(State.ONLINE, SCHOOL)
    for device in "ab":
        made.drills.start(device, 60 if device == "a" else 600, "why", "admin", at(1))
        made.unlocking.unlock_by_hand(device, "hq", UNTIL_RESTORED, "admin", at(1))
    made.drills.tick(at(61))
    assert made.unlocking.places() == {"b": "hq"}
