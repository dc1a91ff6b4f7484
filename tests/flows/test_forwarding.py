"""Forwarding: order per session, the window, what is sent, storage that fails meanwhile, several addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from protocols.radius.packet import Code, Type
from proxy.link import State
from tests.flows.house import HERE, THERE, House
from tests.flows.packets import fill, integer, job_number, number, outbox, record_id, session

Make = Callable[..., House]
ACK = Code.ACCOUNTING_RESPONSE


# Order and window


def test_everything_kept_offline_reaches_the_server(offline: House) -> None:
    fill(offline, 50, sessions=7)
    offline.server_up = True
    offline.until(State.ONLINE)
    assert Counter(job_number(packet) for packet in offline.book) == Counter(str(n) for n in range(50))
    assert outbox(offline) == {}


def test_records_of_one_session_arrive_in_their_order(offline: House) -> None:
    fill(offline, 60, sessions=5)
    offline.server_up = True
    offline.until(State.ONLINE)
    for each in range(5):
        jobs = [int(job_number(packet)) for packet in offline.book if session(packet) == f"s{each}"]
        assert jobs == sorted(jobs)
        assert len(jobs) == 12


def test_a_record_waits_until_the_one_before_it_in_its_session_is_acknowledged(offline: House) -> None:
    fill(offline, 3, sessions=1)
    offline.silent_for_session.add(b"s0")
    offline.server_up = True
    offline.until(State.RECOVERING)
    offline.pass_time(2)
    assert {job_number(sent.packet) for sent in offline.records_at_server()} == {"0"}
    offline.late_answer(offline.records_at_server()[-1], ACK)
    offline.pass_time(0.1)
    assert {job_number(sent.packet) for sent in offline.records_at_server()} == {"0", "1"}


def test_others_overlap_and_leave_in_the_order_in_which_they_came(offline: House) -> None:
    fill(offline, 30)
    offline.server_up = True
    offline.until(State.ONLINE)
    assert [job_number(packet) for packet in offline.book] == [str(n) for n in range(30)]


def test_at_most_a_window_is_unanswered(make_house: Make) -> None:
    house = make_house(window=10)
    house.move(State.OFFLINE)
    fill(house, 40)
    house.silent_for_session = {f"s{n}".encode() for n in range(40)}
    house.server_up = True
    house.until(State.RECOVERING)
    house.pass_time(0.5)
    assert len({job_number(sent.packet) for sent in house.records_at_server()}) == 10
    assert outbox(house) == {"sent": 10, "waiting": 30}
    for sent in house.records_at_server()[:4]:
        house.late_answer(sent, ACK)
    house.pass_time(0.1)
    assert outbox(house) == {"sent": 10, "waiting": 26}


def test_a_reload_changes_the_window(make_house: Make) -> None:
    house = make_house(window=5)
    house.move(State.OFFLINE)
    fill(house, 40)
    house.silent_for_session = {f"s{n}".encode() for n in range(40)}
    house.reload(window=20)
    house.server_up = True
    house.until(State.RECOVERING)
    house.pass_time(0.5)
    assert outbox(house)["sent"] == 20


def test_more_than_256_in_flight_take_a_second_source_port(make_house: Make) -> None:
    house = make_house(window=300)
    house.move(State.OFFLINE)
    fill(house, 300)
    house.silent_for_session = {f"s{n}".encode() for n in range(300)}
    house.server_up = True
    house.until(State.RECOVERING)
    house.pass_time(0.5)
    used = {(sent.channel, sent.packet.identifier) for sent in house.records_at_server()}
    assert len(used) == 300
    assert len({channel for channel, _ in used}) == 2


def test_a_record_is_marked_as_sent_before_it_is(offline: House) -> None:
    fill(offline, 1)
    offline.server_up = True
    offline.holding = True
    for _ in range(60):
        offline.pass_time(0.1)
        assert offline.records_at_server() == []
    offline.holding = False
    offline.sync()
    assert len(offline.records_at_server()) == 1


def test_logins_are_answered_at_once_while_the_outbox_drains(offline: House) -> None:
    fill(offline, 20)
    offline.silent_for_session = {f"s{n}".encode() for n in range(20)}
    offline.server_up = True
    offline.until(State.RECOVERING)
    packet = offline.swipe("0A1B2C3D", device="copier-2", host=32)
    assert offline.line(packet) == "welcome"


# What is sent


def test_a_forwarded_record_keeps_its_attributes_and_their_order(offline: House) -> None:
    extra = ((Type.CALLING_STATION_ID, b"aa"), (Type.PROXY_STATE, b"hop"), (Type.CLASS, b"zz"), (Type.CLASS, b"yy"))
    offline.account(*extra, (Type.EVENT_TIMESTAMP, number(1_700_000_000)), session="keep", job="9")
    offline.server_up = True
    offline.until(State.ONLINE)
    (packet,) = offline.book
    kinds = [kind for kind, _ in packet.attributes if kind not in (Type.ACCT_DELAY_TIME, Type.VENDOR_SPECIFIC)]
    assert kinds[:5] == [40, 1, 32, 44, Type.CALLING_STATION_ID]
    assert tuple(a for a in packet.attributes if a in extra) == extra
    assert integer(packet, Type.EVENT_TIMESTAMP) == 1_700_000_000
    assert record_id(packet) == offline.rows("SELECT id FROM jobs")[0][0]


def test_delay_time_is_the_devices_plus_the_time_held(offline: House) -> None:
    taken = offline.wall
    offline.account((Type.ACCT_DELAY_TIME, number(7)), session="with")
    offline.account(session="without")
    offline.pass_time(100)
    offline.server_up = True
    offline.until(State.ONLINE)
    held = (offline.wall - taken) // 1000
    delays = {session(packet): integer(packet, Type.ACCT_DELAY_TIME) or 0 for packet in offline.book}
    stamps = {session(packet): integer(packet, Type.EVENT_TIMESTAMP) or 0 for packet in offline.book}
    assert held - 2 <= delays["without"] <= held
    assert delays["with"] == delays["without"] + 7
    assert stamps == {"with": taken // 1000 - 7, "without": taken // 1000}


def test_what_was_held_no_time_is_forwarded_without_a_delay(house: House) -> None:
    house.account()
    assert integer(house.book[0], Type.ACCT_DELAY_TIME) in (None, 0)


# Storage fails while draining


def test_the_outbox_drains_when_the_disk_is_full(offline: House) -> None:
    fill(offline, 5)
    offline.disk_full = True
    offline.server_up = True
    offline.until(State.ONLINE)
    assert len(offline.book) == 5
    assert outbox(offline) == {}


@pytest.mark.parametrize("seconds", [0.3, 5])
def test_a_disk_that_fails_for_a_while_delays_draining_and_loses_nothing(offline: House, seconds: float) -> None:
    fill(offline, 20, sessions=4)
    offline.server_up = True
    offline.until(State.RECOVERING)
    offline.disk_dead = True
    offline.pass_time(seconds)
    offline.disk_dead = False
    offline.until(State.ONLINE)
    assert {job_number(packet) for packet in offline.book} == {str(n) for n in range(20)}
    assert outbox(offline) == {}


def test_an_acknowledgement_that_could_not_be_written_down_is_written_later(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.disk_dead = True
    house.late_answer(house.records_at_server()[0], ACK)
    house.pass_time(3)
    house.disk_dead = False
    house.pass_time(2)
    assert outbox(house) == {}
    assert house.count("SELECT count(*) FROM deliveries WHERE outcome = 'delivered'") == 1


# Several addresses


def test_records_in_flight_to_an_address_that_fails_go_to_the_next_and_are_named(make_house: Make) -> None:
    house = make_house(addresses=(HERE, THERE))
    house.down = {HERE}
    house.account()
    house.pass_time(10)
    assert house.state is State.ONLINE
    assert len(house.book) == 1
    assert house.count("SELECT count(*) FROM deliveries WHERE maybe_twice = 1") >= 1


def test_a_reload_that_changes_nothing_keeps_the_address_in_use(make_house: Make) -> None:
    house = make_house(addresses=(HERE, THERE))
    house.down = {HERE}
    house.swipe("0A1B2C3D")
    house.pass_time(2)
    house.reload()
    packet = house.swipe("0A1B2C3D")
    assert house.line(packet) == "welcome"


def test_an_address_that_is_removed_gives_its_records_back(make_house: Make) -> None:
    house = make_house(addresses=(HERE, THERE))
    house.silent_for_session.add(b"s1")
    packet = house.account()
    house.silent_for_session.clear()
    house.reload(addresses=(THERE,))
    assert house.code(packet) == ACK
    house.pass_time(3)
    assert len(house.book) == 1
    assert house.rows("SELECT DISTINCT maybe_twice FROM deliveries WHERE outcome = 'unanswered'") == [(1,)]
