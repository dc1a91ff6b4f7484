"""Any bytes, and real packets with damage: only Malformed, NotAuthentic and TooLarge leave a decoder."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed, NotAuthentic, TooLarge
from protocols.radius import accounting, definition, dictionary, request, secrets
from protocols.radius.packet import Code, Packet, build, parse, size_of, split_vendor, vendor_attribute
from tests.vectors.radius_inputs import NAS_SECRET, RFC_SECRET, everything

SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECRET, OTHER = b"s3cret", b"another"
AUTHENTICATOR = bytes(range(16))
MAPPING = accounting.default_mapping()
SEEDS = everything() or [
    secrets.sign_request(Code.ACCESS_REQUEST, 1, AUTHENTICATOR, ((1, b"04A1B2C3"),), SECRET),
    secrets.sign_accounting_request(1, ((40, b"\0\0\0\2"), vendor_attribute(32473, 3, b"\0\0\0\1")), SECRET),
]
TYPES = ("string", "octets", "byte", "short", "integer", "signed", "integer64", "date", "ipaddr", "ipv6addr", "ifid")
DEFINITIONS = [dictionary.Definition(None, 1, kind) for kind in (*TYPES, "ipv6prefix", "ether")]

datagrams = st.one_of(st.binary(max_size=80), st.binary(min_size=4090, max_size=4100))
values = st.one_of(st.binary(max_size=40), st.binary(min_size=16, max_size=16), st.just(b"\0\0\x01\x37\x10\x24"))
attribute_lists = st.lists(st.tuples(st.integers(1, 255), values), max_size=12).map(tuple)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real packet with octets changed, cut out, put in, or with a Length that fits again."""
    datagram = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(datagram)))
        what = draw(st.integers(0, 2))
        if what == 0:
            datagram[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif what == 1:
            del datagram[at : at + draw(st.integers(1, 8))]
        else:
            datagram[at:at] = draw(st.binary(max_size=8))
    if draw(st.booleans()) and len(datagram) >= 4:
        datagram[2:4] = len(datagram).to_bytes(2, "big")
    return bytes(datagram)


def only_ours(function: Callable[[], Any]) -> Any:
    """The result, or None for one of the three errors; any other exception fails the test."""
    try:
        return function()
    except (Malformed, NotAuthentic, TooLarge) as error:
        reason = error.reason
    assert re.fullmatch("[a-z0-9-]+", reason)
    return None


def all_that_reads(datagram: bytes, secret: bytes) -> None:
    only_ours(lambda: definition.read(definition.PACKET, datagram))
    packet = only_ours(lambda: parse(datagram))
    if packet is None:
        return
    only_ours(lambda: secrets.verify_message_authenticator(datagram, packet, secret))
    only_ours(lambda: secrets.verify_message_authenticator(datagram, packet, secret, AUTHENTICATOR))
    only_ours(lambda: secrets.verify_accounting_request(datagram, packet, secret))
    only_ours(lambda: secrets.verify_response(datagram, packet, AUTHENTICATOR, secret))
    all_that_takes_packets(packet, secret)


def all_that_takes_packets(packet: Packet, secret: bytes) -> None:
    only_ours(lambda: request.read(packet, secret))
    only_ours(lambda: secrets.translate_request(packet, secret, OTHER))
    only_ours(lambda: secrets.translate_response(packet.attributes, AUTHENTICATOR, secret, OTHER))
    for vendor in (9, 311, 14823, 32473):
        only_ours(lambda vendor=vendor: packet.vendor(vendor))
    only_ours(lambda: secrets.sign_accounting_request(0, packet.attributes, secret))
    # These two take any well-framed packet, and what they send on fits into one again.
    accounting.read(packet, MAPPING)
    for held in (0, 9):
        sent = accounting.forwarded(packet, held=held, taken_at=1_700_000_000, record_id="0" * 36)
        assert size_of(sent) <= 4096
    assert all(len(digest) == 16 for digest in accounting.repeat_digests(packet))


@SETTINGS
@given(datagrams)
def test_any_bytes(datagram: bytes) -> None:
    all_that_reads(datagram, SECRET)


@SETTINGS
@given(damaged(), st.sampled_from([SECRET, RFC_SECRET, NAS_SECRET, b""]))
def test_real_packets_with_damage(datagram: bytes, secret: bytes) -> None:
    all_that_reads(datagram, secret)


@SETTINGS
@given(attribute_lists)
def test_any_attributes(attributes: tuple[tuple[int, bytes], ...]) -> None:
    all_that_takes_packets(Packet(4, 0, AUTHENTICATOR, attributes), SECRET)


@SETTINGS
@given(st.binary(max_size=300))
def test_any_value(value: bytes) -> None:
    only_ours(lambda: secrets.reveal_password(value, AUTHENTICATOR, SECRET))
    only_ours(lambda: secrets.reveal_salted(value, AUTHENTICATOR, SECRET))
    only_ours(lambda: secrets.check_chap(b"x", value, AUTHENTICATOR))
    only_ours(lambda: split_vendor(value))
    for each in DEFINITIONS:
        decoded = only_ours(lambda each=each: dictionary.decode(each, value))
        if decoded is not None:
            only_ours(lambda each=each, decoded=decoded: dictionary.encode(each, decoded))


words = st.sampled_from(["ATTRIBUTE", "VALUE", "VENDOR", "BEGIN-VENDOR", "A", "1", "0x1", "1.1", "integer", "\n"])


@SETTINGS
@given(st.one_of(st.text(max_size=200), st.lists(words).map(" ".join)))
def test_any_dictionary_text(text: str) -> None:
    only_ours(lambda: dictionary.parse_dictionary(text))


@SETTINGS
@given(st.integers(0, 255), st.integers(0, 255), st.binary(min_size=16, max_size=16), attribute_lists)
def test_what_was_built_is_read_again(
    code: int, identifier: int, authenticator: bytes, attributes: tuple[tuple[int, bytes], ...]
) -> None:
    assert parse(build(code, identifier, authenticator, attributes)) == Packet(
        code, identifier, authenticator, attributes
    )


@SETTINGS
@given(st.integers(0, 255), attribute_lists, st.binary(max_size=40), st.booleans())
def test_what_was_signed_is_authentic(
    identifier: int, attributes: tuple[tuple[int, bytes], ...], secret: bytes, wanted: bool
) -> None:
    signed = secrets.sign_request(Code.ACCESS_REQUEST, identifier, AUTHENTICATOR, attributes, secret)
    assert secrets.verify_message_authenticator(signed, parse(signed), secret) is True
    counted = secrets.sign_accounting_request(identifier, attributes, secret)
    secrets.verify_accounting_request(counted, parse(counted), secret)
    had_one = any(number == 80 for number, _ in attributes)
    assert secrets.verify_message_authenticator(counted, parse(counted), secret) is had_one
    answer = secrets.sign_response(2, identifier, attributes, AUTHENTICATOR, secret, message_authenticator=wanted)
    assert secrets.verify_response(answer, parse(answer), AUTHENTICATOR, secret) is wanted


@SETTINGS
@given(st.binary(max_size=128), st.binary(min_size=16, max_size=16), st.binary(max_size=20))
def test_what_was_hidden_is_revealed(password: bytes, authenticator: bytes, secret: bytes) -> None:
    hidden = secrets.hide_password(password, authenticator, secret)
    assert secrets.reveal_password(hidden, authenticator, secret) == password.rstrip(b"\0")
    salted = secrets.hide_salted(password, b"\x91\x02", authenticator, secret)
    assert secrets.reveal_salted(salted, authenticator, secret) == password


@SETTINGS
@given(damaged(), st.integers(0, 2**32 - 1))
def test_a_retransmission_with_a_larger_delay_is_the_same_record(datagram: bytes, delay: int) -> None:
    packet = only_ours(lambda: parse(datagram))
    if packet is not None:
        rest = tuple(pair for pair in packet.attributes if pair[0] != 41)
        again = Packet(packet.code, 99, bytes(16), ((41, delay.to_bytes(4, "big")), *rest))
        assert accounting.repeat_digests(again)[0] == accounting.repeat_digests(packet)[0]
