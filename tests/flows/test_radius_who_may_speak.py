"""RADIUS: who may speak, with which secret, and how devices are told apart."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

from appliance.config import ClientConfig, Secret
from protocols.radius.packet import Code, Type
from protocols.radius.secrets import (
    sign_request,
    verify_message_authenticator,
)
from proxy.dialects.radius.host import AUTH
from tests.flows.house import COPIER, House

Make = Callable[..., House]
CARD = "0A1B2C3D"
STATE_A = (Type.PROXY_STATE, b"first hop")


def test_status_server_is_answered_for_locum_itself(offline: House) -> None:
    for port, code in ((AUTH, Code.ACCESS_ACCEPT), ("acct", Code.ACCOUNTING_RESPONSE)):
        packet = sign_request(Code.STATUS_SERVER, 9, bytes(range(16)), (STATE_A,), COPIER)
        offline.to_devices.clear()
        offline.datagram(port, packet)
        (answer,) = offline.answers(packet)
        assert answer.code == code
        assert answer.get(Type.PROXY_STATE) == b"first hop"
        assert verify_message_authenticator(offline.to_devices[0][2], answer, COPIER, packet[4:20])
    assert offline.count("SELECT count(*) FROM logins") == 0


def test_an_unsigned_status_server_is_dropped(make_house: Make) -> None:
    house = make_house(signed=False)
    packet = bytes((Code.STATUS_SERVER, 1, 0, 20)) + bytes(16)
    for port in (AUTH, "acct"):
        house.datagram(port, packet)
    assert house.to_devices == []
    assert house.tally.counts["no-message-authenticator"] == 2


def test_a_request_of_locums_own_is_dropped(house: House) -> None:
    own = (Type.PROXY_STATE, house.upstream.proxy_state)
    house.swipe(CARD, own)
    house.account(own)
    assert house.to_devices == []
    assert house.tally.counts["loop"] == 2
    assert house.count("SELECT count(*) FROM jobs") == 0


def test_an_unknown_client_is_counted_and_told_once_a_minute(house: House) -> None:
    for _ in range(30):
        house.datagram(AUTH, bytes(20), "203.0.113.9")
        house.datagram(AUTH, bytes(20), "203.0.113.10")
    assert house.tally.counts["unknown-client"] == 60
    assert len([tell for tell in house.told if "203.0.113" in tell.text]) == 2
    house.pass_time(60.5)
    house.datagram(AUTH, bytes(20), "203.0.113.9")
    (again,) = [tell for tell in house.told if tell.context.get("more_since_last")]
    assert again.context["more_since_last"] == 29
    assert house.to_devices == []


def test_a_wrong_secret_is_counted_told_once_a_minute_and_never_answered(house: House) -> None:
    for number in range(5):
        packet = sign_request(1, number, bytes(range(16)), ((Type.USER_NAME, b"x"),), b"wrong")
        house.datagram(AUTH, packet)
    assert house.tally.counts["bad-message-authenticator"] == 5
    assert len(house.told) == 1
    assert house.to_devices == []


def test_each_client_has_its_own_secret(make_house: Make) -> None:
    house = make_house(clients=(ClientConfig(ip_network("10.8.0.0/24"), Secret(b"theirs")),))
    packet = sign_request(1, 1, bytes(range(16)), ((Type.USER_NAME, CARD.encode()),), b"theirs")
    house.datagram(AUTH, packet, "10.7.0.31")
    assert house.logins_at_server() == []
    house.datagram(AUTH, packet, "10.8.0.31")
    assert len(house.logins_at_server()) == 1


def test_devices_are_told_apart_by_identifier_then_address_then_source(offline: House) -> None:
    name = (Type.USER_NAME, CARD.encode())
    address4 = (Type.NAS_IP_ADDRESS, bytes((10, 9, 8, 7)))
    address6 = (Type.NAS_IPV6_ADDRESS, bytes(15) + b"\1")
    for number, attributes in enumerate(
        [(name, (Type.NAS_IDENTIFIER, b"km-1"), address4), (name, address4, address6), (name, address6), (name,)]
    ):
        offline.datagram(AUTH, sign_request(1, number, bytes((number,)) * 16, attributes, COPIER))
    devices = [device for (device,) in offline.rows("SELECT device FROM logins ORDER BY seq")]
    assert devices == ["km-1", "10.9.8.7", "::1", "10.7.0.31"]
