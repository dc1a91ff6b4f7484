"""Packets that real access points and controllers sent, and captures of others."""

from __future__ import annotations

import pytest

from protocols.errors import Malformed, NotAuthentic, ProtocolError
from protocols.radius import accounting, request
from protocols.radius.packet import Code, Type, build, parse
from protocols.radius.secrets import (
    sign_accounting_request,
    verify_accounting_request,
    verify_message_authenticator,
    verify_response,
)
from tests.vectors.radius_inputs import NAS_SECRET, captured, captures, nas_packet


def test_a_controllers_accounting_request_is_authentic_and_read() -> None:
    datagram = nas_packet("cisco_accounting")
    packet = parse(datagram)
    verify_accounting_request(datagram, packet, NAS_SECRET)
    with pytest.raises(NotAuthentic):
        verify_accounting_request(datagram, packet, b"nearbuY")
    read = accounting.read(packet, accounting.default_mapping())
    assert read.status is accounting.Status.START
    assert read.user_name == "user_7C:C5:37:FF:F8:AF_134"
    assert read.session_id == "4fecc41e/7c:c5:37:ff:f8:af/9"
    assert (read.nas_identifier, read.nas_address) == ("Cisco 4400 (Anchor)", "10.0.3.4")
    assert (read.delay, read.job, read.problem) == (0, None, None)


def test_a_controllers_accounting_request_is_signed_the_same_by_us() -> None:
    datagram = nas_packet("cisco_accounting")
    packet = parse(datagram)
    assert sign_accounting_request(packet.identifier, packet.attributes, NAS_SECRET) == datagram


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("cisco_accounting", "cisco_accounting_response"), ("cisco_mac_auth", "cisco_mac_auth_reject")],
)
def test_recorded_answers_are_authentic(asked: str, answered: str) -> None:
    answer = nas_packet(answered)
    assert verify_response(answer, parse(answer), parse(nas_packet(asked)).authenticator, NAS_SECRET) is False


def test_an_access_points_login_has_its_password_vendor_attributes_and_message_authenticator() -> None:
    datagram = nas_packet("aruba_mac_auth")
    packet = parse(datagram)
    assert verify_message_authenticator(datagram, packet, NAS_SECRET) is True
    read = request.read(packet, NAS_SECRET)
    assert read.method is request.Method.PASSWORD
    assert read.password == read.user_name.encode()
    assert packet.vendor(14823)[0] == (5, b"muir-aruba-guest")


def test_a_controllers_mac_login_is_seen_to_be_one() -> None:
    read = request.read(parse(nas_packet("cisco_mac_auth")), NAS_SECRET)
    assert (read.service_type, read.nas_port_type, read.nas_identifier) == (10, 19, "cisco-2106")


def test_captured_datagrams_are_read_and_built_again_or_refused() -> None:
    seen = refused = 0
    for name in captures():
        for datagram in captured(name):
            seen += 1
            try:
                packet = parse(datagram)
            except ProtocolError:
                refused += 1
                continue
            length = int.from_bytes(datagram[2:4], "big")
            assert build(packet.code, packet.identifier, packet.authenticator, packet.attributes) == datagram[:length]
    print(f"{seen} captured datagrams, {refused} refused")
    assert (seen, refused) == (18, 2)


def test_a_captured_attribute_that_overruns_is_refused() -> None:
    for datagram in captured("radius_attr_asan.pcap"):
        with pytest.raises(Malformed):
            parse(datagram)


def test_a_captured_switch_login_is_eap_and_so_never_a_card() -> None:
    packets = [parse(datagram) for datagram in captured("RADIUS.pcap")]
    logins = [packet for packet in packets if packet.code == Code.ACCESS_REQUEST]
    assert logins
    for packet in logins:
        assert packet.get(Type.EAP_MESSAGE) is not None
        assert request.read(packet, b"any").method is request.Method.EAP


def test_captured_passwords_and_authenticators_fit_the_secret_they_were_made_with() -> None:
    # FreeRADIUS's usual one for tests: with it the passwords make sense.
    secret, asked, checked = b"testing123", b"", 0
    for datagram in captured("RADIUS-RFC4675.pcap"):
        packet = parse(datagram)
        if packet.code == Code.ACCESS_REQUEST:
            assert verify_message_authenticator(datagram, packet, secret) is True
            assert request.read(packet, secret).password == b"hello"
            asked = packet.authenticator
        else:
            verify_response(datagram, packet, asked, secret)
        checked += 1
    assert checked == 6


def test_a_captured_disconnect_request_was_signed_over_a_zero_authenticator() -> None:
    datagram = captured("RADIUS-RFC5176.pcap")[0]
    packet = parse(datagram)
    assert packet.code == Code.DISCONNECT_REQUEST
    assert verify_message_authenticator(datagram, packet, b"testing123") is True
    verify_accounting_request(datagram, packet, b"testing123")
