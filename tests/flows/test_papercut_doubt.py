"""PaperCut: what becomes of a record wherever the exchange breaks, and what a record in doubt means for others."""

from __future__ import annotations

from itertools import pairwise

import pytest

from proxy.dialects.papercut.delivering import PATIENCE
from proxy.link import State
from storage.answers import Stored
from tests.flows.papercut_house import (
    Asker,
    House,
    Make,
    each_once,
    go_offline,
    http_answer,
    make_houses,
    people,
)

make = pytest.fixture(make_houses)


@pytest.fixture
def house(make: Make) -> House:
    return make()


# Cut at every point


def drained(house: House, stored: Stored) -> None:
    """The server is well again; whatever was to come has come."""
    house.server.cut.clear()
    house.server.raw.clear()
    house.server.silent.clear()
    house.server.refusing = house.server.down = False
    house.pass_time(100)


@pytest.mark.parametrize("relays", [False, True])
def test_a_refused_connection_leaves_the_job_waiting_unpunished(house: House, relays: bool) -> None:
    house.end_all()
    house.pass_time(31)
    house.end_all()
    house.server.refusing = True
    waiter = Asker()
    stored = house.job(user="ann", waiter=waiter, relays=relays)
    house.pass_time(0.5)
    assert house.state_of(stored) == "waiting"
    assert waiter.said == (["unanswered"] if relays else [])
    drained(house, stored)
    assert house.server.booked() == [stored.id]
    assert house.rows("SELECT count(*) FROM deliveries WHERE outcome = 'unknown'") == [(0,)]


def test_a_connection_that_ends_before_the_request_was_written_leaves_the_job_waiting(house: House) -> None:
    house.end_all()
    house.server.cut["*"] = "connected"
    stored = house.job("CARD-ann")
    house.pass_time(0.5)
    assert house.state_of(stored) == "waiting"
    drained(house, stored)
    assert house.server.booked() == [stored.id]


@pytest.mark.parametrize("how", ["sent", "half", "unread"])
@pytest.mark.parametrize("relays", [False, True])
def test_a_connection_that_ends_after_the_request_was_written_leaves_the_job_in_doubt(
    house: House, how: str, relays: bool
) -> None:
    house.server.cut["processJob"] = how
    waiter = Asker()
    stored = house.job(user="ann", waiter=waiter, relays=relays)
    house.pass_time(1)
    assert house.state_of(stored) == "in_doubt"
    assert waiter.said == (["unanswered"] if relays else [])
    assert any("not known whether the server took" in text for text in house.words("error"))
    drained(house, stored)
    assert house.state_of(stored) == "in_doubt"
    assert house.server.count("processJob") == 1
    assert len(house.server.book) == (how != "unread")
    assert house.rows("SELECT seq FROM maybe_forwarded_twice") == [(stored.seq,)], "should a person send it again"


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(500, b"oops"),
        http_answer(404, b"not here"),
        http_answer(503, b"later"),
        http_answer(200, b"<html><body>log in</body></html>"),
        http_answer(200, b"<?xml version='1.0'?><methodResponse><params>", "text/xml"),
        http_answer(200, b"x" * (1 << 20) + b"x"),
        b"\x16\x03\x01 this is no HTTP at all\r\n\r\n",
    ],
    ids=["500", "404", "503", "html", "half", "large", "garbage"],
)
def test_an_answer_that_says_nothing_of_the_job_leaves_it_in_doubt(house: House, answer: bytes) -> None:
    house.server.raw["processJob"] = answer
    stored = house.job("CARD-ann")
    house.pass_time(1)
    assert house.state_of(stored) == "in_doubt"
    drained(house, stored)
    assert house.server.count("processJob") == 1


def test_a_job_that_is_never_answered_is_in_doubt_when_its_time_is_over(house: House) -> None:
    house.server.silent.add("processJob")
    stored = house.job("CARD-ann")
    house.pass_time(PATIENCE * house.timeout - 0.5)
    assert house.state_of(stored) == "sent"
    house.pass_time(1)
    assert house.state_of(stored) == "in_doubt"
    assert house.state is State.ONLINE
    drained(house, stored)
    assert house.server.count("processJob") == 1


def test_what_was_sent_when_contact_was_lost_is_left_to_its_own_time(house: House) -> None:
    house.server.silent.add("processJob")
    sent = house.job("CARD-ann")
    behind = house.job("CARD-ann")
    house.pass_time(0.5)
    house.server.down = True
    house.until(State.OFFLINE)
    assert house.state_of(sent) == "sent"
    assert house.state_of(behind) == "waiting"
    house.pass_time(PATIENCE * house.timeout)
    assert house.state_of(sent) == "in_doubt"
    drained(house, sent)
    assert house.state_of(behind) == "left"
    assert house.server.booked() == [sent.id, behind.id]


def test_a_look_up_over_a_connection_that_was_closed_meanwhile_is_made_anew(house: House) -> None:
    house.server.cut["lookUpUserNameByCardNo"] = "unread"
    asker = house.ask("CARD-ann")
    house.server.cut.clear()
    house.pass_time(0.3)
    assert [answer.user for answer in asker.answers] == ["ann"]


# Commit before send


def test_a_record_is_marked_as_sent_on_stable_storage_before_it_is(house: House) -> None:
    house.holding = True
    house.job("CARD-ann")
    while house.server.count("processJob") == 0:
        assert house.outbox() == {"waiting": 1}
        house.pass_time(0.25)
        assert house.server.count("processJob") == 0
        house.sync()
    assert house.outbox() == {"sent": 1}


