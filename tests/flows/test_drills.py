"""Drills over RADIUS: offline mode on devices while the server is up; marked so, ended by time or hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.control import Refusal
from protocols.radius.packet import Code
from proxy.admission import OFFLINE_LINE
from proxy.drills import ALL, LONGEST
from proxy.link import State
from tests.flows.drilling import CARD, drill, hear, shown, standing, steps, with_drill, words
from tests.flows.house import House

Make = Callable[..., House]

drilled = pytest.fixture(with_drill)


# One device


def test_a_drilled_device_is_offline_while_the_others_relay(drilled: House) -> None:
    assert words(drilled) == OFFLINE_LINE
    assert drilled.logins_at_server() == []
    assert words(drilled, "copier-2") == "welcome"
    assert (shown(drilled), shown(drilled, "copier-2")) == ("offline", "online")
    assert drilled.state is State.ONLINE


def test_a_drill_is_told_and_in_the_ledger_with_who_and_why(drilled: House) -> None:
    assert steps(drilled) == [("copier-1", "start", "autumn test", "admin")]
    (told,) = [told for told in drilled.told if told.alarm == "drill"]
    assert (told.level, "copier-1" in told.text, "30 minutes" in told.text) == ("warning", True, True)


def test_sessions_of_a_drill_are_marked(drilled: House) -> None:
    words(drilled)
    assert drilled.rows("SELECT mode, decided_by FROM logins ORDER BY seq DESC LIMIT 1") == [("drill", "locum")]
    session = drilled.site.sessions.on("copier-1")
    assert session is not None
    assert session.mode == "drill"


def test_records_of_a_drill_are_marked_and_held_to_its_end(drilled: House) -> None:
    words(drilled)
    packet = drilled.account(job="1")
    assert drilled.code(packet) == Code.ACCOUNTING_RESPONSE
    drilled.pass_time(120)
    assert standing(drilled) == [("drill", "waiting")]
    assert drilled.records_at_server() == []
    assert drilled.state is State.ONLINE
    drilled.hand("drill-stop", device="copier-1")
    drilled.pass_time(1)
    assert standing(drilled) == [("drill", "delivered")]
    assert len(drilled.book) == 1


def test_the_others_records_are_not_held(drilled: House) -> None:
    words(drilled, "copier-2")
    drilled.account(job="1", device="copier-2")
    assert standing(drilled) == [("online", "delivered")]


def test_records_of_a_session_that_was_there_before_are_not_held(drilled: House) -> None:
    drilled.account(job="1", device="copier-1")
    assert standing(drilled) == [("online", "delivered")]


def test_two_jobs_of_a_drill_are_forwarded_in_their_order(drilled: House) -> None:
    words(drilled)
    for job in ("1", "2", "3"):
        drilled.account(job=job, pages=int(job))
    drilled.hand("drill-stop")
    drilled.pass_time(2)
    pages = [packet.vendor(32473) for packet in drilled.book]
    assert [int.from_bytes(dict(each)[3], "big") for each in pages] == [1, 2, 3]


def test_a_login_in_flight_is_decided_when_a_drill_begins(house: House) -> None:
    hear(house, "copier-1")
    house.silent_for.add(CARD.encode())
    packet = house.swipe(CARD)
    assert house.code(packet) is None
    drill(house)
    assert house.line(packet) == OFFLINE_LINE
    house.late_answer(house.logins_at_server()[-1], Code.ACCESS_ACCEPT)
    assert house.line(packet) == OFFLINE_LINE


def test_a_drill_tries_no_server_first(drilled: House) -> None:
    """Nothing of a drilled device's login reaches the server, although contacts succeed."""
    drilled.pass_time(30)
    assert words(drilled) == OFFLINE_LINE
    assert drilled.logins_at_server() == []


