"""PaperCut: records delivered: what the server is told, who waits, the order, the window, outages, evidence."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.link import State
from storage.records import Counts, Drop
from tests.flows.papercut_house import (
    Asker,
    House,
    Make,
    each_once,
    go_offline,
    make_houses,
    people,
)

make = pytest.fixture(make_houses)


@pytest.fixture
def house(make: Make) -> House:
    return make()


# Delivered


def test_a_job_is_logged_with_all_that_is_known(make: Make) -> None:
    house = make()
    counts = Counts("print", 6, color_pages=2, sheets=2, copies=2, duplex=True, paper="A3")
    stored = house.job("CARD-ann", counts=counts, document='Plan, "final"', account="Sales", device="copier,7")
    house.pass_time(0.5)
    assert house.server.book == [
        {
            "user": "ann",
            "server": "device",
            "printer": "copier,7",
            "time": "20261118T110640",
            "total-pages": "6",
            "total-color-pages": "2",
            "copies": "2",
            "document-name": 'Plan, "final"',
            "duplex": "TRUE",
            "grayscale": "FALSE",
            "job-type": "PRINT",
            "paper-size-name": "A3",
            "paper-width-mm": "297",
            "paper-height-mm": "420",
            "shared-account": "Sales",
            "comment": f"locum:{stored.id}",
        }
    ]
    assert house.state_of(stored) == "left"


def test_a_device_that_waits_is_answered_when_the_server_has_taken_its_job(house: House) -> None:
    waiter = Asker()
    house.job(user="ann", waiter=waiter, relays=True)
    assert house.waits
    assert house.outbox() == {"sent": 1}
    house.pass_time(0.3)
    assert waiter.said == ["answered"]
    assert house.outbox() == {}


def test_a_job_without_a_named_user_is_not_waited_for(house: House) -> None:
    house.job("CARD-ann", relays=True)
    assert not house.waits
    assert house.outbox() == {"waiting": 1}


def test_a_job_that_cannot_be_sent_in_time_waits_again(house: House) -> None:
    house.server.faults["setConfigValue"] = "read only"
    waiter = Asker()
    stored = house.job(user="ann", waiter=waiter, relays=True)
    house.pass_time(1.5)
    assert waiter.said == ["unanswered"]
    assert house.state_of(stored) == "waiting"
    house.server.faults.clear()
    house.pass_time(15)
    assert house.server.booked() == [stored.id]


def test_a_late_answer_settles_the_job_and_does_not_reach_the_device(house: House) -> None:
    house.server.late["processJob"] = 4.0
    waiter = Asker()
    stored = house.job(user="ann", waiter=waiter, relays=True)
    house.pass_time(2)
    assert waiter.said == ["unanswered"]
    assert house.state_of(stored) == "sent"
    house.pass_time(3)
    assert waiter.said == ["unanswered"]
    assert house.state_of(stored) == "left"
    assert house.state is State.ONLINE


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"pages": 0}, "a job of no pages is not logged by the server"),
        ({"counts": None}, "no job: the server takes jobs only"),
    ],
)
def test_what_the_server_does_not_log_is_kept_and_marked(house: House, how: dict[str, Any], why: str) -> None:
    stored = house.job("CARD-ann", **how)
    house.pass_time(0.5)
    assert house.state_of(stored) == "left"
    assert house.deliveries() == [(stored.seq, "not-forwardable", why)]
    assert house.server.book == []


# Order and window


def test_records_of_one_user_go_one_at_a_time_in_order_also_over_several_cards(house: House) -> None:
    house.server.cards["CARD-ann-2"] = "ann"
    go_offline(house)
    stored = [house.job(("CARD-ann", "CARD-ann-2")[each % 2], pages=each + 1) for each in range(20)]
    house.server.down = False
    house.server.delay = 0.05
    house.until(State.ONLINE)
    assert house.server.booked() == [each.id for each in stored]
    assert house.server.most_under_way == 1


def test_records_of_many_users_overlap_within_the_window(make: Make) -> None:
    house = make(window=8)
    people(house, 100)
    go_offline(house)
    for each in range(100):
        house.job(f"P{each}")
    house.server.down = False
    house.server.delay = 0.05
    house.until(State.ONLINE)
    assert house.server.most_under_way == 8
    assert len(house.server.book) == 100


def test_at_50_ms_the_window_is_used_well(make: Make) -> None:
    house = make()
    people(house, 200)
    go_offline(house)
    house.jobs([f"P{each % 200}" for each in range(2000)])
    house.server.down = False
    house.server.delay = 0.05
    house.until(lambda: bool(house.server.book))
    began = house.now
    house.until(lambda: len(house.server.book) >= 2000)
    rate = 2000 / (house.now - began)
    print(f"{rate:.0f} records/s; the window allows {32 / 0.05:.0f}")
    assert rate >= 0.8 * 32 / 0.05
    assert house.server.most_under_way <= 32
    assert house.server.count("lookUpUserNameByCardNo") == 200


def test_a_second_outage_while_the_first_still_drains(house: House) -> None:
    people(house, 300)
    go_offline(house)
    for each in range(300):
        house.job(f"P{each}")
    house.server.down = False
    house.server.delay = 0.05
    house.until(lambda: len(house.server.book) >= 100)
    house.server.down = True
    house.until(State.OFFLINE)
    for each in range(50):
        house.job(f"P{each}")
    house.pass_time(20)
    doubtful = house.outbox().get("in_doubt", 0)
    assert doubtful <= house.window
    house.server.down = False
    house.until(State.ONLINE)
    assert house.outbox() == ({"in_doubt": doubtful} if doubtful else {})
    assert each_once(house)
    assert len(house.server.book) >= 350 - doubtful


def test_ten_thousand_waiting_records_are_delivered_once_each(make: Make) -> None:
    house = make()
    people(house, 500)
    go_offline(house)
    house.jobs([f"P{each * 7 % 500}" for each in range(10_000)])
    house.server.down = False
    house.until(State.ONLINE)
    assert len(house.server.book) == 10_000
    assert each_once(house)
    assert house.outbox() == {}


def test_logins_are_answered_at_once_while_the_outbox_drains(house: House) -> None:
    people(house, 300)
    go_offline(house)
    for each in range(300):
        house.job(f"P{each}")
    house.server.down = False
    house.server.late["processJob"] = 0.9
    house.until(lambda: house.server.count("processJob") >= 32)
    asker = house.ask("CARD-ann")
    house.pass_time(0.1)
    assert [answer.user for answer in asker.answers] == ["ann"]


def test_a_record_that_an_admin_drops_while_it_is_in_hand_is_not_sent(house: House) -> None:
    house.server.late["getUserProperty"] = 0.5
    stored = house.job("CARD-ann")
    house.pass_time(0.3)
    house.ledger.commit([Drop(house.wall, stored.seq, "no", "root")])
    house.upstream.outbox.drop(stored.seq, "")
    house.pass_time(2)
    assert house.server.book == []
    assert len(house.upstream.desk.parcels) == 0


def test_evidence_is_read_once_per_user_and_kept_with_each_record(house: House) -> None:
    house.server.person("eve", "E")
    house.server.book += [{"user": "eve", "comment": "locum:before"}] * 7
    house.server.silent.add("processJob")
    stored = house.job("E")
    house.pass_time(0.5)
    (evidence,) = house.rows("SELECT evidence FROM outbox WHERE seq = ?", stored.seq)[0]
    assert '"job_count":7' in evidence.replace(" ", "")
    assert '"delivered_since":0' in evidence.replace(" ", "")
    assert house.server.count("getUserProperty") == 1