def test_without_a_disk_nothing_is_sent(house: House) -> None:
    stored = house.job("CARD-ann")
    house.disk_dead = True
    house.pass_time(10)
    assert house.server.count("processJob") == 0
    house.disk_dead = False
    house.pass_time(5)
    assert house.server.booked() == [stored.id]


def test_after_a_crash_what_was_sent_is_in_doubt_and_the_rest_waits(make: Make) -> None:
    house = make(window=4)
    people(house, 40)
    go_offline(house)
    for each in range(40):
        house.job(f"P{each}")
    house.server.down = False
    house.server.late["processJob"] = 0.5
    house.until(lambda: len(house.server.book) >= 12)
    house.server.late.clear()
    house.restart()
    assert len(house.in_flight) <= 4
    house.until(State.ONLINE)
    assert house.outbox() == {"in_doubt": len(house.in_flight)}
    assert each_once(house)
    doubtful = {row[0] for row in house.rows("SELECT e.id FROM outbox o JOIN entries e ON e.seq = o.seq")}
    assert len(set(house.server.booked()) | doubtful) == 40


# What doubts mean for others


def test_a_server_that_answers_no_record_gets_no_more_of_them_for_a_while(house: House) -> None:
    people(house, 200)
    house.server.raw["processJob"] = http_answer(200, b"<html>oops</html>")
    for each in range(200):
        house.job(f"P{each}")
    house.pass_time(30)
    assert house.outbox()["in_doubt"] <= house.window + 2
    assert house.upstream.trouble
    house.server.raw.clear()
    house.pass_time(90)
    assert "waiting" not in house.outbox()
    assert each_once(house)


def test_connections_that_break_together_are_one_cut_and_the_drain_goes_on(house: House) -> None:
    people(house, 200)
    house.server.late["processJob"] = 0.2
    for each in range(200):
        house.job(f"P{each}")
    house.until(lambda: house.server.count("processJob") >= 32)
    house.end_all()
    house.pass_time(8)
    assert not any("forwarding pauses" in text for text in house.words("error"))
    assert set(house.outbox()) == {"in_doubt"}
    assert house.outbox()["in_doubt"] <= house.window
    assert each_once(house)


def test_a_cut_with_the_server_away_for_a_moment_holds_nothing_when_it_is_back(house: House) -> None:
    people(house, 200)
    house.server.late["processJob"] = 0.2
    for each in range(200):
        house.job(f"P{each}")
    house.until(lambda: house.server.count("processJob") >= 32)
    house.server.refusing = True
    house.end_all()
    house.until(State.GRACE)
    house.pass_time(1)
    house.server.refusing = False
    house.until(State.ONLINE, most=12)
    assert not any("forwarding pauses" in text for text in house.words("error"))
    assert house.outbox().get("in_doubt", 0) <= house.window
    assert each_once(house)


def test_a_server_that_flaps_takes_records_in_each_window_of_contact(make: Make) -> None:
    house = make(window=4)
    people(house, 100)
    house.server.late["processJob"] = 0.5
    house.jobs([f"P{each % 100}" for each in range(400)])
    taken = [0]
    for _ in range(4):
        house.pass_time(6)
        taken.append(len(house.server.book))
        house.server.refusing = True
        house.end_all()
        house.pass_time(2)
        house.server.refusing = False
    print(taken)
    assert all(after - before >= 8 for before, after in pairwise(taken))
    assert not any("forwarding pauses" in text for text in house.words("error"))
    assert house.outbox().get("in_doubt", 0) <= 4 * house.window
    assert each_once(house)


def test_doubts_of_before_hold_nothing_after_contact_was_lost(house: House) -> None:
    people(house, 60)
    house.server.cut["processJob"] = "sent"
    for each in range(60):
        house.job(f"P{each}")
    house.until(lambda: house.upstream.desk.judge.held != "")
    house.server.down = True
    house.end_all()
    house.until(State.GRACE)
    assert house.upstream.desk.judge.held == ""
    house.server.cut.clear()
    house.server.down = False
    house.until(State.ONLINE, most=12)
    assert "waiting" not in house.outbox()
    assert each_once(house)


def test_a_server_that_hangs_up_on_every_record_gets_one_more_at_a_time_then_none(house: House) -> None:
    people(house, 200)
    house.server.cut["processJob"] = "sent"
    for each in range(200):
        house.job(f"P{each}")
    house.pass_time(30)
    assert house.outbox()["in_doubt"] <= house.window + 3
    assert any("forwarding pauses" in text for text in house.words("error"))


def test_the_cut_that_puts_the_last_record_in_doubt_does_not_end_the_outage(house: House) -> None:
    """While recovering, the server dies with the last record under way: nothing waits then, but nobody is back."""
    drained(house, house.job("CARD-ann"))
    go_offline(house)
    house.server.silent.add("processJob")
    last = house.job("CARD-ann")
    house.server.refusing = house.server.down = False
    house.until(lambda: house.state_of(last) == "sent")
    assert house.state is State.RECOVERING
    house.server.refusing = True
    house.end_all()
    house.pass_time(3)
    assert house.state_of(last) == "in_doubt"
    assert house.rows("SELECT step FROM outage_events WHERE step = 'drained'") == []
    assert house.state is not State.ONLINE