def test_admission_is_as_in_an_outage(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    hear(house, "copier-1")
    drill(house)
    assert words(house) == OFFLINE_LINE
    assert "not known" in words(house, name="BEEF0001")


def test_where_offline_mode_is_disabled_a_drill_lets_nobody_in(make_house: Make) -> None:
    house = make_house(policy={"enabled": False})
    hear(house, "copier-1")
    drill(house)
    assert house.code(house.swipe(CARD)) is None


# Its end


def test_a_drill_ends_by_itself(drilled: House) -> None:
    words(drilled)
    drilled.account(job="1")
    drilled.now += 1790
    drilled.wall += 1_790_000
    drilled.pass_time(9)
    assert shown(drilled) == "offline"
    drilled.pass_time(2)
    assert shown(drilled) == "online"
    assert steps(drilled)[-1] == ("copier-1", "stop", "its time is over", "")
    assert standing(drilled) == [("drill", "delivered")]
    assert [told.level for told in drilled.told if told.alarm == "drill"] == ["warning", "info"]
    assert words(drilled) == "welcome"


def test_a_drill_is_ended_by_hand(drilled: House) -> None:
    assert drilled.hand("drill-stop", device="copier-1") == {"devices": ["copier-1"]}
    assert steps(drilled)[-1] == ("copier-1", "stop", "by hand", "admin")
    assert words(drilled) == "welcome"
    with pytest.raises(Refusal, match="no drill runs on copier-1"):
        drilled.hand("drill-stop", device="copier-1")
    with pytest.raises(Refusal, match="no drill runs"):
        drilled.hand("drill-stop")


def test_a_drill_lasts_at_most_four_hours(house: House) -> None:
    hear(house, "copier-1")
    for seconds in (LONGEST + 1, 0, -5, "60", None, True):
        with pytest.raises(Refusal, match="at most 4 hours"):
            house.hand("drill-start", device="copier-1", seconds=seconds, reason="x")
    house.run(house.site.drills.start("copier-1", 10 * LONGEST, "x", "admin", house.moment()))
    assert house.site.drills.running()["copier-1"].ends == house.now + LONGEST


def test_a_drill_needs_a_reason_and_a_device_that_was_heard(house: House) -> None:
    hear(house, "copier-1")
    with pytest.raises(Refusal, match="reason"):
        house.hand("drill-start", device="copier-1", seconds=60, reason=" ")
    with pytest.raises(Refusal, match="ever heard"):
        house.hand("drill-start", device="copier-8", seconds=60, reason="x")


def test_a_drill_may_be_given_another_end(drilled: House) -> None:
    drill(drilled, seconds=60)
    drilled.pass_time(61)
    assert shown(drilled) == "online"


def test_a_session_of_a_drill_finishes_as_it_is(drilled: House) -> None:
    words(drilled)
    drilled.hand("drill-stop")
    assert drilled.site.sessions.on("copier-1") is not None
    drilled.account(job="1")
    drilled.pass_time(1)
    assert standing(drilled) == [("drill", "delivered")]


# All devices


def test_a_drill_on_all_devices(house: House) -> None:
    hear(house, "copier-1", "copier-2")
    drill(house, None)
    assert words(house) == words(house, "copier-2") == words(house, "copier-3") == OFFLINE_LINE
    house.hand("drill-stop")
    assert words(house) == words(house, "copier-2") == "welcome"
    assert [(device, did) for device, did, *_ in steps(house)] == [(ALL, "start"), (ALL, "stop")]


def test_one_device_may_be_spared(house: House) -> None:
    hear(house, "copier-1", "copier-2")
    drill(house, None)
    house.hand("drill-stop", device="copier-2")
    assert (words(house), words(house, "copier-2")) == (OFFLINE_LINE, "welcome")
    house.restart(down_for=1)
    assert (words(house), words(house, "copier-2")) == (OFFLINE_LINE, "welcome")
    drill(house, "copier-2")
    assert words(house, "copier-2") == OFFLINE_LINE


def test_a_device_with_a_drill_of_its_own_is_spared_too(house: House) -> None:
    hear(house, "copier-1", "copier-2")
    drill(house)
    drill(house, None)
    house.hand("drill-stop", device="copier-1")
    assert (words(house), words(house, "copier-2")) == ("welcome", OFFLINE_LINE)


def test_a_drill_on_all_goes_on_where_a_devices_own_has_run_its_time(house: House) -> None:
    hear(house, "copier-1")
    drill(house, seconds=60)
    drill(house, None, seconds=600)
    house.pass_time(120)
    assert words(house) == OFFLINE_LINE


def test_the_records_of_a_spared_device_are_forwarded_and_the_others_held(house: House) -> None:
    hear(house, "copier-1", "copier-2")
    drill(house, None)
    for device in ("copier-1", "copier-2"):
        words(house, device)
        house.account(job="1", device=device, session=device)
    house.hand("drill-stop", device="copier-2")
    house.pass_time(1)
    assert standing(house) == [("drill", "waiting"), ("drill", "delivered")]
