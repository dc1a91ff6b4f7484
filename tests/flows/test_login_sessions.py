"""The sessions of logins: what a grant carries, whose a job is, when a session ends."""

from __future__ import annotations

import pytest

from protocols.radius.packet import Code, Type
from proxy.admission import OFFLINE_LINE
from proxy.link import State
from tests.flows.house import House
from tests.flows.packets import attributes_of, class_of

CARD = "0A1B2C3D"


def test_a_grant_carries_words_mark_and_timeout(offline: House) -> None:
    packet = offline.swipe(CARD)
    attributes = dict(attributes_of(offline, packet))
    assert attributes[Type.REPLY_MESSAGE].decode() == OFFLINE_LINE
    assert attributes[Type.SESSION_TIMEOUT] == (3600).to_bytes(4, "big")
    assert len(attributes[Type.CLASS]) == 16
    assert offline.rows("SELECT session FROM logins WHERE outcome = 'granted'") == [(attributes[Type.CLASS].hex(),)]


def test_marks_are_all_different(offline: House) -> None:
    marks = {class_of(offline, offline.swipe(CARD, device=f"c{n}", host=n)) for n in range(20)}
    assert len(marks) == 20


def mode_and_card(house: House, job: str) -> tuple[str, str]:
    return house.rows("SELECT mode, card FROM jobs_full WHERE job_number = ?", job)[0]


def test_a_job_with_the_mark_is_an_offline_sessions(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.account((Type.CLASS, mark), job="1", name="someone")
    assert mode_and_card(offline, "1") == ("offline", CARD)


def test_a_job_of_the_same_card_on_the_same_device_is_an_offline_sessions(offline: House) -> None:
    offline.swipe(CARD)
    offline.account(job="1", name=CARD.lower())
    assert mode_and_card(offline, "1") == ("offline", CARD)


def test_a_mark_is_bound_to_its_device(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.account((Type.CLASS, mark), job="1", name="DEADBEEF", device="copier-2", host=32)
    assert mode_and_card(offline, "1") == ("unknown", "DEADBEEF")


def test_a_mark_is_bound_to_its_card(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.account((Type.CLASS, mark), job="1", name="DEADBEEF")
    assert mode_and_card(offline, "1") == ("unknown", "DEADBEEF")


def test_a_made_up_mark_proves_nothing(offline: House) -> None:
    offline.swipe(CARD)
    offline.account((Type.CLASS, bytes(16)), job="1", name="DEADBEEF")
    assert mode_and_card(offline, "1") == ("unknown", "DEADBEEF")


def logouts(house: House) -> list[tuple[str, str]]:
    return house.rows("SELECT session, cause FROM logouts ORDER BY seq")


def test_a_session_ends_at_stop(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.account((Type.CLASS, mark), status=2, pages=None)
    assert logouts(offline) == [(mark.hex(), "stop")]


@pytest.mark.parametrize("status", [7, 8])
def test_a_session_ends_at_accounting_on_and_off(offline: House, status: int) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.account(status=status, session="", pages=None, name="")
    assert logouts(offline) == [(mark.hex(), "restart")]


def test_a_session_ends_with_the_next_login_on_the_device(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.swipe("00112233", device="copier-2", host=32)
    assert logouts(offline) == []
    offline.swipe("00112233")
    assert logouts(offline) == [(mark.hex(), "next-login")]


def test_a_session_ends_with_the_next_online_login_on_the_device(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.move(State.ONLINE)
    offline.swipe("00112233")
    assert logouts(offline) == [(mark.hex(), "next-login")]


def test_a_session_ends_after_session_timeout(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.wall += 3_590_000
    offline.pass_time(2)
    assert logouts(offline) == []
    offline.wall += 10_000
    offline.pass_time(2)
    assert logouts(offline) == [(mark.hex(), "timeout")]


def test_a_stop_of_an_earlier_session_does_not_end_the_present_one(offline: House) -> None:
    first = class_of(offline, offline.swipe(CARD))
    offline.swipe("00112233")
    offline.account((Type.CLASS, first), status=2, session="first", pages=None)
    present = offline.site.sessions.on("copier-1")
    assert present is not None
    assert present.card == "00112233"
    assert [cause for _, cause in logouts(offline)] == ["next-login"]


def test_jobs_that_arrive_after_the_end_are_stored_all_the_same(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.account((Type.CLASS, mark), status=2, pages=None)
    packet = offline.account((Type.CLASS, mark), job="late")
    assert offline.code(packet) == Code.ACCOUNTING_RESPONSE
    assert mode_and_card(offline, "late") == ("offline", CARD)


def test_an_offline_session_stays_one_when_the_server_is_back(offline: House) -> None:
    mark = class_of(offline, offline.swipe(CARD))
    offline.move(State.ONLINE)
    offline.account((Type.CLASS, mark), job="1")
    assert mode_and_card(offline, "1")[0] == "offline"


def test_an_online_session_stays_one_when_the_server_goes(house: House) -> None:
    house.swipe(CARD)
    house.move(State.OFFLINE)
    house.account(job="1")
    assert mode_and_card(house, "1")[0] == "online"


def test_an_online_session_has_ended_with_its_stop(house: House) -> None:
    house.swipe(CARD)
    house.account(status=2, pages=None)
    house.account(job="1", session="another")
    assert mode_and_card(house, "1")[0] == "unknown"


def test_an_online_session_has_ended_with_the_next_offline_one(house: House) -> None:
    house.swipe(CARD)
    house.move(State.OFFLINE)
    mark = class_of(house, house.swipe(CARD))
    house.account((Type.CLASS, mark), status=2, pages=None)
    house.account(job="1", session="another")
    assert mode_and_card(house, "1")[0] != "online"
