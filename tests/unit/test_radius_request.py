"""Who is asking and how: RFC 2865 section 4.1, and radius.md on what is never granted offline."""

from __future__ import annotations

import pytest

from protocols.errors import Malformed
from protocols.radius.packet import Attributes, Packet, Type, vendor_attribute
from protocols.radius.request import AccessRequest, Method, read
from protocols.radius.secrets import hide_password

SECRET = b"s3cret"
AUTHENTICATOR = bytes(range(16))


def asked(*attributes: tuple[int, bytes]) -> AccessRequest:
    return read(Packet(1, 0, AUTHENTICATOR, attributes), SECRET)


def hidden(password: bytes) -> tuple[int, bytes]:
    return Type.USER_PASSWORD, hide_password(password, AUTHENTICATOR, SECRET)


CARD = (Type.USER_NAME, b"04A1B2C3")


@pytest.mark.parametrize("more", [(), (hidden(b""),)])
def test_no_password_and_an_empty_one_are_no_credential(more: Attributes) -> None:
    read_request = asked(CARD, *more)
    assert (read_request.user_name, read_request.method, read_request.password) == ("04A1B2C3", Method.NONE, None)


def test_a_password_is_told_but_not_shown() -> None:
    request = asked(CARD, hidden(b"4711"), (Type.STATE, b"st"), vendor_attribute(32473, 11, b"\0\0\0\2"))
    assert (request.method, request.password, request.state, request.unlock_scope) == ("password", b"4711", b"st", 2)
    assert "4711" not in repr(request)


@pytest.mark.parametrize(
    ("credential", "method"),
    [
        ((Type.CHAP_PASSWORD, bytes(17)), "chap"),
        ((Type.ARAP_PASSWORD, bytes(16)), "chap"),
        ((Type.DIGEST_RESPONSE, b"0" * 32), "chap"),
        (vendor_attribute(311, 1, bytes(50)), "mschap"),
        (vendor_attribute(311, 25, bytes(50)), "mschap"),
        ((Type.EAP_MESSAGE, b"\2\0\0\5\1"), "eap"),
    ],
)
def test_a_request_with_any_other_credential_is_never_a_bare_card(credential: tuple[int, bytes], method: str) -> None:
    assert asked(CARD, hidden(b""), credential).method == method


def test_what_tells_a_switch_from_a_copier_is_read() -> None:
    request = asked(
        CARD,
        (Type.SERVICE_TYPE, b"\0\0\0\x0a"),
        (Type.NAS_PORT_TYPE, b"\0\0\0\x0f"),
        (Type.NAS_IDENTIFIER, b"switch"),
        (Type.CALLING_STATION_ID, b"00-11-22-33-44-55"),
    )
    assert (request.service_type, request.nas_port_type, request.nas_identifier) == (10, 15, "switch")
    assert request.calling_station == "00-11-22-33-44-55"


def test_addresses_are_ipv4_if_given_else_ipv6() -> None:
    four, six = (Type.NAS_IP_ADDRESS, bytes((10, 0, 0, 1))), (Type.NAS_IPV6_ADDRESS, bytes(15) + b"\1")
    assert asked(six, four).nas_address == "10.0.0.1"
    assert asked(six).nas_address == "::1"
    assert asked().nas_address is None


def test_an_absent_name_is_empty_and_a_broken_one_is_no_card_number() -> None:
    assert asked().user_name == ""
    assert asked((Type.USER_NAME, b"\xff04A1")).user_name == "\ufffd04A1"


@pytest.mark.parametrize(
    "broken",
    [
        (Type.USER_PASSWORD, b"clear"),
        (Type.SERVICE_TYPE, b"\0"),
        (Type.NAS_PORT_TYPE, b""),
        (Type.NAS_IP_ADDRESS, bytes(5)),
        (Type.NAS_IPV6_ADDRESS, bytes(4)),
        (26, b"\0\0\x01\x37\x01\x99"),
        vendor_attribute(32473, 11, b"\1"),
    ],
)
def test_what_cannot_be_read_is_not_judged(broken: tuple[int, bytes]) -> None:
    with pytest.raises(Malformed):
        asked(CARD, broken)


def test_the_unlock_scope_is_read_under_the_configured_vendor() -> None:
    packet = Packet(1, 0, AUTHENTICATOR, (vendor_attribute(99, 11, b"\0\0\0\1"),))
    assert read(packet, SECRET).unlock_scope is None
    assert read(packet, SECRET, vendor_id=99).unlock_scope == 1
