"""The upstream's state, row by row: when contact has failed, when it is steady, what the delay does."""

from __future__ import annotations

from collections.abc import Callable

from protocols.radius.packet import Code, Type
from protocols.radius.secrets import hide_password
from proxy.dialects.radius.host import ProbeLogin
from proxy.link import State
from tests.flows.house import HERE, SERVER, THERE, House

Make = Callable[..., House]


def test_contact_fails_when_a_request_and_its_half_time_probe_are_both_unanswered(house: House) -> None:
    house.server_up = False
    house.swipe("0A1B2C3D")
    house.pass_time(0.9)
    assert house.state is State.ONLINE
    house.pass_time(0.2)
    assert house.state is State.GRACE


def test_retransmissions_never_move_the_clock(house: House) -> None:
    house.server_up = False
    packet = house.swipe("0A1B2C3D")
    for _ in range(5):
        house.pass_time(0.2)
        house.swipe("", packet=packet)
    house.pass_time(0.1)
    assert house.state is State.GRACE


def test_one_request_that_the_server_discards_is_no_outage(house: House) -> None:
    house.silent_for = {b"0A1B2C3D"}
    packet = house.swipe("0A1B2C3D")
    for _ in range(8):
        house.pass_time(0.5)
        house.swipe("", packet=packet)
    assert house.state is State.ONLINE


def test_a_refusal_counts_once_a_second_probe_sent_at_once_is_refused_too(house: House) -> None:
    house.server_up, house.refusing = False, True
    house.swipe("0A1B2C3D")
    assert house.state is State.GRACE
    assert "refused" in house.upstream.link.cause


def test_a_single_refusal_is_forgotten_when_the_probe_is_answered(house: House) -> None:
    house.refusing = True
    house.silent_for = {b"0A1B2C3D"}
    channel_count = len(house.to_server)
    house.swipe("0A1B2C3D")
    assert len(house.to_server) > channel_count
    house.refusing = False
    house.until(State.ONLINE, 5)


def test_what_anyone_could_have_sent_is_no_contact(house: House) -> None:
    house.server_up = False
    house.swipe("0A1B2C3D")
    (login,) = house.logins_at_server()
    forged = bytes((Code.ACCESS_ACCEPT, login.packet.identifier, 0, 20)) + bytes(16)
    for _ in range(11):
        house._from_server(login.channel, forged)
        house.pass_time(0.1)
    assert house.state is State.GRACE
    assert house.tally.counts["bad-authenticator"] == 11


def test_a_reject_is_a_sign_of_life(house: House) -> None:
    for _ in range(30):
        house.swipe("DEAD0000")
        house.pass_time(0.5)
    assert house.state is State.ONLINE


def test_the_delay_runs_from_the_first_failed_contact(house: House) -> None:
    house.server_up = False
    house.until(State.GRACE)
    house.pass_time(1.9)
    assert house.state is State.GRACE
    house.pass_time(0.15)
    assert house.state is State.OFFLINE


def test_with_no_delay_offline_begins_at_the_first_failed_contact(make_house: Make) -> None:
    house = make_house(delay=0)
    house.server_up = False
    packet = house.swipe("0A1B2C3D")
    house.pass_time(1.1)
    assert house.state is State.OFFLINE
    assert house.code(packet) == Code.ACCESS_ACCEPT


def test_steady_contact_within_the_delay_is_no_outage(make_house: Make) -> None:
    house = make_house(delay=30)
    house.server_up = False
    house.until(State.GRACE)
    house.server_up = True
    house.pass_time(3.0)
    assert house.state is State.ONLINE
    assert house.count("SELECT count(*) FROM outage_events WHERE step = 'offline'") == 0


def test_steady_is_three_contacts_in_a_row_over_two_seconds(offline: House) -> None:
    offline.server_up = True
    offline.pass_time(1.9)
    assert offline.state is State.OFFLINE
    offline.pass_time(1.1)
    assert offline.state is State.ONLINE


