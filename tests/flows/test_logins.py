"""Logins: relayed unchanged, repeats answered from the earlier answer, kept before they are granted, late answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocols.radius.packet import Attributes, Code, Type, parse, vendor_attribute
from protocols.radius.secrets import (
    hide_password,
    hide_salted,
    reveal_password,
    reveal_salted,
    sign_request,
    verify_message_authenticator,
)
from proxy.admission import OFFLINE_LINE
from proxy.dialects.radius.host import AUTH
from proxy.link import State
from tests.flows.house import COPIER, SERVER, House
from tests.flows.packets import attributes_of

Make = Callable[..., House]
CARD = "0A1B2C3D"
STATE_A = (Type.PROXY_STATE, b"first hop")
STATE_B = (Type.PROXY_STATE, b"second hop")
EAP = (Type.EAP_MESSAGE, b"\x02\x00\x00\x0d\x010A1B2C3D")


def unsigned(house: House, identifier: int, attributes: Attributes, host: int = 31) -> bytes:
    """An Access-Request without Message-Authenticator."""
    authenticator = house.moment().random(16, "unsigned")
    body = b"".join(bytes((number, len(value) + 2)) + value for number, value in attributes)
    packet = bytes((1, identifier)) + (20 + len(body)).to_bytes(2, "big") + authenticator + body
    house.datagram(AUTH, packet, f"10.7.0.{host}")
    return packet


# Relaying


def test_the_servers_attributes_go_back_unchanged_and_in_order(house: House) -> None:
    house.server_adds = (
        (Type.CLASS, b"server's own"),
        (Type.REPLY_MESSAGE, b"one"),
        (Type.SESSION_TIMEOUT, bytes(4)),
        (Type.REPLY_MESSAGE, b"two"),
        vendor_attribute(9, 1, b"anything"),
    )
    packet = house.swipe(CARD)
    assert attributes_of(house, packet) == house.server_adds


def test_what_the_device_sent_goes_to_the_server_unchanged_and_in_order(house: House) -> None:
    sent = ((Type.CALLING_STATION_ID, b"aa"), vendor_attribute(9, 1, b"x"), (Type.CALLING_STATION_ID, b"bb"), STATE_A)
    house.swipe(CARD, *sent)
    (login,) = house.logins_at_server()
    attributes = login.packet.attributes
    assert attributes[0][0] == Type.MESSAGE_AUTHENTICATOR
    assert attributes[1:-1] == ((Type.USER_NAME, CARD.encode()), (Type.NAS_IDENTIFIER, b"copier-1"), *sent)
    assert attributes[-1][0] == Type.PROXY_STATE


def test_the_request_authenticator_stays_the_devices(house: House) -> None:
    packet = house.swipe(CARD)
    assert house.logins_at_server()[0].packet.authenticator == parse(packet).authenticator


def test_the_devices_proxy_states_come_back_and_locums_own_does_not(house: House) -> None:
    packet = house.swipe(CARD, STATE_A, STATE_B)
    assert [value for number, value in attributes_of(house, packet) if number == Type.PROXY_STATE] == [
        b"first hop",
        b"second hop",
    ]


@pytest.mark.parametrize("name", [CARD, "jsmith"])
def test_proxy_states_come_back_from_locum_too(offline: House, name: str) -> None:
    packet = offline.swipe(name, STATE_A, STATE_B)
    assert attributes_of(offline, packet)[-2:] == (STATE_A, STATE_B)


def test_the_password_is_encrypted_anew_under_the_servers_secret(house: House) -> None:
    house.swipe("jsmith", password=b"correct horse battery staple")
    (login,) = house.logins_at_server()
    hidden = login.packet.get(Type.USER_PASSWORD)
    assert hidden is not None
    assert reveal_password(hidden, login.packet.authenticator, SERVER) == b"correct horse battery staple"
    assert hidden != hide_password(b"correct horse battery staple", login.packet.authenticator, COPIER)


def test_a_tunnel_password_comes_back_under_the_devices_secret(house: House) -> None:
    house.silent_for.add(CARD.encode())
    packet = house.swipe(CARD)
    (login,) = house.logins_at_server()
    hidden = b"\0" + hide_salted(b"tunnel", b"\x80\x01", login.packet.authenticator, SERVER)
    house.late_answer(login, Code.ACCESS_ACCEPT, ((Type.TUNNEL_PASSWORD, hidden),))
    value = house.answers(packet)[0].get(Type.TUNNEL_PASSWORD)
    assert value is not None
    assert reveal_salted(value[1:], packet[4:20], COPIER) == b"tunnel"


@pytest.mark.parametrize("state", [State.ONLINE, State.OFFLINE])
def test_message_authenticator_is_mirrored(make_house: Make, state: State) -> None:
    house = make_house(signed=False)
    house.move(state)
    signed = house.swipe(CARD)
    plain = unsigned(house, 200, ((Type.USER_NAME, CARD.encode()), (Type.NAS_IDENTIFIER, b"copier-2")), host=32)
    _, with_one, data = house.to_devices[0]
    assert with_one.attributes[0][0] == Type.MESSAGE_AUTHENTICATOR
    assert verify_message_authenticator(data, with_one, COPIER, signed[4:20])
    (without,) = house.answers(plain)
    assert without.get(Type.MESSAGE_AUTHENTICATOR) is None
    assert without.code == Code.ACCESS_ACCEPT


def test_an_unsigned_login_is_dropped_by_default(house: House) -> None:
    packet = unsigned(house, 7, ((Type.USER_NAME, CARD.encode()),))
    assert house.code(packet) is None
    assert house.logins_at_server() == []
    assert house.tally.counts["no-message-authenticator"] == 1


def test_unsigned_eap_is_dropped_even_where_signatures_are_not_required(make_house: Make) -> None:
    house = make_house(signed=False)
    unsigned(house, 7, ((Type.USER_NAME, CARD.encode()), EAP))
    assert house.logins_at_server() == []


def test_a_login_too_large_to_be_relayed_does_not_cost_the_next_ones(make_house: Make) -> None:
    house = make_house(signed=False)
    filling = [(Type.REPLY_MESSAGE, bytes(253)) for _ in range(15)]
    unsigned(house, 7, ((Type.USER_NAME, CARD.encode()), *filling, (Type.REPLY_MESSAGE, bytes(239))))
    assert house.logins_at_server() == []
    assert sum(house.tally.counts.values()) == 1
    packet = house.swipe(CARD)
    assert house.line(packet) == "welcome"


# Repeats of a request


def test_a_repeated_request_gets_the_same_answer_for_ten_seconds(house: House) -> None:
    packet = house.swipe(CARD)
    house.pass_time(9.5)
    house.swipe("", packet=packet)
    assert len(house.logins_at_server()) == 1
    assert len({data for _, _, data in house.to_devices}) == 1
    assert len(house.to_devices) == 2


def test_after_ten_seconds_it_is_a_new_request(house: House) -> None:
    packet = house.swipe(CARD)
    house.pass_time(10.5)
    house.swipe("", packet=packet)
    assert len(house.logins_at_server()) == 2


def test_another_source_port_or_authenticator_is_another_request(house: House) -> None:
    packet = house.swipe(CARD)
    house.datagram(AUTH, packet, "10.7.0.31", source=40001)
    again = sign_request(1, packet[1], bytes(range(16)), parse(packet).attributes[1:], COPIER)
    house.datagram(AUTH, again, "10.7.0.31")
    assert len(house.logins_at_server()) == 3


def test_a_repeat_while_the_server_thinks_is_a_retransmission_and_one_login(house: House) -> None:
    house.silent_for.add(CARD.encode())
    packet = house.swipe(CARD)
    house.pass_time(0.3)
    house.swipe("", packet=packet)
    first, second = house.logins_at_server()
    assert first.data == second.data
    assert first.channel == second.channel
    house.late_answer(first, Code.ACCESS_ACCEPT)
    assert len(house.answers(packet)) == 1
    assert house.count("SELECT count(*) FROM logins") == 1


def test_an_offline_grant_is_repeated_with_the_same_marks(offline: House) -> None:
    packet = offline.swipe(CARD)
    offline.pass_time(2)
    offline.swipe("", packet=packet)
    one, two = offline.answers(packet)
    assert one == two
    assert offline.count("SELECT count(*) FROM logins WHERE outcome = 'granted'") == 1


def test_a_login_never_granted_offline_is_relayed_when_it_comes_again_and_the_server_is_back(offline: House) -> None:
    packet = offline.swipe(CARD, EAP)
    assert offline.code(packet) is None
    offline.server_up = True
    while offline.state is not State.ONLINE:
        offline.pass_time(1)
        offline.swipe("", packet=packet)
    offline.swipe("", packet=packet)
    assert offline.code(packet) == Code.ACCESS_ACCEPT


# Commit before send


def test_an_offline_accept_leaves_only_after_its_grant_is_kept(offline: House) -> None:
    offline.holding = True
    packet = offline.swipe(CARD)
    assert offline.code(packet) is None
    offline.sync()
    assert offline.code(packet) == Code.ACCESS_ACCEPT


def test_a_repeat_while_the_grant_is_being_kept_is_one_grant(offline: House) -> None:
    offline.holding = True
    packet = offline.swipe(CARD)
    offline.swipe("", packet=packet)
    offline.sync()
    offline.sync()
    assert len(offline.answers(packet)) == 1
    assert offline.count("SELECT count(*) FROM logins WHERE outcome = 'granted'") == 1


def test_an_online_login_waits_for_no_disk(house: House) -> None:
    house.holding = True
    assert house.line(house.swipe(CARD)) == "welcome"


def test_a_grant_that_cannot_be_stored_is_not_given_and_said(offline: House) -> None:
    offline.disk_full = True
    packet = offline.swipe(CARD)
    assert offline.code(packet) is None
    assert any("could not be stored" in tell.text for tell in offline.told)
    assert offline.site.sessions.on("copier-1") is None


def test_a_grant_is_given_when_the_device_asks_again_and_there_is_room(offline: House) -> None:
    offline.disk_full = True
    packet = offline.swipe(CARD)
    offline.pass_time(3)
    offline.disk_full = False
    offline.swipe("", packet=packet)
    assert offline.code(packet) == Code.ACCESS_ACCEPT


# Offline is reached; late answers


def test_logins_in_flight_are_decided_when_offline_is_reached(house: House) -> None:
    house.server_up = False
    house.until(State.GRACE)
    packets = [house.swipe(CARD, device=f"c{n}", host=n) for n in range(5)]
    assert [house.code(packet) for packet in packets] == [None] * 5
    house.until(State.OFFLINE)
    assert [house.code(packet) for packet in packets] == [Code.ACCESS_ACCEPT] * 5


def test_a_login_that_nobody_answers_is_in_the_ledger(house: House) -> None:
    house.silent_for.add(CARD.encode())
    house.swipe(CARD)
    house.pass_time(11)
    assert house.rows("SELECT outcome, decided_by FROM logins") == [("unanswered", "nobody")]


def test_while_contacts_succeed_a_login_is_decided_after_answer_timeout(offline: House) -> None:
    offline.server_up = True
    offline.silent_for.add(CARD.encode())
    offline.pass_time(0.6)
    packet = offline.swipe(CARD)
    offline.pass_time(0.9)
    assert offline.code(packet) is None
    offline.pass_time(0.15)
    assert offline.line(packet) == OFFLINE_LINE


def test_a_late_answer_teaches_the_card_memory(offline: House) -> None:
    offline.server_up = True
    offline.silent_for.add(CARD.encode())
    offline.pass_time(0.6)
    packet = offline.swipe(CARD)
    offline.pass_time(1.1)
    offline.late_answer(offline.logins_at_server()[-1], Code.ACCESS_REJECT)
    assert len(offline.answers(packet)) == 1
    facts = offline.site.cards.facts(CARD)
    assert facts is not None
    assert not facts.last_word_granted
