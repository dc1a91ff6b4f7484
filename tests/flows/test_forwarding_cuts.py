"""Forwarding: cuts named, late answers, records sent twice, a second outage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from protocols.radius.packet import Code
from proxy.link import State
from tests.flows.house import House
from tests.flows.packets import fill, job_number, outbox, record_id, session

Make = Callable[..., House]
ACK = Code.ACCOUNTING_RESPONSE


def test_cut_records_are_named_and_sent_again_with_the_same_id(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.server_up = False
    house.swipe("0A1B2C3D")
    house.until(State.GRACE)
    assert house.rows("SELECT outcome, state, maybe_twice FROM deliveries") == [("unanswered", "waiting", 1)]
    house.silent_for_session.clear()
    house.server_up = True
    house.until(State.ONLINE)
    ids = {record_id(sent.packet) for sent in house.records_at_server()}
    assert len(ids) == 1
    ((named, outcomes),) = house.rows("SELECT id, outcomes FROM maybe_forwarded_twice")
    assert {named} == ids
    assert "delivered" in outcomes


def test_a_late_answer_settles_the_record(house: House) -> None:
    house.silent_for_session.add(b"s1")
    packet = house.account()
    house.pass_time(6)
    first = house.records_at_server()[0]
    assert outbox(house) == {"waiting": 1}
    house.late_answer(first, ACK)
    assert outbox(house) == {}
    assert len(house.answers(packet)) == 1
    copies = len(house.records_at_server())
    house.pass_time(30)
    assert len(house.records_at_server()) == copies


def test_late_answers_during_an_outage_settle_without_sending_again(house: House) -> None:
    house.silent_for_session = {f"s{n}".encode() for n in range(10)}
    fill(house, 10)
    sent = house.records_at_server()
    house.server_up = False
    house.swipe("0A1B2C3D")
    house.until(State.OFFLINE)
    for each in sent:
        house.late_answer(each, ACK)
    assert outbox(house) == {}
    house.server_up = True
    house.until(State.ONLINE)
    assert len(house.records_at_server()) == len(sent)


def test_contact_lost_between_taking_and_sending_sends_nothing(offline: House) -> None:
    fill(offline, 3)
    offline.server_up = True
    offline.holding = True
    offline.until(State.RECOVERING)
    offline.server_up = False
    offline.swipe("0A1B2C3D")
    offline.until(State.OFFLINE)
    offline.holding = False
    for _ in range(5):
        offline.sync()
    assert offline.records_at_server() == []
    assert outbox(offline) == {"waiting": 3}
    offline.server_up = True
    offline.until(State.ONLINE)
    assert len(offline.book) == 3


def test_a_second_outage_in_the_middle_of_draining_loses_nothing(make_house: Make) -> None:
    house = make_house(window=16)
    house.move(State.OFFLINE)
    fill(house, 200, sessions=40)
    house.server_up = True
    house.holding = True
    while len(house.book) < 60:
        house.pass_time(0.1)
        house.sync(10)
    house.server_up = False
    house.swipe("0A1B2C3D")
    while house.state is not State.OFFLINE:
        house.pass_time(0.1)
        house.sync(10)
    before = len(house.book)
    assert before < 200
    house.holding = False
    while house.held:
        house.sync()
    fill_more = [house.account(session=f"m{n}", job=f"more {n}") for n in range(5)]
    assert all(house.code(packet) == ACK for packet in fill_more)
    house.server_up = True
    house.until(State.ONLINE)
    copies = Counter(record_id(packet) for packet in house.book)
    assert len(copies) == 205
    twice = {name for name, count in copies.items() if count > 1}
    assert len(twice) <= 16
    assert twice <= {name for (name,) in house.rows("SELECT id FROM maybe_forwarded_twice")}
    for each in range(40):
        jobs = [int(job_number(p)) for p in house.book if session(p) == f"s{each}"]
        assert list(dict.fromkeys(jobs)) == sorted(set(jobs))


def test_flapping_loses_nothing_and_keeps_the_order(make_house: Make) -> None:
    house = make_house(window=8)
    house.move(State.OFFLINE)
    fill(house, 60, sessions=6)
    for _ in range(8):
        house.server_up = True
        house.pass_time(2.8)
        house.server_up = False
        house.pass_time(1.5)
    house.server_up = True
    house.until(State.ONLINE)
    assert {job_number(packet) for packet in house.book} == {str(n) for n in range(60)}
    for each in range(6):
        jobs = [int(job_number(p)) for p in house.book if session(p) == f"s{each}"]
        assert list(dict.fromkeys(jobs)) == sorted(set(jobs))


def test_recovering_queues_behind_the_same_session_and_relays_others(house: House) -> None:
    house.move(State.RECOVERING)
    behind = house.account(session="slow", job="behind", device="copier-9")
    other = house.account(session="other", job="other", device="copier-9")
    assert house.code(behind) == ACK
    assert house.code(other) == ACK
    sent = {job_number(each.packet) for each in house.records_at_server()}
    assert "other" in sent
    assert "behind" not in sent


def test_rejected_records_never_hold_recovery(offline: House) -> None:
    offline.refused_sessions.add(b"s1")
    offline.account()
    offline.server_up = True
    offline.until(State.ONLINE)
    assert outbox(offline) == {"rejected": 1}