def test_a_flapping_link_does_not_flip_every_copier(offline: House) -> None:
    for _ in range(6):
        offline.server_up = True
        offline.pass_time(1.0)
        offline.server_up = False
        offline.pass_time(1.5)
    assert offline.state is State.OFFLINE
    assert offline.count("SELECT count(*) FROM outage_events WHERE step = 'recovered'") == 0


def test_a_server_that_was_never_heard_is_unproven_and_opens_no_copier(make_house: Make) -> None:
    house = make_house()
    house.close()
    house.folder = house.folder / "fresh"
    house.folder.mkdir()
    house.server_up = False
    house.start()
    house.pass_time(30)
    packet = house.swipe("0A1B2C3D")
    house.pass_time(30)
    assert house.state is State.GRACE
    assert not house.upstream.link.proven
    assert house.code(packet) is None


def test_contact_lost_while_recovering_is_offline_again_at_once(offline: House) -> None:
    for number in range(3):
        offline.account(session="s", job=str(number))
    offline.accounting_up = False
    offline.server_up = True
    offline.until(State.RECOVERING)
    offline.server_up = False
    offline.until(State.OFFLINE, 1.6)
    steps = [step for (step,) in offline.rows("SELECT step FROM outage_events ORDER BY seq")]
    assert steps[-3:] == ["recovered", "failed", "offline"]


def test_probes_come_each_ten_seconds_while_quiet_and_twice_a_second_else(house: House) -> None:
    house.to_server.clear()
    house.pass_time(30.5)
    probes = [sent for sent in house.to_server if sent.port == "auth"]
    assert len(probes) == 3
    house.server_up = False
    house.until(State.OFFLINE)
    house.to_server.clear()
    house.pass_time(10)
    assert 19 <= len([sent for sent in house.to_server if sent.port == "auth"]) <= 21


def test_a_test_login_is_sent_each_ten_seconds_where_status_server_is_not_answered(make_house: Make) -> None:
    house = make_house(test_login=ProbeLogin(b"probe", b"secret"))
    assert next(iter(house.upstream.hosts)).auth.answers_status
    house.close()
    house.folder = house.folder / "fresh"
    house.folder.mkdir()
    house.answers_status = False
    house.granted.add(b"probe")
    house.start()
    house.pass_time(1)
    house.to_server.clear()
    house.pass_time(60)
    logins = house.logins_at_server()
    assert 5 <= len(logins) <= 7
    assert house.state is State.ONLINE
    assert house.upstream.accounting_well
    hidden = logins[0].packet.get(Type.USER_PASSWORD)
    assert hidden == hide_password(b"secret", logins[0].packet.authenticator, SERVER)


def test_the_second_address_serves_when_the_first_is_silent(make_house: Make) -> None:
    house = make_house(addresses=(HERE, THERE), delay=0)
    house.down = {HERE}
    packet = house.swipe("0A1B2C3D")
    house.pass_time(1.5)
    assert house.state is State.ONLINE
    assert house.code(packet) == Code.ACCESS_ACCEPT
    assert house.line(packet) == "welcome"
    house.down = {HERE, THERE}
    house.until(State.OFFLINE, 12)


def test_accounting_may_die_alone_and_jobs_are_kept_meanwhile(house: House) -> None:
    house.accounting_up = False
    first = house.account(job="1")
    house.pass_time(1.2)
    assert house.code(first) == Code.ACCOUNTING_RESPONSE
    assert house.state is State.ONLINE
    while house.upstream.accounting_well:
        house.pass_time(0.05)
    second = house.account(job="2")
    assert house.code(second) == Code.ACCOUNTING_RESPONSE
    login = house.swipe("0A1B2C3D")
    assert house.line(login) == "welcome"
    house.accounting_up = True
    house.pass_time(6)
    assert house.upstream.accounting_well
    assert house.upstream.outbox.empty
    assert len(house.book) == 2


def test_a_suspended_process_blames_nobody(house: House) -> None:
    house.server_up = False
    house.swipe("0A1B2C3D")
    house.now += 3600
    house.wall += 3_600_000
    house.server_up = True
    house.pass_time(0.2)
    assert house.state is State.ONLINE


