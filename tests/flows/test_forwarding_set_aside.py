"""Forwarding: records that go unanswered or are refused: tries, pauses, set aside, retried or dropped by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from protocols.radius.packet import Code, Type
from proxy.link import State
from storage.answers import Changed
from storage.records import Drop, Retry
from tests.flows.house import House
from tests.flows.packets import fill, integer, job_number, outbox, record_id, session

Make = Callable[..., House]
ACK = Code.ACCOUNTING_RESPONSE


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
