"""Who is let in while OFFLINE: each row of that table of offline-mode.md, and their order."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from appliance.config import ClientConfig, Secret
from protocols.radius.packet import Code, Type
from proxy.admission import CARD_REFUSED_LINE, CARD_UNKNOWN_LINE, METHOD_LINE, OFFLINE_LINE
from proxy.link import State
from tests.flows.house import COPIER, House

Make = Callable[..., House]

CARD = "0A1B2C3D"
DAY = 86_400


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


EAP = (Type.EAP_MESSAGE, b"\x02\x00\x00\x0d\x010A1B2C3D")
CHAP = (Type.CHAP_PASSWORD, bytes(17))
FRAMED = (Type.SERVICE_TYPE, number(2))


@pytest.fixture
def make_offline(make_house: Make) -> Make:
    """Makes a house whose server is gone."""

    def make(**how: Any) -> House:
        house = make_house(**how)
        house.move(State.OFFLINE)
        return house

    return make


def last_login(house: House) -> tuple[str, str, str]:
    outcome, decided_by, reason = house.rows("SELECT outcome, decided_by, reason FROM logins ORDER BY seq DESC")[0]
    return outcome, decided_by, reason


def go_away(house: House) -> None:
    house.server_up = False
    house.until(State.OFFLINE)


# Row by row


def test_a_card_is_granted_by_default(offline: House) -> None:
    packet = offline.swipe("DEADBEEF")
    assert offline.code(packet) == Code.ACCESS_ACCEPT
    assert offline.line(packet) == OFFLINE_LINE
    assert last_login(offline) == ("granted", "locum", "any-card")


def test_where_offline_mode_is_disabled_nobody_answers(make_offline: Make) -> None:
    house = make_offline(policy={"enabled": False})
    packet = house.swipe(CARD)
    house.pass_time(3)
    assert house.code(packet) is None
    assert last_login(house)[0] == "unavailable"


def test_offline_mode_may_be_disabled_for_one_device(make_offline: Make) -> None:
    house = make_offline(devices={"copier-2": {"enabled": False}})
    assert house.code(house.swipe(CARD, device="copier-2")) is None
    assert house.code(house.swipe(CARD, device="copier-1")) == Code.ACCESS_ACCEPT


@pytest.mark.parametrize("service", [2, 4, 6, 7, 9, 10, 11])
def test_framed_administrative_prompt_and_call_check_services_are_no_person(offline: House, service: int) -> None:
    assert offline.code(offline.swipe(CARD, (Type.SERVICE_TYPE, number(service)))) is None
    assert last_login(offline)[0] == "unavailable"


@pytest.mark.parametrize("service", [1, 8])
def test_a_login_or_authenticate_only_service_is_a_person(offline: House, service: int) -> None:
    assert offline.code(offline.swipe(CARD, (Type.SERVICE_TYPE, number(service)))) == Code.ACCESS_ACCEPT


@pytest.mark.parametrize("port", [15, 19])
def test_an_ethernet_or_wireless_port_is_no_person(offline: House, port: int) -> None:
    assert offline.code(offline.swipe(CARD, (Type.NAS_PORT_TYPE, number(port)))) is None
    assert last_login(offline)[0] == "unavailable"


@pytest.mark.parametrize("port", [0, 5])
def test_an_asynchronous_or_virtual_port_is_a_person(offline: House, port: int) -> None:
    assert offline.code(offline.swipe(CARD, (Type.NAS_PORT_TYPE, number(port)))) == Code.ACCESS_ACCEPT


def test_eap_is_never_granted(offline: House) -> None:
    assert offline.code(offline.swipe(CARD, EAP)) is None
    assert last_login(offline) == ("unavailable", "locum", "EAP")


def test_only_the_role_copier_is_let_in(make_offline: Make) -> None:
    house = make_offline(role="print-release")
    assert house.code(house.swipe(CARD)) is None
    assert last_login(house)[0] == "unavailable"


def test_the_role_is_that_of_the_narrowest_network(make_offline: Make) -> None:
    switch = ClientConfig(ip_network("10.7.0.32/32"), Secret(COPIER), "switch")
    house = make_offline(clients=(switch,))
    assert house.code(house.swipe(CARD, host=32)) is None
    assert house.code(house.swipe(CARD, host=31)) == Code.ACCESS_ACCEPT


def test_a_device_that_is_pinned_to_another_address_is_not_let_in(make_offline: Make) -> None:
    house = make_offline(pins={"copier-1": "10.7.0.31"})
    assert house.code(house.swipe(CARD, host=32)) is None
    assert "pinned" in last_login(house)[2]
    assert house.code(house.swipe(CARD, host=31)) == Code.ACCESS_ACCEPT


@pytest.mark.parametrize("name", ["jsmith", "0A1", "0" * 33, "0A1B2C3G", " 0A1B2C3D", "0A1B2C3D\n", ""])
def test_what_is_no_card_number_is_refused_with_words(offline: House, name: str) -> None:
    packet = offline.swipe(name)
    assert offline.code(packet) == Code.ACCESS_REJECT
    assert offline.line(packet) == METHOD_LINE


def test_a_password_is_no_swipe_card(offline: House) -> None:
    packet = offline.swipe(CARD, password=b"1234")
    assert offline.code(packet) == Code.ACCESS_REJECT
    assert offline.line(packet) == METHOD_LINE


def test_chap_is_no_swipe_card(offline: House) -> None:
    assert offline.line(offline.swipe(CARD, CHAP)) == METHOD_LINE


def test_an_empty_password_is_a_swipe_card(offline: House) -> None:
    assert offline.code(offline.swipe(CARD, password=b"")) == Code.ACCESS_ACCEPT


@pytest.mark.parametrize("how", ["password", "chap"])
def test_a_client_may_have_its_passwords_ignored(make_offline: Make, how: str) -> None:
    house = make_offline(ignore_password=True)
    packet = house.swipe(CARD, password=b"1234") if how == "password" else house.swipe(CARD, CHAP)
    assert house.code(packet) == Code.ACCESS_ACCEPT


def test_eap_is_not_let_in_where_passwords_are_ignored(make_offline: Make) -> None:
    house = make_offline(ignore_password=True)
    assert house.code(house.swipe(CARD, EAP)) is None


def test_the_card_pattern_may_be_another(make_offline: Make) -> None:
    house = make_offline(policy={"card_pattern": "[0-9]{3}"})
    assert house.code(house.swipe("123")) == Code.ACCESS_ACCEPT
    assert house.line(house.swipe(CARD)) == METHOD_LINE


def test_the_card_pattern_may_be_another_for_one_device(make_offline: Make) -> None:
    house = make_offline(devices={"copier-2": {"card_pattern": "[0-9]{3}"}})
    assert house.code(house.swipe("123", device="copier-2")) == Code.ACCESS_ACCEPT
    assert house.line(house.swipe("123", device="copier-1")) == METHOD_LINE


# Card memory


def test_known_cards_lets_in_who_has_logged_in_online(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    assert house.line(house.swipe(CARD)) == "welcome"
    go_away(house)
    assert house.code(house.swipe(CARD)) == Code.ACCESS_ACCEPT
    packet = house.swipe("DEADBEEF")
    assert house.code(packet) == Code.ACCESS_REJECT
    assert house.line(packet) == CARD_UNKNOWN_LINE


def test_known_cards_forgets_after_card_memory(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    house.swipe(CARD)
    go_away(house)
    house.wall += 30 * DAY * 1000 - 60_000
    assert house.code(house.swipe(CARD)) == Code.ACCESS_ACCEPT
    house.wall += 120_000
    assert house.line(house.swipe(CARD)) == CARD_UNKNOWN_LINE


def test_an_offline_grant_teaches_nothing(make_house: Make) -> None:
    house = make_house()
    go_away(house)
    house.swipe("DEADBEEF")
    house.reload(policy={"admission": "known-cards"})
    assert house.line(house.swipe("DEADBEEF")) == CARD_UNKNOWN_LINE


def test_card_memory_outlives_a_restart(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    house.swipe(CARD)
    go_away(house)
    house.restart(down_for=10)
    assert house.code(house.swipe(CARD)) == Code.ACCESS_ACCEPT


def test_a_user_with_a_password_teaches_no_card(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    house.swipe(CARD, password=b"1234")
    go_away(house)
    assert house.line(house.swipe(CARD)) == CARD_UNKNOWN_LINE


def test_who_was_refused_last_is_refused(make_house: Make) -> None:
    house = make_house()
    house.swipe("DEADBEEF")
    go_away(house)
    packet = house.swipe("DEADBEEF")
    assert house.code(packet) == Code.ACCESS_REJECT
    assert house.line(packet) == CARD_REFUSED_LINE


def test_the_servers_last_word_counts(make_house: Make) -> None:
    house = make_house()
    house.swipe("DEADBEEF")
    house.granted.add(b"DEADBEEF")
    house.pass_time(11)
    house.swipe("DEADBEEF")
    go_away(house)
    assert house.code(house.swipe("DEADBEEF")) == Code.ACCESS_ACCEPT


def test_refuse_known_bad_may_be_switched_off(make_house: Make) -> None:
    house = make_house(policy={"refuse_known_bad": False})
    house.swipe("DEADBEEF")
    go_away(house)
    assert house.code(house.swipe("DEADBEEF")) == Code.ACCESS_ACCEPT


def test_known_and_refused_since_is_refused_with_known_cards_too(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    house.swipe(CARD)
    house.granted.clear()
    house.pass_time(11)
    house.swipe(CARD)
    go_away(house)
    assert house.line(house.swipe(CARD)) == CARD_REFUSED_LINE


def test_a_challenge_is_no_word_on_a_card(make_house: Make) -> None:
    house = make_house()
    house.silent_for.add(b"DEADBEEF")
    house.swipe("DEADBEEF")
    house.late_answer(house.logins_at_server()[-1], Code.ACCESS_CHALLENGE)
    go_away(house)
    assert house.code(house.swipe("DEADBEEF")) == Code.ACCESS_ACCEPT


def test_leading_zeros_count(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    house.swipe("00112233")
    go_away(house)
    assert house.code(house.swipe("00112233")) == Code.ACCESS_ACCEPT
    assert house.line(house.swipe("112233")) == CARD_UNKNOWN_LINE
    assert house.line(house.swipe("000112233")) == CARD_UNKNOWN_LINE


def test_upper_and_lower_case_are_the_same_card(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    house.swipe(CARD)
    go_away(house)
    assert house.code(house.swipe(CARD.lower())) == Code.ACCESS_ACCEPT
    assert house.rows("SELECT card FROM logins_full WHERE decided_by = 'locum'") == [(CARD,)]


# The order of the checks


def test_the_checks_come_in_their_order(make_house: Make) -> None:
    house = make_house(
        policy={"admission": "known-cards"}, devices={"copier-2": {"enabled": False}}, pins={"copier-3": "10.7.0.33"}
    )
    house.swipe("DEADBEEF")
    go_away(house)
    disabled_and_no_person = house.swipe("jsmith", FRAMED, device="copier-2")
    assert house.code(disabled_and_no_person) is None
    assert "disabled" in last_login(house)[2]
    no_person_and_no_card = house.swipe("jsmith", FRAMED)
    assert house.code(no_person_and_no_card) is None
    assert "Framed" in last_login(house)[2]
    pinned_elsewhere_and_no_card = house.swipe("jsmith", device="copier-3")
    assert house.code(pinned_elsewhere_and_no_card) is None
    no_card_and_unknown = house.swipe("jsmith")
    assert house.line(no_card_and_unknown) == METHOD_LINE
    unknown_and_known_bad = house.swipe("DEADBEEF")
    assert house.line(unknown_and_known_bad) == CARD_UNKNOWN_LINE


def test_no_reject_ever_says_that_the_server_is_away(offline: House) -> None:
    for name in (CARD, "DEADBEEF", "jsmith"):
        offline.swipe(name)
    reasons = {reason for _, reason in offline.rows("SELECT outcome, reason FROM logins WHERE outcome = 'refused'")}
    assert reasons == {"no swipe card"}


def test_a_card_is_known_from_the_moment_the_server_said_so(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"}, delay=0)
    house.holding = True
    house.swipe(CARD)
    house.server_up = False
    house.until(State.OFFLINE)
    packet = house.swipe(CARD)
    house.sync()
    assert house.code(packet) == Code.ACCESS_ACCEPT


def test_framed_protocols_and_two_names_are_no_person(offline: House) -> None:
    framed = offline.swipe(CARD, (Type.FRAMED_PROTOCOL, (1).to_bytes(4, "big")))
    twice = offline.swipe(CARD, (Type.USER_NAME, b"BEEF0001"))
    offline.pass_time(1)
    assert offline.answers(framed) == []
    assert offline.answers(twice) == []


# Locks and limits in that order


def test_the_lock_comes_after_what_is_no_person_and_before_what_is_no_card(make_house: Make) -> None:
    house = make_house(
        policy={"environment": "education", "admission": "known-cards", "max_sessions_per_card": 1},
        devices={"copier-2": {"enabled": False}},
    )
    house.swipe("DEADBEEF")
    go_away(house)
    disabled_and_locked = house.swipe(CARD, device="copier-2")
    assert house.code(disabled_and_locked) is None
    assert "disabled" in last_login(house)[2]
    no_person_and_locked = house.swipe(CARD, FRAMED)
    assert house.code(no_person_and_locked) is None
    assert "Framed" in last_login(house)[2]
    for locked_and_more in ("jsmith", "DEADBEEF", "BEEF0001"):
        assert house.code(house.swipe(locked_and_more)) == Code.ACCESS_CHALLENGE
        assert last_login(house)[0] == "locked"


def test_the_limits_come_last(make_house: Make) -> None:
    house = make_house(policy={"admission": "known-cards"})
    for card in (CARD, "DEADBEEF"):
        house.granted.add(card.encode())
        house.swipe(card)
    house.granted.discard(b"DEADBEEF")
    house.pass_time(11)
    house.swipe("DEADBEEF")
    go_away(house)
    house.reload(policy={"admission": "known-cards", "max_sessions_per_card": 0, "max_outage_hours": 0})
    assert house.line(house.swipe("jsmith")) == METHOD_LINE
    assert house.line(house.swipe("BEEF0001")) == CARD_UNKNOWN_LINE
    assert house.line(house.swipe("DEADBEEF")) == CARD_REFUSED_LINE
    assert house.line(house.swipe(CARD)) == "Offline: the limit of 0 sessions for a card is reached"
    assert last_login(house)[:2] == ("refused", "locum")


def test_the_checks_after_the_lock_hold_on_an_unlocked_device_too(make_house: Make) -> None:
    house = make_house(policy={"environment": "education", "admission": "known-cards", "max_sessions_per_card": 1})
    house.swipe(CARD)
    go_away(house)
    house.unlock(scope=2)
    assert house.line(house.swipe("jsmith")) == METHOD_LINE
    assert house.line(house.swipe("BEEF0001")) == CARD_UNKNOWN_LINE
    assert "limit of 1 sessions" in house.line(house.swipe(CARD))
