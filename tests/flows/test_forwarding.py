"""Forwarding: order per session, the window, retries, records set aside, cuts named, late answers, a second outage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from protocols.radius.packet import Code, Packet, Type
from proxy.link import State
from storage.answers import Changed
from storage.records import Drop, Retry
from tests.flows.house import HERE, THERE, House

Make = Callable[..., House]

ACK = Code.ACCOUNTING_RESPONSE


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def integer(packet: Packet, kind: int) -> int | None:
    value = packet.get(kind)
    return None if value is None else int.from_bytes(value, "big")


def record_id(packet: Packet) -> str:
    return next((value.decode() for kind, value in packet.vendor(32473) if kind == 12), "")


def job_number(packet: Packet) -> str:
    return next((value.decode() for kind, value in packet.vendor(32473) if kind == 2), "")


def session(packet: Packet) -> str:
    return (packet.get(Type.ACCT_SESSION_ID) or b"").decode()


def outbox(house: House) -> dict[str, int]:
    return dict(house.rows("SELECT state, count(*) FROM outbox GROUP BY state"))


def fill(house: House, count: int, sessions: int = 1_000_000) -> None:
    for each in range(count):
        house.account(session=f"s{each % sessions}", job=str(each))


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


# No answer


def test_the_same_bytes_for_five_seconds_then_anew(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.pass_time(4.9)
    sent = house.records_at_server()
    assert len(sent) == 3
    assert len({each.data for each in sent}) == 1
    assert len({each.channel for each in sent}) == 1
    house.pass_time(8)
    later = house.records_at_server()[3:]
    assert later
    assert later[0].data != sent[0].data
    assert record_id(later[0].packet) == record_id(sent[0].packet)
    assert (integer(later[0].packet, Type.ACCT_DELAY_TIME) or 0) >= 9


def tries(house: House) -> list[float]:
    """When each try of the one silent record began."""
    began: dict[bytes, float] = {}
    for sent in house.records_at_server():
        if session(sent.packet) == "s1":
            began.setdefault(sent.data, sent.at)
    return list(began.values())


def test_pauses_grow_and_have_jitter(make_house: Make) -> None:
    seen: set[tuple[float, ...]] = set()
    for _ in range(2):
        house = make_house()
        house.moment()
        house._drawn += len(seen)
        house.silent_for_session.add(b"s1")
        house.account()
        house.pass_time(120)
        at = tries(house)
        pauses = [later - earlier - 5 for earlier, later in pairwise(at)]
        for step, pause in enumerate(pauses):
            assert 0.8 * 5 * 2**step - 0.2 <= pause <= 1.2 * 5 * 2**step + 0.2
        assert len(pauses) >= 3
        seen.add(tuple(pauses))
    assert len(seen) == 2


def test_unanswered_eight_times_over_ten_minutes_while_others_are_answered_it_is_set_aside(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account(job="bad")
    for minute in range(16):
        house.account(session=f"good{minute}", job=str(minute))
        house.pass_time(59)
        if outbox(house).get("rejected"):
            break
    assert outbox(house) == {"rejected": 1}
    (row,) = house.rows("SELECT tries, reason FROM outbox")
    assert row[0] >= 8
    assert "no answer" in row[1]
    assert tries(house)[-1] - tries(house)[0] >= 590
    assert any("set aside" in tell.text for tell in house.told)
    assert house.state is State.ONLINE


def test_it_is_not_set_aside_before_ten_minutes_have_passed(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account(job="bad")
    for each in range(9):
        house.account(session=f"good{each}")
        house.pass_time(60)
    assert outbox(house) == {"waiting": 1} or outbox(house) == {"sent": 1}


def test_while_nothing_is_answered_nothing_is_set_aside(house: House) -> None:
    house.accounting_up = False
    house.account(job="1")
    house.pass_time(1500)
    assert outbox(house).get("rejected", 0) == 0


def test_an_outage_is_no_try(offline: House) -> None:
    offline.account()
    for _ in range(12):
        offline.server_up = True
        offline.silent_for_session.add(b"s1")
        offline.until(State.RECOVERING)
        offline.pass_time(0.5)
        offline.server_up = False
        offline.swipe("0A1B2C3D")
        offline.until(State.OFFLINE)
    assert offline.rows("SELECT tries FROM outbox") == [(0,)]


# Refused


def test_a_refused_record_is_set_aside_with_the_servers_words_and_the_others_go_on(offline: House) -> None:
    offline.refused_sessions.add(b"s1")
    fill(offline, 4)
    offline.account(session="s1", job="behind the refused one")
    offline.server_up = True
    offline.refused_sessions = {b"s1"}
    offline.until(State.ONLINE)
    assert outbox(offline) == {"rejected": 2}
    assert {session(packet) for packet in offline.book} == {"s0", "s2", "s3"}
    ((reason,),) = offline.rows("SELECT DISTINCT reason FROM outbox")
    assert "code 3" in reason


def test_a_refused_record_online_is_acknowledged_to_the_device(house: House) -> None:
    house.refused_sessions.add(b"s1")
    packet = house.account()
    house.pass_time(1.5)
    assert house.code(packet) == ACK
    assert outbox(house) == {"rejected": 1}


def by_hand(house: House, change: Retry | Drop) -> Changed:
    (changed,) = house.ledger.commit([change])
    assert isinstance(changed, Changed)
    for seq, _, order_key in changed.items:
        if isinstance(change, Retry):
            house.run(house.upstream.retry(seq, order_key, house.moment()))
        else:
            house.upstream.outbox.drop(seq, order_key)
    return changed


def test_a_rejected_record_is_sent_again_when_the_admin_retries(house: House) -> None:
    house.refused_sessions.add(b"s1")
    house.account()
    house.refused_sessions.clear()
    by_hand(house, Retry(house.wall, (), "root"))
    house.pass_time(1)
    assert outbox(house) == {}
    assert len(house.book) == 1


def test_a_pausing_record_is_sent_at_once_when_the_admin_retries(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.pass_time(6)
    house.silent_for_session.clear()
    ((seq,),) = house.rows("SELECT seq FROM outbox")
    by_hand(house, Retry(house.wall, (seq,), "root"))
    house.pass_time(0.2)
    assert outbox(house) == {}


def test_dropping_a_rejected_record_leaves_the_others_of_its_session_in_order(house: House) -> None:
    house.refused_sessions.add(b"s1")
    house.account(job="refused")
    house.pass_time(1)
    house.refused_sessions.clear()
    house.move(State.OFFLINE)
    house.account(job="waits")
    ((seq,),) = house.rows("SELECT seq FROM outbox WHERE state = 'rejected'")
    by_hand(house, Drop(house.wall, seq, "test", "root"))
    assert not house.upstream.outbox.empty
    house.server_up = True
    house.until(State.RECOVERING)
    house.until(State.ONLINE, 20)
    assert [job_number(packet) for packet in house.book] == ["waits"]
    assert outbox(house) == {}
    assert house.upstream.outbox.empty


def test_dropping_a_waiting_record_lets_those_behind_it_go(offline: House) -> None:
    for job in ("1", "2", "3"):
        offline.account(job=job)
    seqs = [seq for (seq,) in offline.rows("SELECT seq FROM outbox ORDER BY seq")]
    for seq in seqs[:2]:
        by_hand(offline, Drop(offline.wall, seq, "test", "root"))
    offline.server_up = True
    offline.until(State.ONLINE)
    assert [job_number(packet) for packet in offline.book] == ["3"]


# Cut, late, twice


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
