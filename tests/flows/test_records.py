"""Jobs and other records: acknowledged only when kept, known when they come again, refused to nobody, lost never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocols.radius.packet import Code, Type, vendor_attribute
from protocols.radius.secrets import sign_accounting_request
from proxy.dialects.radius.host import ACCT
from proxy.link import State
from tests.flows.house import BOOKS, EPOCH, HERE, House

Make = Callable[..., House]

STATE_A = (Type.PROXY_STATE, b"first hop")
ACK = Code.ACCOUNTING_RESPONSE


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def delay(seconds: int) -> tuple[int, bytes]:
    return Type.ACCT_DELAY_TIME, number(seconds)


def stamp(seconds: int) -> tuple[int, bytes]:
    return Type.EVENT_TIMESTAMP, number(seconds)


def jobs(house: House) -> int:
    return house.count("SELECT count(*) FROM jobs")


def entries(house: House) -> int:
    """Records of any kind."""
    return jobs(house) + house.count("SELECT count(*) FROM accounting")


# Commit before send


@pytest.mark.parametrize("state", [State.GRACE, State.OFFLINE])
def test_a_job_is_acknowledged_only_when_it_is_on_stable_storage(make_house: Make, state: State) -> None:
    house = make_house()
    house.move(state)
    house.holding = True
    packet = house.account()
    house.pass_time(1)
    assert house.code(packet) is None
    house.sync()
    assert house.code(packet) == ACK


def test_online_a_job_leaves_for_the_server_only_when_it_is_kept(house: House) -> None:
    house.holding = True
    packet = house.account()
    assert house.records_at_server() == []
    house.sync()
    assert len(house.records_at_server()) == 1
    assert house.code(packet) == ACK


def test_online_the_acknowledgement_waits_for_the_servers(house: House) -> None:
    house.silent_for_session.add(b"s1")
    packet = house.account()
    assert house.code(packet) is None
    house.late_answer(house.records_at_server()[0], ACK)
    assert house.code(packet) == ACK


def test_an_online_job_unanswered_is_acknowledged_by_locum_and_waits(house: House) -> None:
    house.silent_for_session.add(b"s1")
    packet = house.account()
    house.pass_time(1.05)
    assert house.code(packet) == ACK
    house.silent_for_session.clear()
    house.pass_time(3)
    assert len(house.answers(packet)) == 1, "a late answer settles it and does not reach the device"
    assert house.count("SELECT count(*) FROM outbox") == 0


def test_contact_lost_while_a_device_waits_acknowledges_what_is_kept(house: House) -> None:
    house.accounting_up = False
    packet = house.account()
    house.server_up = False
    house.swipe("0A1B2C3D")
    house.until(State.GRACE)
    assert house.code(packet) == ACK


def test_state_changes_while_a_record_is_being_kept(house: House) -> None:
    house.holding = True
    packet = house.account()
    house.server_up = False
    house.until(State.GRACE)
    for _ in range(10):
        house.sync()
    assert house.code(packet) == ACK
    assert house.records_at_server() == []
    house.holding, house.server_up = False, True
    house.until(State.ONLINE)
    assert len(house.book) == 1


# What is kept


def test_a_job_carries_what_the_wire_said_and_the_raw_bytes(offline: House) -> None:
    packet = offline.account(
        stamp(1_700_000_100),
        (Type.ACCT_SESSION_TIME, number(40)),
        vendor_attribute(32473, 4, number(2)),
        vendor_attribute(32473, 9, b"letter.pdf"),
        job="17",
        pages=5,
        session="abc",
    )
    row = offline.rows("SELECT device, client, session, kind, pages, color_pages, job_number, document FROM jobs_full")
    assert row == [("copier-1", "10.7.0.31", "abc", "copy", 5, 2, "17", "letter.pdf")]
    assert offline.rows("SELECT raw FROM personal WHERE raw IS NOT NULL AND raw <> x''") == [(packet,)]
    assert offline.rows("SELECT started_at, ended_at FROM jobs") == [
        ("2023-11-14T22:14:20.000Z", "2023-11-14T22:15:00.000Z")
    ]


def test_impossible_device_times_are_kept_as_they_are_and_stop_nothing(offline: House) -> None:
    packet = offline.account(stamp(0xFFFFFFFF), (Type.ACCT_SESSION_TIME, number(0xFFFFFFFF)))
    assert offline.code(packet) == ACK
    assert jobs(offline) == 1


def test_a_job_of_an_unknown_session_is_stored_and_acknowledged(offline: House) -> None:
    packet = offline.account(session="never heard", name="")
    assert offline.code(packet) == ACK
    assert offline.rows("SELECT mode, card, user FROM jobs_full") in (
        [("unknown", "", "")],
        [("unknown", None, None)],
    )


def test_the_card_of_a_job_is_told_by_its_devices_own_pattern(make_house: Make) -> None:
    house = make_house(devices={"copier-2": {"card_pattern": "[0-9]{3}"}})
    house.move(State.OFFLINE)
    house.account(name="123", device="copier-2")
    assert house.rows("SELECT card, user FROM jobs_full") == [("123", "")]


def test_a_record_that_cannot_be_read_in_full_is_kept_forwarded_and_quarantined(house: House) -> None:
    packet = house.account((Type.ACCT_DELAY_TIME, b"\1\2"), session="odd")
    assert house.code(packet) == ACK
    assert len(house.book) == 1
    assert house.rows("SELECT reason FROM quarantine") == [("acct-delay-time-unreadable",)]


@pytest.mark.parametrize("odd", ["\\u0000", "a\\u0000b", "\0", "\\", '"', "\ufffd", "\u2028"])
def test_any_text_on_the_wire_can_be_kept(offline: House, odd: str) -> None:
    packets = [
        offline.account(job="1", name=odd),
        offline.account(job="2", session=odd),
        offline.account(job="3", device=odd),
        offline.account(vendor_attribute(32473, 9, odd.encode()), job="4"),
    ]
    assert [offline.code(packet) for packet in packets] == [ACK] * 4
    assert jobs(offline) == 4


@pytest.mark.parametrize("status", [1, 2, 3, 7, 8, 15])
def test_every_kind_of_record_is_kept_and_forwarded(offline: House, status: int) -> None:
    packet = offline.account(status=status, pages=None)
    assert offline.code(packet) == ACK
    assert offline.count("SELECT count(*) FROM accounting") == 1
    offline.server_up = True
    offline.until(State.ONLINE)
    assert len(offline.book) == 1


def test_a_bad_request_authenticator_is_dropped_silently_and_counted(house: House) -> None:
    packet = sign_accounting_request(1, ((Type.ACCT_STATUS_TYPE, number(2)),), b"wrong secret")
    house.datagram(ACCT, packet)
    assert house.to_devices == []
    assert house.tally.counts["bad-authenticator"] == 1
    assert entries(house) == 0


def test_a_malformed_record_is_dropped_and_its_bytes_are_kept(house: House) -> None:
    house.datagram(ACCT, b"\x04\x01\x00\xffgarbage and more of it")
    assert house.to_devices == []
    assert house.count("SELECT count(*) FROM quarantine") == 1


# Answers


def test_proxy_states_of_the_device_come_back_and_message_authenticator_is_mirrored(house: House) -> None:
    for state in (State.ONLINE, State.OFFLINE):
        house.move(state)
        signed = house.account(STATE_A, (Type.MESSAGE_AUTHENTICATOR, bytes(16)), session=f"a{state}")
        plain = house.account(STATE_A, session=f"b{state}")
        (with_one,), (without,) = house.answers(signed), house.answers(plain)
        assert with_one.attributes[0][0] == Type.MESSAGE_AUTHENTICATOR
        assert with_one.attributes[1:] == (STATE_A,)
        assert without.attributes == (STATE_A,)


def test_every_identifier_that_asked_is_answered(house: House) -> None:
    house.silent_for_session.add(b"s1")
    first = house.account(job="1")
    second = house.account(delay(1), job="1")
    house.late_answer(house.records_at_server()[0], ACK)
    assert [len(house.answers(first)), len(house.answers(second))] == [1, 1]
    assert len(house.records_at_server()) == 1


# Repeats


def again(house: House, *attributes: tuple[int, bytes], **how: Any) -> bytes:
    packet = house.account(*attributes, **how)
    house.pass_time(1)
    return packet


@pytest.mark.parametrize("state", [State.ONLINE, State.OFFLINE])
def test_a_repeat_is_acknowledged_again_and_stored_once(make_house: Make, state: State) -> None:
    house = make_house()
    house.move(state)
    packets = [again(house, job="1"), again(house, delay(5), job="1"), again(house, delay(9), STATE_A, job="1")]
    assert [house.code(packet) for packet in packets] == [ACK] * 3
    assert jobs(house) == 1


def test_a_repeat_may_move_event_timestamp_with_the_delay(offline: House) -> None:
    again(offline, stamp(1_700_000_000), job="1")
    again(offline, stamp(1_700_000_005), delay(5), job="1")
    again(offline, stamp(1_700_000_000), delay(9), job="1")
    assert jobs(offline) == 1


def test_event_timestamps_that_move_otherwise_are_other_records(offline: House) -> None:
    again(offline, stamp(1_700_000_000), job="1")
    again(offline, stamp(1_700_000_005), delay(4), job="1")
    assert jobs(offline) == 2


def test_several_interims_and_jobs_of_one_session_are_no_repeats(offline: House) -> None:
    for pages in (1, 2, 3):
        again(offline, stamp(1_700_000_000 + pages), job=str(pages))
    assert jobs(offline) == 3


def test_the_same_packet_of_another_client_is_another_record(offline: House) -> None:
    offline.account(job="1", host=31)
    offline.account(job="1", host=32)
    assert jobs(offline) == 2


@pytest.mark.parametrize("status", [7, 8])
def test_after_accounting_on_or_off_session_ids_may_be_used_again(offline: House, status: int) -> None:
    again(offline, job="1")
    offline.account(status=status, session="", pages=None, name="")
    offline.pass_time(1)
    again(offline, job="1")
    assert jobs(offline) == 2
    again(offline, delay(3), job="1")
    assert jobs(offline) == 2


def test_accounting_on_begins_a_new_life_even_while_an_earlier_job_awaits_its_answer(house: House) -> None:
    house.accounting_up = False
    house.account(job="1")
    house.account(status=7, session="", pages=None, name="")
    house.account(job="1")
    house.pass_time(1.5)
    assert jobs(house) == 2


def test_after_24_hours_the_same_record_is_a_new_one(offline: House) -> None:
    again(offline, job="1")
    offline.wall += 23 * 3_600_000
    again(offline, job="1")
    assert jobs(offline) == 1
    offline.wall += 2 * 3_600_000
    again(offline, job="1")
    assert jobs(offline) == 2


def test_a_repeat_after_a_restart_is_known(offline: House) -> None:
    again(offline, job="1")
    offline.restart(down_for=60)
    packet = again(offline, delay(61), job="1")
    assert offline.code(packet) == ACK
    assert jobs(offline) == 1


def test_the_same_job_number_with_other_content_is_kept_too_and_acknowledged(offline: House) -> None:
    packets = [offline.account(job="1", pages=1), offline.account(job="1", pages=2)]
    assert [offline.code(packet) for packet in packets] == [ACK, ACK]
    assert [pages for (pages,) in offline.rows("SELECT pages FROM jobs ORDER BY seq")] == [1, 2]


# records_to


def test_where_records_go_elsewhere_logins_follow_the_first_and_jobs_the_second(make_house: Make) -> None:
    house = make_house(records_to="books")
    house.to_server.clear()
    login, job = house.swipe("0A1B2C3D"), house.account()
    house.pass_time(1)
    assert {sent.address for sent in house.logins_at_server()} == {HERE}
    assert {sent.address for sent in house.records_at_server()} == {BOOKS}
    assert house.code(login) == Code.ACCESS_ACCEPT
    assert house.code(job) == ACK


def test_where_records_go_elsewhere_they_are_always_kept_and_acknowledged_at_once(make_house: Make) -> None:
    house = make_house(records_to="books")
    house.down = {BOOKS}
    packet = house.account()
    assert house.code(packet) == ACK
    house.pass_time(10)
    assert house.state is State.ONLINE
    assert house.assembly.upstreams["books"].state is not State.ONLINE
    house.down = set()
    house.pass_time(30)
    assert len(house.book) == 1


def test_where_records_go_elsewhere_nothing_is_relayed_unkept(make_house: Make) -> None:
    house = make_house(records_to="books")
    house.disk_full = True
    packet = house.account()
    house.pass_time(2)
    assert house.code(packet) is None
    assert house.records_at_server() == []


# Storage full


def test_storage_full_online_the_servers_own_acknowledgement_goes_back(house: House) -> None:
    house.disk_full = True
    house.silent_for_session.add(b"s1")
    packet = house.account()
    house.pass_time(2)
    assert house.code(packet) is None, "Locum has not kept it, so it does not say so"
    house.late_answer(house.records_at_server()[-1], ACK)
    assert house.code(packet) == ACK
    assert jobs(house) == 0


def test_storage_full_and_no_answer_leaves_the_record_to_the_device(house: House) -> None:
    house.disk_full = True
    house.silent_for_session.add(b"s1")
    first = house.account(job="1")
    house.pass_time(6)
    assert house.code(first) is None
    house.disk_full = False
    house.silent_for_session.clear()
    house.account(packet=first)
    assert house.code(first) == ACK
    assert jobs(house) == 1


def test_a_gap_is_in_the_ledger_as_soon_as_possible(house: House) -> None:
    house.disk_dead = True
    began = house.wall
    for job in range(3):
        house.account(job=str(job))
        house.pass_time(0.5)
    house.disk_dead = False
    house.pass_time(5)
    ((data,),) = house.rows("SELECT data FROM notes WHERE note = 'gap'")
    assert '"records":3' in data.replace(" ", "")
    assert str(began) in data


@pytest.mark.parametrize("state", [State.GRACE, State.OFFLINE])
def test_storage_full_without_a_server_nothing_is_acknowledged(make_house: Make, state: State) -> None:
    house = make_house()
    house.move(state)
    house.disk_full = True
    packet = house.account()
    house.pass_time(5)
    assert house.code(packet) is None
    assert any("not stored" in tell.text for tell in house.told)
    house.disk_full = False
    house.account(packet=packet)
    assert house.code(packet) == ACK


def test_storage_full_while_recovering_a_record_does_not_overtake_its_session(house: House) -> None:
    house.move(State.RECOVERING)
    house.disk_full = True
    packet = house.account(session="slow", job="second", device="copier-9")
    house.pass_time(0.2)
    jobs_sent = {job for sent in house.records_at_server() for kind, job in sent.packet.vendor(32473) if kind == 2}
    assert b"second" not in jobs_sent
    assert house.code(packet) is None


def test_a_record_of_the_largest_size_that_cannot_be_stored_does_not_block_its_repeat(house: House) -> None:
    house.disk_full = True
    packet = house.account(*largest())
    house.pass_time(6)
    house.disk_full = False
    house.account(packet=packet)
    house.pass_time(2)
    assert house.code(packet) == ACK


def largest() -> list[tuple[int, bytes]]:
    """What fills `house.account()` up to 4096 octets."""
    kind, pages = vendor_attribute(32473, 1, number(1)), vendor_attribute(32473, 3, number(1))
    used = 20 + 6 + 10 + 10 + 4 + 2 + len(kind[1]) + 2 + len(pages[1])
    filling = [(Type.REPLY_MESSAGE, bytes(253)) for _ in range(15)]
    return [*filling, (Type.REPLY_MESSAGE, bytes(4096 - used - 15 * 255 - 2))]


def test_a_record_of_the_largest_size_is_forwarded(house: House) -> None:
    packet = house.account(*largest())
    assert len(packet) == 4096
    house.pass_time(2)
    assert house.code(packet) == ACK
    assert len(house.book) == 1


# Whose clock


def test_the_time_taken_is_locums(offline: House) -> None:
    offline.account()
    taken = offline.rows("SELECT at FROM jobs")[0][0]
    assert taken.startswith("2026-11-")
    assert offline.wall > EPOCH
