"""Drills beside all else: codes and unlocking, limits, a real outage that takes over, a restart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocols.radius.packet import Code, Type
from proxy.admission import OFFLINE_LINE
from proxy.link import State
from tests.flows.drilling import CARD, EDUCATION, come_back, drill, hear, shown, standing, steps, with_drill, words
from tests.flows.house import House

Make = Callable[..., House]

drilled = pytest.fixture(with_drill)


# Education


def test_a_drill_in_a_school_is_locked(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    hear(house, "copier-1", "copier-2")
    drill(house)
    assert shown(house) == "locked"
    assert house.code(house.swipe(CARD)) == Code.ACCESS_CHALLENGE
    assert words(house, "copier-2") == "welcome"
    assert house.line(house.unlock(scope=2)) == OFFLINE_LINE
    assert shown(house) == "unlocked-until-restored"
    assert house.logins_at_server()[1:] == []


def test_what_was_unlocked_in_a_drill_is_locked_again_at_its_end(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    hear(house, "copier-1")
    drill(house)
    house.unlock(scope=2)
    house.hand("drill-stop")
    assert house.site.unlocking.places() == {}
    drill(house)
    assert shown(house) == "locked"
    house.hand("drill-stop")
    house.move(State.OFFLINE)
    assert shown(house) == "locked"


def test_the_wrong_codes_of_a_drill_do_not_count_in_the_next(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    hear(house, "copier-1")
    for _ in range(2):
        drill(house, None)
        for number in range(99):
            house.unlock("135791", device=f"device-{number}")
        assert not house.site.unlocking.codes_refused("hq")
        house.hand("drill-stop")
        house.now += 4000


def test_a_code_on_its_way_when_the_drill_ends_unlocks_nothing(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    hear(house, "copier-1")
    drill(house)
    house.holding_codes = True
    packet = house.unlock()
    house.hand("drill-stop")
    house.to_server.clear()
    house.compare()
    assert house.code(packet) == Code.ACCESS_REJECT
    assert house.site.unlocking.places() == {}
    assert house.logins_at_server() == []


def test_a_single_use_for_all_leaves_the_stronger_unlock(make_house: Make) -> None:
    house = make_house(policy={"environment": "education"})
    house.move(State.OFFLINE)
    for device in ("copier-1", "copier-2"):
        house.swipe("0A1B2C3D", device=device)
    house.hand("unlock", device="copier-1", scope="until-restored")
    assert house.hand("unlock", scope="once") == {"devices": ["copier-2"]}
    assert house.site.unlocking.scope_on("copier-1") == "until-restored"


# Limits


def test_drills_count_apart(make_house: Make) -> None:
    house = make_house(policy={"max_sessions_per_card": 2, "max_pages_per_card": 10})
    hear(house, "copier-1")
    drill(house)
    words(house)
    house.account(job="1", pages=10)
    assert "pages" in words(house)
    house.hand("drill-stop")
    house.account(job="2", pages=10)
    house.move(State.OFFLINE)
    assert words(house) == OFFLINE_LINE
    assert words(house) == OFFLINE_LINE
    assert "sessions" in words(house)


def test_the_next_drill_counts_anew(make_house: Make) -> None:
    house = make_house(policy={"max_sessions_per_card": 1})
    hear(house, "copier-1")
    for _ in range(2):
        drill(house)
        assert words(house) == OFFLINE_LINE
        assert "sessions" in words(house)
        house.hand("drill-stop")


def test_an_outages_sessions_do_not_count_in_a_drill(make_house: Make) -> None:
    house = make_house(policy={"max_sessions_per_card": 1, "max_outage_hours": 1}, delay=30.0)
    hear(house, "copier-1")
    house.server_up = False
    house.until(State.OFFLINE)
    words(house)
    house.now += 4000
    assert "sessions" in words(house)
    house.move(State.RECOVERING)
    drill(house)
    assert words(house) == OFFLINE_LINE


# A real outage


def test_a_real_outage_takes_over(drilled: House) -> None:
    words(drilled)
    drilled.account(job="1")
    drilled.move(State.OFFLINE)
    assert words(drilled) == OFFLINE_LINE
    assert drilled.rows("SELECT mode FROM logins ORDER BY seq DESC LIMIT 1") == [("offline",)]
    drilled.account(job="2", session="s2")
    assert standing(drilled) == [("drill", "waiting"), ("offline", "waiting")]
    come_back(drilled)
    assert standing(drilled) == [("drill", "waiting"), ("offline", "delivered")]
    assert words(drilled) == OFFLINE_LINE
    drilled.hand("drill-stop")
    drilled.pass_time(1)
    assert standing(drilled) == [("drill", "delivered"), ("offline", "delivered")]


def test_a_drill_that_ends_in_an_outage_leaves_the_device_offline(drilled: House) -> None:
    words(drilled)
    drilled.account(job="1")
    drilled.move(State.OFFLINE)
    drilled.hand("drill-stop")
    assert words(drilled) == OFFLINE_LINE
    come_back(drilled)
    drilled.pass_time(1)
    assert standing(drilled) == [("drill", "delivered")]


def test_what_was_unlocked_in_a_drill_stays_so_in_the_outage_that_takes_over(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    hear(house, "copier-1")
    drill(house)
    house.unlock(scope=2)
    house.move(State.OFFLINE)
    house.hand("drill-stop")
    assert shown(house) == "unlocked-until-restored"
    come_back(house)
    assert house.site.unlocking.places() == {}


def test_a_drill_in_grace_lets_in_at_once(house: House) -> None:
    hear(house, "copier-1")
    house.move(State.GRACE)
    packet = house.swipe(CARD)
    assert house.code(packet) is None
    drill(house)
    assert house.line(packet) == OFFLINE_LINE


# After a restart


def test_a_drill_outlives_a_restart(drilled: House) -> None:
    words(drilled)
    drilled.account(job="1")
    drilled.restart(down_for=60)
    assert words(drilled) == OFFLINE_LINE
    drilled.pass_time(2)
    assert standing(drilled) == [("drill", "waiting")]
    assert drilled.state is State.ONLINE
    drilled.now += 1740 - 10
    drilled.wall += (1740 - 10) * 1000
    drilled.pass_time(5)
    assert shown(drilled) == "offline"
    drilled.pass_time(5)
    assert shown(drilled) == "online"
    assert standing(drilled) == [("drill", "delivered")]


def test_a_drill_that_ran_out_while_locum_was_down_has_an_end_in_the_ledger(drilled: House) -> None:
    words(drilled)
    drilled.account(job="1")
    drilled.restart(down_for=3600)
    drilled.pass_time(5)
    assert steps(drilled)[-1] == ("copier-1", "stop", "its time is over", "")
    assert standing(drilled) == [("drill", "delivered")]
    drilled.restart(down_for=1)
    drilled.pass_time(1)
    assert len(steps(drilled)) == 2


def test_a_clock_that_was_set_back_prolongs_no_drill(drilled: House) -> None:
    drilled.restart(down_for=1, wall_step=-86_400)
    assert drilled.site.drills.running()["copier-1"].ends <= drilled.now + 1800


def test_a_drill_that_was_ended_stays_ended(drilled: House) -> None:
    drilled.hand("drill-stop")
    drilled.restart(down_for=1)
    assert words(drilled) == "welcome"


def test_an_unlock_in_a_drill_outlives_a_restart(make_house: Make) -> None:
    house = make_house(policy=EDUCATION)
    hear(house, "copier-1")
    drill(house)
    house.unlock(scope=2)
    house.restart(down_for=5)
    assert shown(house) == "unlocked-until-restored"


def test_a_session_of_a_drill_is_known_after_a_restart(drilled: House) -> None:
    packet = drilled.swipe(CARD)
    (accept,) = drilled.answers(packet)
    drilled.restart(down_for=5)
    drilled.account((Type.CLASS, accept.get(Type.CLASS) or b""), job="1")
    assert standing(drilled) == [("drill", "waiting")]
