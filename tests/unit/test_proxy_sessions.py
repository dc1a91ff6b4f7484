"""Sessions that Locum granted: one on a device, found by mark, ended for a reason."""

from __future__ import annotations

from proxy.events import Moment
from proxy.sessions import REMEMBERED_AFTER_END, Sessions
from storage.answers import OpenSession
from storage.records import Mode

WALL = 1_795_000_000_000
HOUR = 3_600_000


def at(wall: int = WALL) -> Moment:
    return Moment(wall / 1000, wall, bytes(32))


def session(mark: str, device: str = "c1", card: str = "AB12", begun: int = WALL) -> OpenSession:
    return OpenSession(mark, device, "hq", card, begun, begun + HOUR, Mode.OFFLINE)


def test_a_session_is_found_by_its_mark_on_its_device_only() -> None:
    sessions = Sessions()
    sessions.begin(session("m1"), at())
    found = sessions.marked("c1", "m1")
    assert found is not None
    assert found.card == "AB12"
    assert sessions.marked("c2", "m1") is None
    assert sessions.marked("c1", "other") is None
    assert sessions.count("c1") == 1
    assert sessions.count("c2") == 0


def test_the_next_login_ends_the_one_before_on_that_device() -> None:
    sessions = Sessions()
    assert sessions.begin(session("m1"), at()) == []
    assert sessions.begin(session("m2", "c2"), at()) == []
    (ended,) = sessions.begin(session("m3"), at())
    assert (ended.device, ended.session, ended.cause) == ("c1", "m1", "next-login")
    open_now = sessions.on("c1")
    assert open_now is not None
    assert open_now.session == "m3"


def test_a_session_ends_once() -> None:
    sessions = Sessions()
    sessions.begin(session("m1"), at())
    assert [logout.cause for logout in sessions.end("c1", "stop", at())] == ["stop"]
    assert sessions.end("c1", "stop", at()) == []
    assert sessions.on("c1") is None


def test_an_earlier_mark_does_not_end_the_present_session() -> None:
    sessions = Sessions()
    sessions.begin(session("m1"), at())
    sessions.begin(session("m2"), at())
    assert sessions.end_marked("c1", "m1", "stop", at()) == []
    assert [logout.session for logout in sessions.end_marked("c1", "m2", "stop", at())] == ["m2"]


def test_records_that_arrive_after_the_end_still_find_it_for_a_day() -> None:
    sessions = Sessions()
    sessions.begin(session("m1"), at())
    sessions.end("c1", "stop", at())
    sessions.expire(at(WALL + HOUR + REMEMBERED_AFTER_END - 2000))
    assert sessions.marked("c1", "m1") is not None
    sessions.expire(at(WALL + HOUR + REMEMBERED_AFTER_END))
    assert sessions.marked("c1", "m1") is None


def test_a_session_ends_when_its_time_is_over() -> None:
    sessions = Sessions()
    sessions.begin(session("m1"), at())
    assert sessions.expire(at(WALL + HOUR - 1)) == []
    (ended,) = sessions.expire(at(WALL + HOUR + 1000))
    assert (ended.session, ended.cause) == ("m1", "timeout")
    assert sessions.expire(at(WALL + HOUR + 5000)) == []


def test_the_clock_may_be_set_back() -> None:
    sessions = Sessions()
    sessions.begin(session("m1"), at())
    sessions.expire(at(WALL + 60_000))
    assert sessions.expire(at(WALL - 86_400_000)) == []
    assert [each.cause for each in sessions.expire(at(WALL + HOUR))] == ["timeout"]


def test_what_a_restart_found_is_as_it_was() -> None:
    sessions = Sessions()
    sessions.restore(session("m1"))
    sessions.restore(session("m2", begun=WALL + 1))
    open_now = sessions.on("c1")
    assert open_now is not None
    assert open_now.session == "m2"
    assert sessions.marked("c1", "m1") is not None
