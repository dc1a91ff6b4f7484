"""What the shared secret does: RFC 2865 sections 3 and 5.2, 2866 section 3, 2868 section 3.5, 2869 section 5.14."""

from __future__ import annotations

import hashlib

import pytest

from protocols.errors import Malformed, NotAuthentic
from protocols.radius.packet import Attributes, Code, Packet, Type, build, encode, parse, vendor_attribute
from protocols.radius.secrets import (
    check_chap,
    hide_password,
    hide_salted,
    relayed_request,
    relayed_response,
    reveal_password,
    reveal_salted,
    sign_accounting_request,
    sign_request,
    sign_response,
    translate_request,
    translate_response,
    verify_accounting_request,
    verify_message_authenticator,
    verify_response,
)

SECRET = b"s3cret"
OTHER = b"another"
AUTHENTICATOR = bytes(range(16))
SALT = b"\x80\x01"
BOB: Attributes = ((Type.USER_NAME, b"bob"), (Type.NAS_IDENTIFIER, b"copier-1"))
STALE_MAC = (Type.MESSAGE_AUTHENTICATOR, b"0123456789abcdef")


def flipped(datagram: bytes, at: int) -> bytes:
    return datagram[:at] + bytes((datagram[at] ^ 1,)) + datagram[at + 1 :]


@pytest.mark.parametrize("code", [Code.ACCESS_REQUEST, Code.STATUS_SERVER])
def test_a_request_is_signed_first_whatever_was_there(code: Code) -> None:
    datagram = sign_request(code, 9, AUTHENTICATOR, (*BOB, STALE_MAC, STALE_MAC), SECRET)
    packet = parse(datagram)
    assert [number for number, _ in packet.attributes] == [80, 1, 32]
    assert verify_message_authenticator(datagram, packet, SECRET) is True


def test_a_changed_octet_or_another_secret_is_not_authentic() -> None:
    datagram = sign_request(Code.ACCESS_REQUEST, 9, AUTHENTICATOR, BOB, SECRET)
    with pytest.raises(NotAuthentic):
        verify_message_authenticator(datagram, parse(datagram), OTHER)
    for at in (1, 4, 25, len(datagram) - 1):
        changed = flipped(datagram, at)
        with pytest.raises(NotAuthentic):
            verify_message_authenticator(changed, parse(changed), SECRET)


def test_without_a_message_authenticator_there_is_nothing_to_verify() -> None:
    datagram = build(1, 9, AUTHENTICATOR, BOB)
    assert verify_message_authenticator(datagram, parse(datagram), SECRET) is False


@pytest.mark.parametrize("attributes", [((80, b"short"),), ((80, b""),), ((80, bytes(17)),)])
def test_a_message_authenticator_of_a_wrong_length_is_not_authentic(attributes: Attributes) -> None:
    datagram = build(1, 9, AUTHENTICATOR, attributes)
    with pytest.raises(NotAuthentic):
        verify_message_authenticator(datagram, parse(datagram), SECRET)


def test_two_message_authenticators_are_not_authentic_even_if_one_is_right() -> None:
    signed = parse(sign_request(1, 9, AUTHENTICATOR, BOB, SECRET)).attributes
    datagram = build(1, 9, AUTHENTICATOR, (*signed, signed[0]))
    with pytest.raises(NotAuthentic):
        verify_message_authenticator(datagram, parse(datagram), SECRET)


def test_padding_is_not_part_of_what_is_signed() -> None:
    datagram = sign_request(1, 9, AUTHENTICATOR, BOB, SECRET) + b"padding"
    assert verify_message_authenticator(datagram, parse(datagram), SECRET) is True
    accounting = sign_accounting_request(9, BOB, SECRET) + b"padding"
    verify_accounting_request(accounting, parse(accounting), SECRET)


def test_an_accounting_request_is_authentic_under_its_secret_only() -> None:
    datagram = sign_accounting_request(3, BOB, SECRET)
    packet = parse(datagram)
    assert packet.attributes == BOB
    verify_accounting_request(datagram, packet, SECRET)
    with pytest.raises(NotAuthentic):
        verify_accounting_request(datagram, packet, OTHER)
    changed = flipped(datagram, 24)
    with pytest.raises(NotAuthentic):
        verify_accounting_request(changed, parse(changed), SECRET)


