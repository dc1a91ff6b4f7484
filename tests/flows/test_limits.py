"""Exposure limits over RADIUS: pages and sessions of a card, hours of an outage; each off by default.

Counted per outage and normalised card, checked when a session would begin, told at 80 %, known after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocols.radius.packet import Code, Type
from proxy.admission import OFFLINE_LINE
from proxy.link import State
from tests.flows.house import House

Make = Callable[..., House]

CARD = "0A1B2C3D"
OTHER = "DEADBEEF"
ACK = Code.ACCOUNTING_RESPONSE


@pytest.fixture
def make_offline(make_house: Make) -> Make:
    """Makes a house whose server is gone; what is given are the limits."""

    def make(*, house: dict[str, Any] | None = None, **limits: int) -> House:
        made = make_house(policy=limits, **(house or {}))
        made.move(State.OFFLINE)
        return made

    return make


def warnings(house: House) -> list[str]:
    return [told.text for told in house.told if told.alarm == "limit"]


def words(house: House, name: str = CARD, **how: Any) -> str:
    """What a swipe is answered with."""
    return house.line(house.swipe(name, **how))


def copy(house: House, pages: int, name: str = CARD, device: str = "copier-1", **how: Any) -> bytes:
    house.wall += 1  # another job, not a repeat
    return house.account(job=str(house.wall), pages=pages, name=name, device=device, **how)


def refusal(what: str, limit: int) -> str:
    return f"Offline: the limit of {limit} {what} for a card is reached"


# Off by default


def test_without_limits_nothing_is_counted_against_a_card(offline: House) -> None:
    for _ in range(30):
        assert words(offline) == OFFLINE_LINE
        copy(offline, 1000)
    assert warnings(offline) == []


# Sessions


def test_the_limit_of_sessions_is_the_number_that_is_granted(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=3)
    assert [words(house) for _ in range(3)] == [OFFLINE_LINE] * 3
    packet = house.swipe(CARD)
    assert house.code(packet) == Code.ACCESS_REJECT
    assert house.line(packet) == refusal("sessions", 3)
    assert house.rows("SELECT outcome, reason FROM logins ORDER BY seq DESC LIMIT 1") == [
        ("refused", "the limit of 3 sessions for a card is reached")
    ]


def test_sessions_are_counted_over_all_devices_and_for_each_card(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=2)
    words(house, device="copier-1")
    words(house, device="copier-2")
    assert words(house, device="copier-3") == refusal("sessions", 2)
    assert words(house, OTHER, device="copier-3") == OFFLINE_LINE


def test_upper_and_lower_case_are_one_card(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=2)
    words(house, CARD)
    words(house, CARD.lower())
    assert words(house, "0a1B2c3D") == refusal("sessions", 2)


def test_swipes_at_many_devices_at_once_share_the_limit(make_offline: Make) -> None:
    """A grant counts from the moment it is decided, not from when it is stored."""
    house = make_offline(max_sessions_per_card=2)
    house.holding = True
    swipes = [house.swipe(CARD, device=f"copier-{number}") for number in range(6)]
    while house.held:
        house.sync()
    assert sum(house.line(each) == OFFLINE_LINE for each in swipes) == 2


def test_a_grant_that_could_not_be_stored_counts_for_nothing(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=1)
    house.disk_full = True
    packet = house.swipe(CARD)
    assert house.code(packet) is None
    house.disk_full = False
    house.swipe("", packet=packet)
    assert house.line(packet) == OFFLINE_LINE
    assert words(house) == refusal("sessions", 1)


def test_a_refused_login_is_no_session(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=2)
    words(house)
    for _ in range(5):
        words(house, "jsmith")
    assert words(house) == OFFLINE_LINE


def test_a_repeated_login_is_one_session(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=2)
    packet = house.swipe(CARD)
    for _ in range(5):
        house.swipe("", packet=packet)
    assert words(house) == OFFLINE_LINE


# Pages


def test_the_limit_of_pages_stands_against_the_next_session(make_offline: Make) -> None:
    house = make_offline(max_pages_per_card=100)
    words(house)
    copy(house, 99)
    assert words(house) == OFFLINE_LINE
    copy(house, 1)
    assert words(house) == refusal("pages", 100)
    assert words(house, OTHER) == OFFLINE_LINE


def test_a_job_under_way_is_never_cut(make_offline: Make) -> None:
    """What overruns the limit is kept, and the session goes on."""
    house = make_offline(max_pages_per_card=10)
    words(house)
    for _ in range(3):
        assert house.code(copy(house, 50)) == ACK
    assert house.count("SELECT sum(pages) FROM jobs WHERE mode = 'offline'") == 150
    assert house.site.sessions.on("copier-1") is not None
    assert words(house) == refusal("pages", 10)


def test_a_repeated_job_counts_once(make_offline: Make) -> None:
    house = make_offline(max_pages_per_card=100)
    words(house)
    packet = copy(house, 60)
    for _ in range(3):
        house.account(packet=packet)
    assert words(house) == OFFLINE_LINE


def test_pages_of_an_online_session_count_for_nothing(make_house: Make) -> None:
    house = make_house(policy={"max_pages_per_card": 10})
    words(house)
    copy(house, 500)
    house.move(State.OFFLINE)
    copy(house, 500)
    assert words(house) == OFFLINE_LINE


def test_the_stop_itself_counts(make_offline: Make) -> None:
    house = make_offline(max_pages_per_card=10)
    packet = house.swipe(CARD)
    (accept,) = house.answers(packet)
    copy(house, 10, status=2)
    assert accept.code == Code.ACCESS_ACCEPT
    assert words(house) == refusal("pages", 10)


def test_pages_count_where_records_go_to_another_server(make_offline: Make) -> None:
    house = make_offline(house={"records_to": "books"}, max_pages_per_card=10)
    words(house)
    copy(house, 10)
    assert words(house) == refusal("pages", 10)


# Hours


def test_an_outage_that_has_lasted_too_long_lets_nobody_in(make_offline: Make) -> None:
    house = make_offline(max_outage_hours=2)
    assert words(house) == OFFLINE_LINE
    house.now += 7190
    house.wall += 7_190_000
    assert words(house) == OFFLINE_LINE
    house.pass_time(11)
    assert words(house) == "Offline: the limit of 2 hours for an outage is reached"


def test_the_hours_are_told_once_at_four_fifths(make_offline: Make) -> None:
    house = make_offline(max_outage_hours=2)
    house.now += 5740
    house.pass_time(5)
    assert warnings(house) == []
    house.pass_time(20)
    (told,) = warnings(house)
    assert told == "hq: the outage has lasted 1.6 of the 2 hours that are allowed"
    house.pass_time(60)
    assert len(warnings(house)) == 1


def test_the_next_outage_has_its_own_hours(make_offline: Make) -> None:
    house = make_offline(max_outage_hours=1)
    house.now += 3600
    assert "hours" in words(house)
    house.server_up = True
    house.until(State.ONLINE)
    house.move(State.OFFLINE)
    assert words(house) == OFFLINE_LINE


# The warning


def test_four_fifths_of_the_sessions_are_told_once(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=5)
    for _ in range(3):
        words(house)
    assert warnings(house) == []
    words(house)
    words(house)
    (told,) = warnings(house)
    assert told == "a card has used 4 of the 5 sessions that it may while the server is away"


def test_four_fifths_of_the_pages_are_told_once(make_offline: Make) -> None:
    house = make_offline(max_pages_per_card=100)
    words(house)
    copy(house, 79)
    assert warnings(house) == []
    copy(house, 1)
    copy(house, 50)
    (told,) = warnings(house)
    assert told == "a card has used 80 of the 100 pages that it may while the server is away"


def test_the_card_is_in_the_personal_part_of_the_warning_only(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=1)
    words(house)
    (told,) = [told for told in house.told if told.alarm == "limit"]
    assert told.personal.card == CARD
    assert CARD not in told.text
    assert CARD not in str(told.context)


def test_every_card_is_told_of(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=1)
    words(house)
    words(house, OTHER)
    assert len(warnings(house)) == 2


# Per device


def test_a_device_may_have_limits_of_its_own(make_offline: Make) -> None:
    devices = {"copier-2": {"max_sessions_per_card": None}, "copier-3": {"max_sessions_per_card": 1}}
    house = make_offline(house={"devices": devices}, max_sessions_per_card=2)
    words(house)
    assert words(house, device="copier-3") == refusal("sessions", 1)
    words(house)
    assert words(house) == refusal("sessions", 2)
    assert words(house, device="copier-2") == OFFLINE_LINE


# Per outage


def test_the_next_outage_counts_anew(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=1, max_pages_per_card=10)
    words(house)
    copy(house, 10)
    house.server_up = True
    house.until(State.ONLINE)
    house.move(State.OFFLINE)
    assert words(house) == OFFLINE_LINE


def test_what_an_old_session_prints_after_the_outage_does_not_count_in_the_next(make_offline: Make) -> None:
    house = make_offline(max_pages_per_card=10)
    words(house)
    house.server_up = True
    house.until(State.ONLINE)
    copy(house, 500)
    assert house.rows("SELECT mode FROM jobs") == [("offline",)]
    house.move(State.OFFLINE)
    assert words(house) == OFFLINE_LINE


def test_contact_that_comes_and_goes_is_one_outage(make_offline: Make) -> None:
    """While records wait, the outage is not over."""
    house = make_offline(house={"delay": 30.0}, max_sessions_per_card=2)
    words(house)
    house.move(State.RECOVERING)
    house.server_up = False
    house.until(State.OFFLINE)
    words(house)
    assert words(house) == refusal("sessions", 2)


# After a restart


def test_what_a_card_has_used_is_known_after_a_restart(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=2, max_pages_per_card=100)
    words(house)
    copy(house, 60)
    words(house, OTHER)
    house.restart(down_for=60)
    copy(house, 39)
    assert words(house) == OFFLINE_LINE
    assert words(house) == refusal("sessions", 2)
    house.restart(down_for=60)
    assert words(house) == refusal("sessions", 2)
    words(house, OTHER)
    copy(house, 100, name=OTHER)
    house.restart(down_for=60)
    assert words(house, OTHER) == refusal("pages", 100)


def test_a_restart_does_not_tell_again(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=5)
    for _ in range(4):
        words(house)
    house.restart()
    words(house)
    assert len(warnings(house)) == 1


def test_the_hours_count_on_over_a_restart(make_offline: Make) -> None:
    house = make_offline(max_outage_hours=1)
    house.restart(down_for=1800)
    assert words(house) == OFFLINE_LINE
    house.restart(down_for=1800)
    assert "hours" in words(house)


def test_a_reload_sets_other_limits_at_once(make_offline: Make) -> None:
    house = make_offline(max_sessions_per_card=1)
    words(house)
    assert words(house) == refusal("sessions", 1)
    house.reload(policy={"max_sessions_per_card": 3, "max_outage_hours": 5})
    assert words(house) == OFFLINE_LINE
    house.now += 5 * 3600
    assert "hours" in words(house)


# Which limit


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_pages_per_card": 1, "max_sessions_per_card": 1}, refusal("pages", 1)),
        ({"max_sessions_per_card": 1, "max_pages_per_card": 1000}, refusal("sessions", 1)),
        ({"max_pages_per_card": 1}, refusal("pages", 1)),
    ],
)
def test_the_refusal_says_which_limit(make_offline: Make, limits: dict[str, int], said: str) -> None:
    house = make_offline(**limits)
    words(house)
    copy(house, 5)
    assert words(house) == said


def test_a_class_that_names_the_session_counts_for_its_card(make_offline: Make) -> None:
    """Jobs that carry the session's mark and no card."""
    house = make_offline(max_pages_per_card=5)
    packet = house.swipe(CARD)
    (accept,) = house.answers(packet)
    copy(house, 5, name="", device="copier-1", session="x")
    assert words(house) == OFFLINE_LINE
    house.account((Type.CLASS, accept.get(Type.CLASS) or b""), name="", job="classed", pages=5)
    assert words(house) == refusal("pages", 5)


def test_a_flap_and_a_restart_forget_nothing_that_was_used(make_offline: Make) -> None:
    """A return that did not last until nothing waited ends no outage."""
    house = make_offline(max_sessions_per_card=1, house={"delay": 10.0})
    assert words(house) == OFFLINE_LINE
    house.move(State.RECOVERING)
    house.server_up = False
    house.until(State.OFFLINE)
    assert words(house) == refusal("sessions", 1)
    house.restart()
    assert words(house) == refusal("sessions", 1)
