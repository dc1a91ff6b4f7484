"""PaperCut: what becomes of a record, wherever the exchange breaks; order, window, pauses, outages, restarts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from proxy.dialects.papercut.delivering import PATIENCE
from proxy.link import State
from storage.answers import Changed, Stored
from storage.records import Counts, Drop, Retry
from tests.flows.papercut_house import (
    REFUSED_TOKEN,
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


def test_what_could_not_be_stored_is_not_handed_over(house: House) -> None:
    assert house.upstream.relay_unkept(b"", None, Asker(), house.moment()) == []  # type: ignore[arg-type]


# Refused


def test_a_fault_sets_the_record_aside_with_the_servers_words_and_others_go_on(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "java.lang.Exception: no such printer" * (job["printer"] == "bad")
    bad = house.job("CARD-ann", device="bad")
    good = house.job("CARD-bob")
    house.pass_time(1)
    assert house.state_of(bad) == "rejected"
    assert house.state_of(good) == "left"
    assert (bad.seq, "refused", "java.lang.Exception: no such printer") in house.deliveries()


def test_a_corrected_printer_is_what_the_server_is_told(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "no such printer" * (job["printer"] == "bad")
    stored = house.job("CARD-ann", device="bad")
    house.pass_time(1)
    (changed,) = house.ledger.commit([Retry(house.wall, (stored.seq,), "root", (("printer", "right"),))])
    assert isinstance(changed, Changed)
    for seq, _, key in changed.items:
        house.run(house.upstream.retry(seq, key, house.moment()))
    house.pass_time(1)
    assert [job["printer"] for job in house.server.book] == ["right"]
    assert house.state_of(stored) == "left"


def test_a_corrected_user_is_not_looked_up(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "not this one" * (job["user"] == "ann")
    stored = house.job("CARD-ann")
    house.pass_time(1)
    house.ledger.commit([Retry(house.wall, (stored.seq,), "root", (("user", "dan"),))])
    house.run(house.upstream.retry(stored.seq, "user", house.moment()))
    house.pass_time(1)
    assert [job["user"] for job in house.server.book] == ["dan"]


def test_a_refused_token_in_the_middle_of_a_drain_rejects_nothing(house: House) -> None:
    people(house, 200)
    go_offline(house)
    for each in range(200):
        house.job(f"P{each}")
    house.server.down = False
    house.server.delay = 0.05
    house.until(lambda: len(house.server.book) >= 50)
    house.server.token = "another"
    house.pass_time(3)
    assert REFUSED_TOKEN in house.upstream.trouble
    assert set(house.outbox()) == {"waiting"}
    assert house.state is State.RECOVERING
    calls = len(house.server.calls)
    house.pass_time(20)
    assert len(house.server.calls) - calls < 60, "it does not hammer at a closed door"
    assert sum("refuses every call" in text for text in house.words("error")) == 1
    house.server.token = "lab-token"
    house.until(State.ONLINE)
    assert house.upstream.trouble == ""
    assert len(house.server.book) == 200
    assert each_once(house)
    assert house.outbox() == {}


def test_three_equal_faults_for_different_users_pause_the_drain(house: House) -> None:
    house.server.faults["processJob"] = "java.lang.Exception: database is read only"
    stored = [house.job(f"CARD-{name}") for name in ("ann", "bob", "cleo", "dan")]
    house.pass_time(5)
    assert {house.state_of(each) for each in stored} == {"waiting"}
    assert "database is read only" in house.upstream.trouble
    assert any("forwarding pauses" in text for text in house.words("error"))
    sent = house.server.count("processJob")
    house.pass_time(130)
    assert house.server.count("processJob") - sent == 2, "one record a minute is tried"
    assert house.outbox() == {"waiting": 4}
    house.server.faults.clear()
    house.pass_time(200)
    assert house.outbox() == {}
    assert house.upstream.trouble == ""
    assert each_once(house)


def test_equal_faults_for_one_user_set_only_its_records_aside(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "no credit" * (job["user"] == "ann")
    refused = [house.job("CARD-ann") for _ in range(5)]
    good = [house.job("CARD-bob") for _ in range(5)]
    house.pass_time(3)
    assert {house.state_of(each) for each in refused} == {"rejected"}
    assert {house.state_of(each) for each in good} == {"left"}


def test_an_admin_who_retries_ends_the_pause(house: House) -> None:
    house.server.faults["processJob"] = "always"
    stored = [house.job(f"CARD-{name}") for name in ("ann", "bob", "cleo")]
    house.pass_time(3)
    house.server.faults.clear()
    house.run(house.upstream.retry(stored[0].seq, "", house.moment()))
    house.pass_time(5)
    assert house.outbox() == {}


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
    house.until(lambda: house.upstream.desk.held != "")
    house.server.down = True
    house.end_all()
    house.until(State.GRACE)
    assert house.upstream.desk.held == ""
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