def test_a_message_authenticator_in_accounting_is_made_anew_in_its_place() -> None:
    datagram = sign_accounting_request(3, (BOB[0], STALE_MAC, BOB[1], STALE_MAC), SECRET)
    packet = parse(datagram)
    assert [number for number, _ in packet.attributes] == [1, 80, 32]
    verify_accounting_request(datagram, packet, SECRET)
    assert verify_message_authenticator(datagram, packet, SECRET) is True


@pytest.mark.parametrize("wanted", [True, False])
def test_an_answer_is_signed_for_its_request(wanted: bool) -> None:
    datagram = sign_response(2, 9, (*BOB, STALE_MAC), AUTHENTICATOR, SECRET, message_authenticator=wanted)
    packet = parse(datagram)
    assert [number for number, _ in packet.attributes] == ([80, 1, 32] if wanted else [1, 32])
    assert verify_response(datagram, packet, AUTHENTICATOR, SECRET) is wanted
    with pytest.raises(NotAuthentic):
        verify_response(datagram, packet, bytes(16), SECRET)
    with pytest.raises(NotAuthentic):
        verify_response(datagram, packet, AUTHENTICATOR, OTHER)


def test_a_right_response_authenticator_does_not_excuse_a_wrong_message_authenticator() -> None:
    body = build(2, 9, AUTHENTICATOR, (STALE_MAC, *BOB))
    forged = body[:4] + hashlib.md5(body + SECRET).digest() + body[20:]
    with pytest.raises(NotAuthentic):
        verify_response(forged, parse(forged), AUTHENTICATOR, SECRET)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 127, 128])
def test_a_password_comes_back(size: int) -> None:
    password = b"x" * size
    hidden = hide_password(password, AUTHENTICATOR, SECRET)
    assert len(hidden) == max(16, -(-size // 16) * 16)
    assert reveal_password(hidden, AUTHENTICATOR, SECRET) == password
    assert reveal_password(hidden, AUTHENTICATOR, OTHER) != password or not password


def test_passwords_of_impossible_lengths_are_malformed() -> None:
    with pytest.raises(Malformed):
        hide_password(bytes(129), AUTHENTICATOR, SECRET)
    for size in (0, 1, 15, 17, 144):
        with pytest.raises(Malformed):
            reveal_password(bytes(size), AUTHENTICATOR, SECRET)


def test_chap_of_an_impossible_length_is_malformed() -> None:
    with pytest.raises(Malformed):
        check_chap(b"x", bytes(16), AUTHENTICATOR)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 239])
def test_a_salted_value_comes_back(size: int) -> None:
    hidden = hide_salted(b"k" * size, SALT, AUTHENTICATOR, SECRET)
    assert hidden[:2] == SALT
    assert len(hidden) % 16 == 2
    assert reveal_salted(hidden, AUTHENTICATOR, SECRET) == b"k" * size


def test_salted_values_of_impossible_lengths_are_malformed() -> None:
    for size in (0, 2, 17, 19, 35):
        with pytest.raises(Malformed):
            reveal_salted(bytes(size), AUTHENTICATOR, SECRET)
    with pytest.raises(Malformed):
        hide_salted(bytes(240), SALT, AUTHENTICATOR, SECRET)
    with pytest.raises(Malformed):
        hide_salted(b"k", b"\x01\x01", AUTHENTICATOR, SECRET)


def test_a_request_goes_on_with_its_password_under_the_servers_secret() -> None:
    hidden = hide_password(b"arctangent", AUTHENTICATOR, SECRET)
    chap = (Type.CHAP_PASSWORD, bytes(17))
    packet = Packet(1, 9, AUTHENTICATOR, (BOB[0], (Type.USER_PASSWORD, hidden), chap))
    translated = translate_request(packet, SECRET, OTHER)
    assert translated[0] == BOB[0]
    assert translated[2] == chap
    assert reveal_password(translated[1][1], AUTHENTICATOR, OTHER) == b"arctangent"
    assert translate_request(packet, SECRET, SECRET) is packet.attributes


