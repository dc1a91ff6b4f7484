"""The packets printed in RFC 2865 section 7 and RFC 5997 section 6."""

from __future__ import annotations

import pytest

from protocols.errors import NotAuthentic
from protocols.radius.packet import Code, Type, build, parse
from protocols.radius.secrets import (
    check_chap,
    hide_password,
    reveal_password,
    sign_request,
    sign_response,
    verify_message_authenticator,
    verify_response,
)
from tests.vectors.radius_inputs import RFC_SECRET, rfc_rows


def exchanges() -> list[tuple[bytes, bytes]]:
    packets = [bytes.fromhex(row[-1]) for row in rfc_rows("rfc2865_section7.tsv")]
    return list(zip(packets[::2], packets[1::2], strict=True))


def test_every_answer_of_rfc_2865_section_7_is_authentic_and_is_signed_the_same_by_us() -> None:
    for request, answer in exchanges():
        asked, answered = parse(request), parse(answer)
        assert verify_response(answer, answered, asked.authenticator, RFC_SECRET) is False
        signed = sign_response(
            answered.code,
            answered.identifier,
            answered.attributes,
            asked.authenticator,
            RFC_SECRET,
            message_authenticator=False,
        )
        assert signed == answer
        with pytest.raises(NotAuthentic):
            verify_response(answer, answered, asked.authenticator, b"another")


def test_every_password_of_rfc_2865_section_7_is_read_and_hidden_the_same() -> None:
    checked = 0
    for row in rfc_rows("rfc2865_section7.tsv"):
        packet = parse(bytes.fromhex(row[-1]))
        hidden = packet.get(Type.USER_PASSWORD)
        if hidden is not None:
            assert reveal_password(hidden, packet.authenticator, RFC_SECRET) == row[1].encode()
            assert hide_password(row[1].encode(), packet.authenticator, RFC_SECRET) == hidden
            checked += 1
        chap = packet.get(Type.CHAP_PASSWORD)
        if chap is not None:
            assert check_chap(row[1].encode(), chap, packet.authenticator)
            assert not check_chap(b"arctangenT", chap, packet.authenticator)
            checked += 1
    assert checked == 4


def test_packets_are_built_again_octet_by_octet() -> None:
    for name in ("rfc2865_section7.tsv", "rfc5997_section6.tsv"):
        for row in rfc_rows(name):
            datagram = bytes.fromhex(row[-1])
            packet = parse(datagram)
            assert build(packet.code, packet.identifier, packet.authenticator, packet.attributes) == datagram


def test_status_server_of_rfc_5997_carries_a_right_message_authenticator() -> None:
    rows = rfc_rows("rfc5997_section6.tsv")
    for asked_row, answer_row in zip(rows[::2], rows[1::2], strict=True):
        request = bytes.fromhex(asked_row[-1])
        packet = parse(request)
        assert packet.code == Code.STATUS_SERVER
        assert verify_message_authenticator(request, packet, RFC_SECRET) is True
        answer = bytes.fromhex(answer_row[-1])
        if answer_row[0].startswith("6.2"):
            # Printed with 02, but signed with 05.
            answer = b"\x05" + answer[1:]
        verify_response(answer, parse(answer), packet.authenticator, RFC_SECRET)


def test_our_status_server_is_the_one_that_rfc_5997_prints() -> None:
    # Section 6.1 and 6.2 hold nothing but a Message-Authenticator, so it is first there too.
    for row in (rfc_rows("rfc5997_section6.tsv")[0], rfc_rows("rfc5997_section6.tsv")[2]):
        printed = bytes.fromhex(row[-1])
        packet = parse(printed)
        assert sign_request(packet.code, packet.identifier, packet.authenticator, (), RFC_SECRET) == printed
