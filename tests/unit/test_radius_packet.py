"""The frame: RFC 2865 sections 3, 5 and 5.26."""

from __future__ import annotations

import pytest

from protocols.errors import Malformed, ProtocolError, TooLarge
from protocols.radius.packet import (
    LARGEST_PACKET,
    Code,
    Packet,
    Type,
    build,
    parse,
    size_of,
    split_vendor,
    vendor_attribute,
)

AUTHENTICATOR = bytes(range(16))


def framed(attributes: bytes, *, length: int | None = None, code: int = 1) -> bytes:
    size = 20 + len(attributes) if length is None else length
    return bytes((code, 7)) + size.to_bytes(2, "big") + AUTHENTICATOR + attributes


def refusal(datagram: bytes) -> ProtocolError:
    with pytest.raises(ProtocolError) as error:
        parse(datagram)
    return error.value


def test_header_and_attributes_are_read_in_order() -> None:
    packet = parse(framed(b"\x01\x05bob\x19\x03a\x19\x03b"))
    assert packet == Packet(Code.ACCESS_REQUEST, 7, AUTHENTICATOR, ((1, b"bob"), (25, b"a"), (25, b"b")))
    assert packet.get(Type.USER_NAME) == b"bob"
    assert packet.get(Type.STATE) is None
    assert packet.get_all(Type.CLASS) == [b"a", b"b"]


def test_octets_beyond_length_are_padding() -> None:
    assert parse(framed(b"\x01\x05bob") + b"\xff\xff\xff").attributes == ((1, b"bob"),)


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "too-short"),
        (framed(b"")[:19], "too-short"),
        (framed(b"", length=19), "length-lies"),
        (framed(b"", length=21), "length-lies"),
        (framed(b"\x01"), "attribute-length"),
        (framed(b"\x01\x00"), "attribute-length"),
        (framed(b"\x01\x01"), "attribute-length"),
        (framed(b"\x01\x03"), "attribute-length"),
        (framed(b"\x01\x05bob\x02\x09x"), "attribute-length"),
        (framed(b"\x00\x02"), "attribute-zero"),
    ],
)
def test_a_frame_that_lies_is_refused(datagram: bytes, reason: str) -> None:
    error = refusal(datagram)
    assert isinstance(error, Malformed)
    assert error.reason == reason


@pytest.mark.parametrize("borrowed", [0, 1, 2, 3, 255])
def test_a_lone_octet_cannot_take_its_length_from_the_padding(borrowed: int) -> None:
    assert refusal(framed(b"\x01" + bytes((borrowed,)) + b"padding", length=21)).reason == "attribute-length"


def test_over_4096_octets_is_too_large_wherever_it_is_said() -> None:
    assert isinstance(refusal(bytes(LARGEST_PACKET + 1)), TooLarge)
    assert isinstance(refusal(framed(b"", length=LARGEST_PACKET + 1)), TooLarge)
    assert parse(framed(b"\x01\xff" + bytes(253)) + bytes(LARGEST_PACKET - 275)).get(1) == bytes(253)


@pytest.mark.parametrize("code", [0, 53, 255])
def test_unknown_codes_and_attributes_pass(code: int) -> None:
    assert parse(framed(b"\xf0\x04ab", code=code)) == Packet(code, 7, AUTHENTICATOR, ((240, b"ab"),))


def test_what_was_built_is_read_again() -> None:
    attributes = ((1, b""), (26, b"\0\0\0\x09\x01\x02"), (79, bytes(253)))
    datagram = build(Code.ACCESS_ACCEPT, 200, AUTHENTICATOR, attributes)
    assert parse(datagram) == Packet(2, 200, AUTHENTICATOR, attributes)
    assert len(datagram) == size_of(attributes)


def test_a_packet_of_exactly_4096_octets_can_be_built_and_no_larger() -> None:
    full = ((1, bytes(253)),) * 15 + ((1, bytes(249)),)
    assert len(build(1, 0, AUTHENTICATOR, full)) == LARGEST_PACKET
    with pytest.raises(TooLarge):
        build(1, 0, AUTHENTICATOR, (*full[:-1], (1, bytes(250))))
    with pytest.raises(TooLarge):
        build(1, 0, AUTHENTICATOR, ((1, bytes(254)),))


@pytest.mark.parametrize(
    ("code", "identifier", "authenticator", "number"),
    [(256, 0, AUTHENTICATOR, 1), (1, -1, AUTHENTICATOR, 1), (1, 0, bytes(15), 1), (1, 0, AUTHENTICATOR, 0)],
)
def test_what_no_packet_can_hold_is_refused(code: int, identifier: int, authenticator: bytes, number: int) -> None:
    with pytest.raises(Malformed):
        build(code, identifier, authenticator, ((number, b""),))


def test_a_vendors_attributes_are_collected_from_all_that_hold_them() -> None:
    both = b"\0\0\x7e\xd9" + b"\x01\x03a" + b"\x02\x03b"
    attributes = ((26, both), vendor_attribute(9, 1, b"other"), vendor_attribute(32473, 1, b""))
    packet = Packet(4, 0, AUTHENTICATOR, attributes)
    assert packet.vendor(32473) == [(1, b"a"), (2, b"b"), (1, b"")]
    assert packet.vendor(9) == [(1, b"other")]
    assert packet.vendor(311) == []


@pytest.mark.parametrize(
    "value", [b"", b"\0\0\x7e\xd9", b"\0\0\x7e\xd9\x01", b"\0\0\x7e\xd9\x01\x01", b"\0\0\x7e\xd9\x01\x04a"]
)
def test_a_badly_framed_vendor_attribute_is_malformed_for_its_vendor_only(value: bytes) -> None:
    with pytest.raises(Malformed):
        split_vendor(value)
    packet = Packet(4, 0, AUTHENTICATOR, ((26, value),))
    assert packet.vendor(9) == []
    if len(value) >= 4:
        with pytest.raises(Malformed):
            packet.vendor(32473)


def test_a_vendors_value_has_at_most_247_octets() -> None:
    assert len(vendor_attribute(9, 1, bytes(247))[1]) == 253
    with pytest.raises(TooLarge):
        vendor_attribute(9, 1, bytes(248))
