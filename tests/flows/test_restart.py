"""Restart: what is rebuilt from the ledger, in each state, after a crash, a reboot and a clock that was set."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from protocols.radius.packet import Code, Type
from proxy.link import State
from storage.reader import Reader
from tests.flows.house import House

Make = Callable[..., House]

CARD = "0A1B2C3D"
ACK = Code.ACCOUNTING_RESPONSE


def job_number(attributes: list[tuple[int, bytes]]) -> str:
    return next((value.decode() for kind, value in attributes if kind == 2), "")


def grace(house: House) -> None:
    house.server_up = False
    house.until(State.GRACE)


# The state


def test_a_restart_offline_lets_people_in_at_once(offline: House) -> None:
    offline.restart(down_for=5)
    assert offline.state is State.OFFLINE
    packet = offline.swipe(CARD)
    assert offline.code(packet) == Code.ACCESS_ACCEPT


def test_a_restart_keeps_when_and_why(offline: House) -> None:
    before = offline.upstream.link
    offline.restart(down_for=5)
    after = offline.upstream.link
    assert (after.cause, after.since_wall, after.outage_wall) == (before.cause, before.since_wall, before.outage_wall)


def test_the_delay_goes_on_over_a_restart(make_house: Make) -> None:
    house = make_house(delay=30)
    grace(house)
    house.pass_time(20)
    house.restart(down_for=5)
    house.pass_time(4)
    assert house.state is State.GRACE
    house.pass_time(1.5)
    assert house.state is State.OFFLINE


def test_the_time_down_counts(make_house: Make) -> None:
    house = make_house(delay=30)
    grace(house)
    house.restart(down_for=60)
    house.pass_time(0.2)
    assert house.state is State.OFFLINE


def test_the_boot_clock_counts_when_the_wall_clock_was_set(make_house: Make) -> None:
    house = make_house(delay=30)
    grace(house)
    house.restart(down_for=5, wall_step=-86_400)
    house.pass_time(24)
    assert house.state is State.GRACE
    house.pass_time(1.5)
    assert house.state is State.OFFLINE


def test_after_a_reboot_the_wall_clock_counts(make_house: Make) -> None:
    house = make_house(delay=30)
    grace(house)
    house.restart(down_for=25, reboot=True)
    house.pass_time(4)
    assert house.state is State.GRACE
    house.pass_time(1.5)
    assert house.state is State.OFFLINE


def test_after_a_reboot_a_wall_clock_before_the_last_entry_counts_for_nothing(make_house: Make) -> None:
    house = make_house(delay=30)
    grace(house)
    house.restart(down_for=25, reboot=True, wall_step=-86_400)
    house.pass_time(29)
    assert house.state is State.GRACE
    house.pass_time(1.5)
    assert house.state is State.OFFLINE


def test_a_restart_recovering_goes_on_recovering(house: House) -> None:
    house.move(State.RECOVERING)
    house.restart(down_for=1)
    assert house.state is State.RECOVERING
    house.silent_for_session.clear()
    house.until(State.ONLINE)
    assert len(house.book) == 1


def test_contact_lost_after_a_restart_while_recovering_is_offline_again_at_once(make_house: Make) -> None:
    house = make_house(delay=30)
    house.server_up = False
    house.until(State.OFFLINE)
    house.silent_for_session.add(b"slow")
    house.account(session="slow")
    house.server_up = True
    house.until(State.RECOVERING)
    house.restart(down_for=1)
    house.server_up = False
    house.swipe(CARD)
    house.pass_time(1.2)
    assert house.state is State.OFFLINE


def test_a_restart_online_with_a_full_outbox_is_recovering(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.restart(down_for=1)
    assert house.state is State.RECOVERING
    house.silent_for_session.clear()
    house.until(State.ONLINE)
    assert len(house.book) == 1


def test_every_change_of_state_is_in_the_ledger_also_one_by_a_restart(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.restart(down_for=1)
    house.pass_time(0.2)
    ((note,),) = house.rows("SELECT data FROM notes WHERE note = 'state'")
    assert json.loads(note)["state"] == "recovering"


def test_a_restart_is_no_outage(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.restart(down_for=1)
    house.silent_for_session.clear()
    house.until(State.ONLINE)
    assert Reader(house.ledger.path, house.reader).last_outage() is None


def test_a_restart_online_is_online(house: House) -> None:
    house.account()
    house.restart(down_for=60)
    assert house.state is State.ONLINE
    assert house.line(house.swipe(CARD)) == "welcome"


def test_a_server_that_died_while_locum_was_down_is_noticed(house: House) -> None:
    house.server_up = False
    house.restart(down_for=60)
    house.until(State.OFFLINE, 20)


# Proven or not


def test_proven_outlives_a_restart(house: House) -> None:
    house.server_up = False
    house.restart(down_for=1)
    assert house.upstream.link.proven
    house.until(State.OFFLINE)


@pytest.mark.parametrize("change", [{"secret": b"other"}, {"addresses": ("192.0.2.77",)}, {"auth_port": 1645}])
def test_another_secret_address_or_port_at_a_restart_is_unproven(house: House, change: dict[str, Any]) -> None:
    house.server_up = False
    house.restart(down_for=1, **change)
    assert not house.upstream.link.proven
    house.pass_time(30)
    assert house.state is State.GRACE
    assert house.code(house.swipe(CARD)) is None


def test_another_secret_at_a_restart_while_offline_lets_nobody_in(offline: House) -> None:
    offline.restart(down_for=1, secret=b"other")
    packet = offline.swipe(CARD)
    offline.pass_time(5)
    assert offline.code(packet) is None


def test_another_secret_is_proven_by_the_servers_first_answer(house: House) -> None:
    house.server_secret = b"other"
    house.reload(secret=b"other")
    assert not house.upstream.link.proven
    house.pass_time(1)
    assert house.upstream.link.proven
    house.server_up = False
    house.until(State.OFFLINE)


def test_the_old_secret_again_is_proven_already(house: House) -> None:
    house.reload(secret=b"other")
    house.reload(secret=house.server_secret)
    assert house.upstream.link.proven


def test_that_a_server_signs_is_remembered_over_a_restart(house: House) -> None:
    house.restart(down_for=1)
    house.server_signs = False
    assert house.code(house.swipe(CARD)) is None
    assert house.tally.counts["no-message-authenticator"] >= 1


# Sessions


def test_sessions_outlive_a_restart(offline: House) -> None:
    packet = offline.swipe(CARD)
    mark = offline.answers(packet)[0].get(Type.CLASS)
    assert mark is not None
    offline.restart(down_for=5)
    offline.account((Type.CLASS, mark), job="1")
    assert offline.rows("SELECT mode, card FROM jobs_full") == [("offline", CARD)]
    offline.swipe("00112233")
    assert offline.rows("SELECT session, cause FROM logouts") == [(mark.hex(), "next-login")]


def test_a_session_that_expired_meanwhile_is_ended_in_the_ledger(offline: House) -> None:
    packet = offline.swipe(CARD)
    mark = offline.answers(packet)[0].get(Type.CLASS)
    assert mark is not None
    offline.restart(down_for=4000)
    offline.pass_time(2)
    assert offline.rows("SELECT session, cause FROM logouts") == [(mark.hex(), "timeout")]


def test_jobs_of_a_session_that_ended_before_a_restart_are_its_all_the_same(offline: House) -> None:
    packet = offline.swipe(CARD)
    mark = offline.answers(packet)[0].get(Type.CLASS)
    assert mark is not None
    offline.account((Type.CLASS, mark), status=2, pages=None)
    offline.restart(down_for=5)
    offline.account((Type.CLASS, mark), job="late")
    assert offline.rows("SELECT mode, card FROM jobs_full") == [("offline", CARD)]


def test_an_online_session_is_one_after_a_restart(house: House) -> None:
    house.swipe(CARD)
    house.restart(down_for=5)
    house.account(job="1")
    assert house.rows("SELECT mode FROM jobs") == [("online",)]


# The outbox


def test_what_waits_outlives_a_restart_in_order(offline: House) -> None:
    for each in range(30):
        offline.account(session=f"s{each % 3}", job=str(each))
    offline.restart(down_for=5)
    offline.server_up = True
    offline.until(State.ONLINE)
    jobs = [int(job_number(packet.vendor(32473))) for packet in offline.book]
    assert sorted(jobs) == list(range(30))
    for each in range(3):
        own = [job for job in jobs if job % 3 == each]
        assert own == sorted(own)


def test_what_was_in_flight_waits_again_and_is_named(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.restart(down_for=1)
    assert len(house.in_flight) == 1
    assert house.rows("SELECT outcome, state, maybe_twice FROM deliveries") == [("unknown", "waiting", 1)]
    house.silent_for_session.clear()
    house.until(State.ONLINE)
    assert house.count("SELECT count(*) FROM maybe_forwarded_twice") == 1


@pytest.mark.parametrize("synced", range(8))
def test_whatever_was_acknowledged_is_there_after_a_crash_at_any_commit(make_house: Make, synced: int) -> None:
    house = make_house()
    house.move(State.OFFLINE)
    house.holding = True
    packets = [house.account(job=str(n), session=f"s{n % 2}") for n in range(5)]
    for _ in range(synced):
        house.sync(1)
    acknowledged = {n for n, packet in enumerate(packets) if house.code(packet) == ACK}
    house.restart(down_for=1)
    house.holding = False
    kept = {int(job) for (job,) in house.rows("SELECT job_number FROM jobs")}
    assert acknowledged <= kept
    for packet in packets:
        house.account(packet=packet)
    assert all(house.code(packet) == ACK for packet in packets)
    assert house.count("SELECT count(*) FROM jobs") == 5
    house.server_up = True
    house.until(State.ONLINE)
    assert len(house.book) == 5


@pytest.mark.parametrize("synced", [0, 1, 2, 3, 5, 8, 13, 21])
def test_a_crash_while_draining_loses_nothing_and_names_every_copy(make_house: Make, synced: int) -> None:
    house = make_house(window=4)
    house.move(State.OFFLINE)
    for each in range(10):
        house.account(session=f"s{each % 3}", job=str(each))
    house.server_up = True
    house.holding = True
    house.until(State.RECOVERING)
    for _ in range(synced):
        house.sync(1)
        house.pass_time(0.1)
    house.restart(down_for=1)
    house.holding = False
    house.pass_time(20)
    assert house.count("SELECT count(*) FROM outbox") == 0
    ids = [value for packet in house.book for kind, value in packet.vendor(32473) if kind == 12]
    assert len(set(ids)) == 10
    twice = {each.decode() for each in ids if ids.count(each) > 1}
    assert len(ids) - 10 <= 4
    assert twice <= {name for (name,) in house.rows("SELECT id FROM maybe_forwarded_twice")}


def test_a_pause_goes_on_over_a_restart(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.pass_time(17)
    house.to_server.clear()
    house.restart(down_for=0.1)
    house.pass_time(3)
    assert house.records_at_server() == []
    house.pass_time(30)
    assert house.records_at_server() != []


def test_a_clock_set_back_does_not_make_a_pause_last_a_day(house: House) -> None:
    house.silent_for_session.add(b"s1")
    house.account()
    house.pass_time(6)
    house.silent_for_session.clear()
    house.restart(down_for=1, reboot=True, wall_step=-86_400)
    house.pass_time(400)
    assert len(house.book) == 1


def test_rejected_records_stay_rejected(house: House) -> None:
    house.refused_sessions.add(b"s1")
    house.account()
    house.pass_time(1)
    house.refused_sessions.clear()
    house.restart(down_for=1)
    assert house.state is State.ONLINE
    house.pass_time(30)
    assert house.rows("SELECT state FROM outbox") == [("rejected",)]


# Reload


def test_an_upstream_for_which_records_wait_is_known_to_hold_some(offline: House) -> None:
    offline.account()
    assert not offline.upstream.outbox.empty


def test_a_reload_of_the_delay_applies_to_the_running_clock(make_house: Make) -> None:
    house = make_house(delay=300)
    grace(house)
    house.pass_time(10)
    house.reload(delay=5)
    house.pass_time(0.1)
    assert house.state is State.OFFLINE


def test_a_longer_delay_applies_too(make_house: Make) -> None:
    house = make_house(delay=5)
    grace(house)
    house.reload(delay=20)
    house.pass_time(19)
    assert house.state is State.GRACE
    house.pass_time(1.1)
    assert house.state is State.OFFLINE


def test_a_reload_changes_the_policy_of_the_next_login(offline: House) -> None:
    assert offline.code(offline.swipe(CARD)) == Code.ACCESS_ACCEPT
    offline.reload(policy={"enabled": False})
    assert offline.code(offline.swipe(CARD)) is None
    offline.reload(policy={}, role="switch")
    assert offline.code(offline.swipe(CARD)) is None


def test_a_reload_keeps_sessions_and_state(offline: House) -> None:
    offline.swipe(CARD)
    offline.reload(window=7)
    assert offline.state is State.OFFLINE
    assert offline.site.sessions.on("copier-1") is not None