def test_a_request_whose_password_cannot_be_read_is_malformed() -> None:
    with pytest.raises(Malformed):
        translate_request(Packet(1, 9, AUTHENTICATOR, ((Type.USER_PASSWORD, b"short"),)), SECRET, OTHER)


def test_an_answer_goes_on_with_its_keys_under_the_devices_secret() -> None:
    tunnel = (Type.TUNNEL_PASSWORD, b"\x01" + hide_salted(b"tunnel", SALT, AUTHENTICATOR, SECRET))
    send = vendor_attribute(311, 16, hide_salted(b"s" * 32, b"\x80\x02", AUTHENTICATOR, SECRET))
    receive = vendor_attribute(311, 17, hide_salted(b"r" * 32, b"\x80\x03", AUTHENTICATOR, SECRET))
    legacy = vendor_attribute(311, 12, hide_password(b"l" * 32, AUTHENTICATOR, SECRET))
    policy = vendor_attribute(311, 7, bytes(4))
    attributes = (BOB[0], tunnel, send, policy, receive, legacy, BOB[1])
    translated = translate_response(attributes, AUTHENTICATOR, SECRET, OTHER)
    assert [translated[at] for at in (0, 3, 6)] == [BOB[0], policy, BOB[1]]
    assert translated[1][1][:3] == tunnel[1][:3]
    assert reveal_salted(translated[1][1][1:], AUTHENTICATOR, OTHER) == b"tunnel"
    assert reveal_salted(translated[2][1][6:], AUTHENTICATOR, OTHER) == b"s" * 32
    assert reveal_salted(translated[4][1][6:], AUTHENTICATOR, OTHER) == b"r" * 32
    assert reveal_password(translated[5][1][6:], AUTHENTICATOR, OTHER) == b"l" * 32
    assert translate_response(translated, AUTHENTICATOR, OTHER, SECRET) == attributes
    assert translate_response(attributes, AUTHENTICATOR, SECRET, SECRET) is attributes


@pytest.mark.parametrize(
    "attribute",
    [
        (Type.TUNNEL_PASSWORD, b""),
        (Type.TUNNEL_PASSWORD, b"\0\x80\x01short"),
        vendor_attribute(311, 16, bytes(17)),
        vendor_attribute(311, 12, bytes(17)),
        (Type.VENDOR_SPECIFIC, b"\0\0\x01\x37\x10\xff"),
    ],
)
def test_an_answer_with_keys_that_cannot_be_read_is_malformed(attribute: tuple[int, bytes]) -> None:
    with pytest.raises(Malformed):
        translate_response((attribute,), AUTHENTICATOR, SECRET, OTHER)


@pytest.mark.parametrize("server_secret", [b"device", b"server"])
def test_what_is_relayed_is_what_came_but_for_signature_and_hidden_values(server_secret: bytes) -> None:
    hidden = hide_password(b"pass", bytes(16), b"device")
    attributes = ((1, b"card"), (80, bytes(16)), (2, hidden), (33, b"theirs"), (200, b""))
    datagram = build(1, 7, bytes(16), attributes) + b"padding"
    body = relayed_request(datagram, parse(datagram), b"device", server_secret)
    expected = hide_password(b"pass", bytes(16), server_secret)
    assert body == encode(((1, b"card"), (2, expected), (33, b"theirs"), (200, b"")))


@pytest.mark.parametrize("device_secret", [b"server", b"device"])
def test_what_is_answered_is_what_came_but_for_signature_our_mark_and_hidden_keys(device_secret: bytes) -> None:
    key = hide_salted(b"key", b"\x80\x01", bytes(16), b"server")
    attributes = ((33, b"ours"), (69, b"\0" + key), (80, bytes(16)), (33, b"theirs"), (33, b"ours"))
    datagram = build(2, 7, bytes(16), attributes) + b"padding"
    body = relayed_response(datagram, parse(datagram), bytes(16), (b"server", device_secret), b"ours")
    expected = hide_salted(b"key", b"\x80\x01", bytes(16), device_secret)
    assert body == encode(((69, b"\0" + expected), (33, b"theirs")))