def test_an_unsigned_answer_is_dropped_once_the_server_has_signed_one(house: House) -> None:
    house.server_signs = False
    packet = house.swipe("0A1B2C3D")
    assert house.code(packet) is None
    assert house.tally.counts["no-message-authenticator"] == 1


def test_a_server_that_never_signs_is_used_with_a_warning(make_house: Make) -> None:
    house = make_house()
    house.close()
    house.folder = house.folder / "fresh"
    house.folder.mkdir()
    house.server_signs = False
    house.start()
    packet = house.swipe("0A1B2C3D")
    assert house.code(packet) == Code.ACCESS_ACCEPT
    assert any("signs no answers" in tell.text for tell in house.told)


def test_states_and_causes_are_in_the_ledger(offline: House) -> None:
    offline.server_up = True
    offline.until(State.ONLINE)
    steps = offline.rows("SELECT step, state, cause FROM outage_events ORDER BY seq")
    assert [step for step, _, _ in steps] == ["failed", "offline", "recovered", "drained"]
    assert "no answer from 192.0.2.1 port 1812 in 1 s" in steps[0][2]


def test_silence_while_recovering_is_noticed_with_the_usual_timeout_too(make_house: Make) -> None:
    house = make_house(timeout=3.0)
    house.server_up = False
    house.until(State.OFFLINE)
    house.silent_for_session.add(b"stuck")
    house.account(session="stuck")
    house.server_up = True
    house.until(State.RECOVERING)
    house.pass_time(1)
    house.server_up = False
    house.until(State.GRACE, 4.5)


def test_one_living_address_of_two_is_enough_to_come_back(make_house: Make) -> None:
    house = make_house(addresses=(HERE, THERE))
    house.server_up = False
    house.until(State.OFFLINE, 30)
    house.server_up, house.down, house.refusing_at = True, {THERE}, {THERE}
    house.until(State.ONLINE, 5)


def test_a_server_that_is_heard_for_the_first_time_opens_no_copier(make_house: Make) -> None:
    house = make_house(delay=1.0)
    house.server_up = False
    house.fresh()
    house.pass_time(10)
    assert house.state is State.GRACE
    house.server_up = True
    house.until(State.ONLINE, 5)
    assert house.count("SELECT count(*) FROM outage_events WHERE step = 'offline'") == 0


def test_an_address_that_has_just_come_back_takes_over_from_one_that_refuses(make_house: Make) -> None:
    house = make_house(addresses=(HERE, THERE), delay=0)
    house.down, house.refusing_at = {THERE}, {THERE}
    house.pass_time(15.25)
    assert house.state is State.ONLINE
    house.down, house.refusing_at = {HERE}, {HERE}
    packet = house.swipe("BAD0BAD0")
    house.pass_time(0.2)
    assert house.state is State.ONLINE
    assert house.code(packet) == Code.ACCESS_REJECT
    house.down = house.refusing_at = {HERE, THERE}
    house.swipe("0A1B2C3D")
    assert house.state is State.OFFLINE


def test_a_login_left_unanswered_is_no_outage_where_only_test_logins_are_answered(make_house: Make) -> None:
    house = make_house()
    house.answers_status = False
    house.granted.add(b"probe")
    house.fresh(test_login=ProbeLogin(b"probe", b"secret"))
    house.pass_time(2)
    house.silent_for = {b"0A1B2C3D"}
    packet = house.swipe("0A1B2C3D")
    for _ in range(6):
        house.pass_time(1)
        house.swipe("", packet=packet)
    assert house.state is State.ONLINE


def test_a_server_that_never_answered_a_status_server_is_not_away_because_it_is_quiet(make_house: Make) -> None:
    house = make_house()
    house.answers_status = False
    house.fresh()
    house.swipe("0A1B2C3D")
    house.account()
    house.pass_time(120)
    assert house.state is State.ONLINE
    assert house.upstream.accounting_well
    house.server_up = False
    house.swipe("0A1B2C3D")
    house.until(State.OFFLINE, 5)
    house.server_up = True
    for _ in range(30):
        house.swipe("0A1B2C3D")
        house.pass_time(1)
    assert house.state is State.ONLINE
